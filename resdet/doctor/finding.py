"""One line of the doctor, and a safe import of a package for a check."""

from __future__ import annotations

import importlib
import importlib.metadata
import warnings
from dataclasses import dataclass

FINE, WARN, REFUSE = "fine", "warn", "refuse"
SETUP = "bash tools/setup.sh"


@dataclass(frozen=True)
class CheckResult:
    """One line: `fix` is what to type or do, empty where nothing is to do."""

    name: str
    level: str
    text: str
    fix: str = ""


def version_of(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def import_error(module: str) -> str | None:
    """Why `module` does not import, in one line; None if it does.

    Broken packages raise any error, so everything is caught.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            importlib.import_module(module)
    except Exception as error:
        reason = (str(error).strip().splitlines() or [""])[0]
        return f"{type(error).__name__}: {reason}"
    return None
