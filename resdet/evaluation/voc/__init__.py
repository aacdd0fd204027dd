"""PASCAL VOC's AP.

voc_evaluation    AP of each class and their mean; what the command and notebooks call
voc_arrays        ground truth and detections as arrays
class_scores      one class: overlaps, right and wrong, curve, AP
detection_files   comp4_det_*.txt, read and written; annotation_files: a tree's XML for scoring
voc_result        numbers, curves, notes
voc_rules         what each detection counts as under one rule
"""
