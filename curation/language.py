"""Which natural language a prompt is in, and which programming language an answer's code is in."""


def prose_language(text: str) -> str | None:
    """Return the ISO 639-1 code of the prose in `text`, or None when that is not sure."""
    return None


def code_language(answer: str) -> str | None:
    """Return the name of the programming language of an answer's code, or None when not sure."""
    return None
