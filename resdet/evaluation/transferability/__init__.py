"""Scores that rank backbones without training, and how far such a ranking can be trusted.

Not for: computing features, or the AP of a detector (`coco`, `voc`).
"""
