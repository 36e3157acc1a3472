"""A bundle as one file, whole or only what another bundle lacks. Needs no torch and no onnx: robots run this."""
