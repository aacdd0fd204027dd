"""Values of several runs: whether they differ, and in words which run has which.

Not for: which config keys differ (`config_differences`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from resdet.evaluation.published.departures import value_text
from resdet.printable import listed
from resdet.report.runs import Column


def differ(values: Sequence[Any]) -> bool:
    return any(value != values[0] for value in values[1:])


def per_run(columns: Sequence[Column], values: Sequence[Any]) -> str:
    """ "0.001 in A and C, 0.01 in B"."""
    runs: dict[str, list[str]] = {}
    for column, value in zip(columns, values, strict=True):
        text = value if isinstance(value, str) else value_text(value)
        runs.setdefault(text, []).append(column.letter)
    return ", ".join(f"{value} in {listed(letters)}" for value, letters in runs.items())
