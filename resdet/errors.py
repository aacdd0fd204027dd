"""The errors that users see: one tree, one exit code each (docs/commands.md, exit codes).

    ResdetError
    ├── UserError          2   the user can fix it before anything starts
    │   ├── ConfigError        a key, a value, a contradiction between config and card
    │   ├── DataError          a set that is missing or broken; an image, an annotation
    │   ├── WeightsError       a weight file that does not fit the net
    │   └── RunError           a run folder in use, taken, or without the requested file
    ├── CheckFailed        1   a check failed: a result outside its range, a file not clean
    ├── TrainingStopped    3   the training stopped itself, its state is saved
    └── Interrupted      130   the user stopped it, its state is saved (143 for SIGTERM)

A message states what is wrong (with both values), where, and what to do. `ValueError` and
`TypeError` stay what they are for callers from Python; they are bugs when a command shows one.

Not for: control flow inside a module.
"""

from __future__ import annotations

from collections.abc import Sequence


class ResdetError(Exception):
    """Base of all errors that end a command with a page instead of a traceback."""

    exit_code = 1


class UserError(ResdetError):
    exit_code = 2


class ConfigError(UserError):
    pass


class DataError(UserError):
    pass


class WeightsError(UserError):
    pass


class RunError(UserError):
    pass


class CheckFailed(ResdetError):
    exit_code = 1


class TrainingStopped(ResdetError):
    exit_code = 3


class Interrupted(ResdetError):
    exit_code = 130

    def __init__(self, message: str, exit_code: int = 130):
        super().__init__(message)
        self.exit_code = exit_code


def first_few(items: Sequence[object], limit: int = 20, indent: str = "  ") -> str:
    """Lines for a page of many faults: the first `limit`, then how many more there are."""
    lines = [f"{indent}{item}" for item in items[:limit]]
    if len(items) > limit:
        lines.append(f"{indent}… and {len(items) - limit} more")
    return "\n".join(lines)
