"""`vla-settings`: which forward pass a checkpoint was trained with, found on recorded episodes."""
