"""From a checkpoint to a bundle that was compared, and from a bundle to plans."""
