"""What the speed keys gain on NVIDIA GPUs: `python -m benchmarks --gpu` (docs/speed.md).

command: which parts, in which order, and where their results go. A part is a module of this folder:
parity first, then classification, detection_training, detection_inference, pooling, loading,
scaling. Each runs in a process of its own and goes on where a case of it fails (`part`). device:
what is measured on; turns_on_gpu: how.

Not for: CPUs (`python -m benchmarks`).
"""
