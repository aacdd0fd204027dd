"""ImageNet's localisation (LOC) by He et al. 2015, appendix C: a box for each predicted class.

per_class_rpn       the RPN whose scores and boxes are per class, and its losses
anchor_sampling     which anchors of an image train
warped_region_net   R-CNN: a classifier over warped regions that scores and moves them, per class
loc_images          crops that train, views that are tested, warped regions
loc_checkpoints     a step trained to its end, resumable
loc_testing         boxes of classes on an image
loc_passes          proposals of the training images, boxes of a test set, resumable
loc_results         result files, errors, the rows of table 13
localization_run    all steps one after the other, in a run folder

What the paper leaves open is decided in docs/imagenet.md.

Not for: the command (`resdet.cli.localization`), or the metric (`resdet.evaluation.ilsvrc`).
"""
