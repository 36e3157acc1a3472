"""What pages of results share: their look, and how their templates are filled."""
