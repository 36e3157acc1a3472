"""The proof of stops: a driving policy broken in every way, what moves after that counted."""
