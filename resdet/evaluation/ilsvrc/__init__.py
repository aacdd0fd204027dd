"""ILSVRC's files and metrics, by the devkits' rules.

guess_lines      what files with a line of guesses per image have in common
cls_files        classification (CLS): labels, and their errors
ilsvrc_files     detection (DET) and localisation (LOC): files
ilsvrc_metrics   DET's AP, LOC's errors
ilsvrc_synsets   the 1,000 classes by their ids
"""
