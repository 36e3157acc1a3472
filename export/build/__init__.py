"""`vla-build`: from a bundle to a checked plan. Needs no torch and no onnx: robots run this."""
