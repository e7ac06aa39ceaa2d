"""Ground floor: settings, database, job queue, runs, decisions, artifacts, chat vocabulary, litellm door.

Every module here may be imported by every room; none imports a room.
"""
