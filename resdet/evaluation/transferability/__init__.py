"""Scores that rank backbones without training, and how far such a ranking can be trusted.

Not for: features (`resdet.rank` computes them), or the AP of a detector (`coco`, `voc`).
"""
