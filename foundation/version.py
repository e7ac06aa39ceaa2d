"""The version of the product: `pyproject.toml`, every record and `flywheel --version` take it."""

VERSION = "0.1.0"
