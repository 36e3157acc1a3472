"""What every command shares: where it starts and ends, where its messages go, how they look."""
