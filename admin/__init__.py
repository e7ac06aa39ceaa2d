"""The face: server-rendered pages that read tables and write only through stage functions."""
