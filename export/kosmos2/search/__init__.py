"""What of the family's settings may vary, and what each combination of them answers."""
