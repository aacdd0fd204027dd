"""resdet: which pretrained backbone transfers better to detection, by how much, how surely.

A net is trained as a classifier (`pretrain`), handed over untouched as a backbone (`detect`),
measured under one detector (`evaluation`), and two such measurements are compared (`report`).
"""

__version__ = "0.1.0"
