"""Faster forms of a detector, one key each: the same detections and gradients within rounding.

fast_detector     a trained detector for inference (ENGINE.FAST_INFERENCE)
fast_training     a detector that trains (ENGINE.FAST_TRAINING)
folding           batch norm folded into convolutions; replace: a module in another's place
winograd          3x3 convolutions by Winograd's F(4 x 4, 3 x 3)
proposals         the RPN with a shortened NMS
region_features   from the shared map to a vector per region; roi_align; box_head
"""
