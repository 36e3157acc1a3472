"""Two reports side by side: what got worse, with statistics."""
