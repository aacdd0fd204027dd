"""Evaluators against their peers: the time they take, the numbers they give.

coco, voc: a test-sized problem each, timed; scenes: what both problems are made of. peer_problems:
the twelve numbers on thousands of odd problems. coverage: how often intervals hold the truth.

Not for: sets of real size on disk (`benchmarks.scale`).
"""
