"""Proofs on a machine with a GPU: acceptance, soak, refusals, precision, parts; and of stops, on any."""
