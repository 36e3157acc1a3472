"""What is compared: PyTorch in each way that it can run the policy, and each engine of the bundle."""
