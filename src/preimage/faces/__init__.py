"""Faces in a photo of any kind: where they are, cut out in FFHQ's alignment, and put back."""
