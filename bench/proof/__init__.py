"""Proofs on a machine with a GPU: acceptance, soak, refusals, precision, parts, camera; and of stops, on any."""
