"""Scores of classifiers in files, numbers out: errors, ensembles, paired tests; without torch.

score_files        log-probabilities of every image and class, with the images' names
classifier_errors  top-1 and top-5 error with their standard error, per class, confusion
paired_test        do two classifiers differ on the same images? McNemar and an interval

Not for: running a net (`resdet.pretrain.protocols`).
"""
