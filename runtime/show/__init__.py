"""What a drive does as the Rerun viewer shows it, in a process of its own that no loop waits for."""
