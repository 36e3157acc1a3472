"""Files and folders that appear whole or not at all, and reading those of others."""
