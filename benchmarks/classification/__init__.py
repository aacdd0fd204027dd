"""Training classifiers: whole programs, single steps, and what each key gains in them.

training: programs of torchvision, timm and ours, loading included; cifar: the small net of CIFAR;
precision: the step alone; trainer_overhead: our loop over a bare one. trainers: what they share.

Not for: reading images alone (`benchmarks.loading`), or GPUs (`benchmarks.gpu`).
"""
