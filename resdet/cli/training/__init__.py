"""Commands that train and score: detectors (`train_det`), classifiers (`pretrain_cls`).

training_command    what both share: the config, the run folder, the device, resume
"""
