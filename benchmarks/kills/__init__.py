"""Trainings that are killed and go on: how often what comes out equals one that nobody touched.

`python -m benchmarks.kills` starts the commands that users type, ends them in all the ways that
machines do, repeats one command with `--resume auto`, and compares to the bit.
"""

import os

# Before torch is imported; each trainer has one thread, so that runs can be equal to the bit.
os.environ["OMP_NUM_THREADS"] = "1"
