"""`vla-replay`: what a policy does on recorded episodes, beside what was driven."""
