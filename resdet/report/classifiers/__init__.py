"""Classifiers beside each other: `resdet analyze`, from run folders and JSON, without torch.

count_picture      multiply-adds of stages drawn (table 1)
training_curves    errors against steps of runs, in any state (figures 4 and 6 of He et al. 2015)
degradation        what depth does to them, plain against residual, in numbers
curve_picture      curves drawn
response_picture   standard deviations of layers drawn (figure 7); response_file reads them
side_by_side       several classifiers on the same images; side_by_side_page shows them

Not for: detectors (`resdet.report.document`).
"""
