"""COCO's twelve numbers: by pycocotools, or by an engine that is checked against it.

coco_evaluation   the numbers, per-category AP, curves; what the command and notebooks call
fast_engine       pycocotools' values on arrays; fast_matching: its matching
matching          which detection takes which object, for analyses
coco_rules        what each detection counts as under one rule
"""
