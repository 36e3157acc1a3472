"""Policies on Kosmos-2, pure or with CLIP: all that is known of this family, and nothing else."""
