"""Detectors against stock Detectron2: inference, an image at a time; training, a step at a time.

detectors: a peer and ours with the same random weights.

Not for: GPUs (`benchmarks.gpu`).
"""
