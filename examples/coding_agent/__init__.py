"""A coding agent that works on pull requests, and the CI that says what became of them."""
