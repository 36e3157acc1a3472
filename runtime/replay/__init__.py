"""What a policy does on recorded episodes, beside what was driven: steps, errors, differences."""
