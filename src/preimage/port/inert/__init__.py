"""Pickles as data: what they name, what stands for their calls, and a machine that calls nothing."""
