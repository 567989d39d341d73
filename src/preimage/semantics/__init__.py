"""Regions of a face: their labels, finding them in photos of any size, painting over them."""
