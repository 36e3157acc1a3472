"""ONNX graphs written from shapes, every cast stated; knows no family."""
