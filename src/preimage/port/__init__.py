"""Checkpoints of others -> networks of ours: what they hold is read, told apart by its names and brought over, never executed."""
