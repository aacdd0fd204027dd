"""`resdet evaluate`: result files of detectors, and classifiers, to numbers.

command         the parser, --profile
detections      `evaluate voc`, `coco`, `explain`
classifiers     `evaluate cls`: arguments, tables, JSON, pages
class_members   `evaluate cls`: from weight files and run folders to files of scores; needs torch
"""

from resdet.cli.evaluate.command import add_arguments, run

__all__ = ["add_arguments", "run"]
