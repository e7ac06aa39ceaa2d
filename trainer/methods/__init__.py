"""One file per training method; each reads a recipe and leaves the trained files in a folder."""
