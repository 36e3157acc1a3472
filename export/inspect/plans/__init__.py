"""The plans of a bundle as `vla-inspect` shows them: their parts, and which of them bundles beside share."""
