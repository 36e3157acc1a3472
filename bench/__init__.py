"""How fast, how heavy and how right each engine of a bundle is, beside PyTorch on the same device."""
