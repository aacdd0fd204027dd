"""Analysis of a number: its rules, its errors, and its random variation.

explain            the same detections under every rule that people use; rule_outcomes
zero_ap            why AP is 0: causes found in the data
detection_errors   which kinds of errors cost how much; error_kinds: which detection is which
image_noise        would the difference remain with other test images?
seed_noise         would it remain with other seeds?
"""
