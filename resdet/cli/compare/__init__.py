"""`resdet compare`: runs side by side, and the ladder of one run.

command    the parser; two or more runs, or results files of any tool
ladder     `--ladder RUN`: the rows of table 9 on one detector; needs torch
"""

from resdet.cli.compare.command import add_arguments, default_output, run

__all__ = ["add_arguments", "default_output", "run"]
