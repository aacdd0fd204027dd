"""`resdet train_loc`."""

from resdet.cli.arguments import train_loc as add_arguments
from resdet.cli.localization.command import run

__all__ = ["add_arguments", "run"]
