"""Plans on TensorRT 10.x, 11.x and TensorRT-RTX."""
