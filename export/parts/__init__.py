"""A graph in parts: ONNX files of their own, with keys by content. Needs no torch and no onnx: robots run this."""
