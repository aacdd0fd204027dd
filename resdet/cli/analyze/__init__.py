"""`resdet analyze`: what classifiers cost, do and become, in pictures and numbers.

command       the parser
counts        `analyze counts`: parameters and multiply-adds (table 1 of He et al. 2015)
responses     `analyze responses`: standard deviations of layers (figure 7)
curves        `analyze curves`: errors of trainings against steps (figures 4 and 6)
classifiers   `analyze classifiers`: several side by side on one page
net_sources   from names, weight files and run folders to nets; needs torch
"""

from resdet.cli.analyze.command import add_arguments, run

__all__ = ["add_arguments", "run"]
