"""Bricks without opinions: equalised layers, modulated convolution, discriminators, feature networks."""
