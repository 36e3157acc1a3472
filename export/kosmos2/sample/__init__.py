"""The family's generated checkpoints: sizes, weights, tokenizer."""
