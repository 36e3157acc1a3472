"""`vla-bundle`: bundles as files, and the one that a robot runs. Needs no torch and no onnx."""
