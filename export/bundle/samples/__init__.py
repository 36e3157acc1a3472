"""Golden samples: frames that come with the package, of a folder or of recordings, and what PyTorch answers to them."""
