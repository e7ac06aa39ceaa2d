"""Ground floor: settings, database, jobs, decisions, artifacts, chat words, the door to litellm.

Every module here may be imported by every room; none imports a room.
"""
