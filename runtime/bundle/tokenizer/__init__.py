"""A tokenizer from outside: only what turns text into ids is used, after its kinds and sizes were checked."""
