"""The version of vla-edge; `pyproject.toml` reads it from here."""

VERSION = "0.1.0"
