"""The tables of a report, apart from how they are laid out."""
