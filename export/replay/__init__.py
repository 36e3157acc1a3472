"""`vla-replay`: a policy on recorded episodes, beside what was driven, another bundle or PyTorch."""
