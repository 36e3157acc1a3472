"""What the backbones give for each frame: on which device, the next episodes read meanwhile, kept on disk."""
