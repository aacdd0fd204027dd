"""What depth does to training and test error: plain nets against residual ones, in numbers.

He et al. 2015, section 4.1: a deeper plain net has a higher *training* error, so the cause is no
overfitting. All runs are compared after as many steps as the shortest of them has.

Not for: the curves themselves (`training_curves`).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from resdet.report.classifiers.training_curves import LAST_SHARE, TrainingCurves

HEAD = ("net", "runs", "training error", "test error")


@dataclass(frozen=True)
class Spread:
    """Values of several runs in percent, at least one."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        return math.fsum(self.values) / len(self.values)

    @property
    def deviation(self) -> float | None:
        """Sample standard deviation; None of a single run."""
        if len(self.values) < 2:
            return None
        squares = math.fsum((v - self.mean) ** 2 for v in self.values)
        return math.sqrt(squares / (len(self.values) - 1))

    def words(self) -> str:
        """ "6.61 ± 0.16" of several runs, "6.43" of one."""
        spread = "" if self.deviation is None else f" ± {self.deviation:.2f}"
        return f"{self.mean:.2f}{spread}"

    def to_json(self) -> dict[str, Any]:
        """Fractions in [0, 1]."""
        return {
            "mean": self.mean / 100,
            "standard_deviation": None if self.deviation is None else self.deviation / 100,
            "values": [v / 100 for v in self.values],
        }


@dataclass(frozen=True)
class DepthRow:
    """All runs of one net.

    Attributes:
        net: in words. family, depth, make: as in `TrainingCurves`.
        train, test: None where no run has one.
    """

    net: str
    family: str
    depth: int | None
    make: str
    is_plain: bool
    runs: int
    train: Spread | None
    test: Spread | None

    def cells(self) -> tuple[str, ...]:
        """A row of the table, in percent."""
        words = [s.words() if s else "-" for s in (self.train, self.test)]
        return (self.net, str(self.runs), *words)

    def to_json(self) -> dict[str, Any]:
        return {
            "net": self.net,
            "family": self.family,
            "depth": self.depth,
            "plain": self.is_plain,
            "runs": self.runs,
            "train_top1_error": self.train.to_json() if self.train else None,
            "test_top1_error": self.test.to_json() if self.test else None,
        }


@dataclass(frozen=True)
class DepthStep:
    """Two rows: of one family, the shallower first; or of one depth, plain first.

    Attributes:
        train, test: second minus first, in points of percent; None where one is missing.
    """

    first: DepthRow
    second: DepthRow
    train: float | None
    test: float | None

    @property
    def is_degradation(self) -> bool:
        """A deeper net of the same family has a higher training error."""
        same_family = self.first.family == self.second.family
        return same_family and self.train is not None and self.train > 0

    def sentence(self) -> str:
        """With what it means; where either has one run, that it may be chance."""
        parts = [
            f"{name} error {value:+.2f} points"
            for name, value in (("training", self.train), ("test", self.test))
            if value is not None
        ]
        words = f"{self.second.net} against {self.first.net}: {', '.join(parts) or 'no number'}"
        if self.first.family == self.second.family and self.train is not None:
            words += " (deeper and worse in training: degradation)" if self.is_degradation else (
                " (deeper and no worse in training)"
            )  # fmt: skip
        return f"{words}."

    def to_json(self) -> dict[str, Any]:
        return {
            "first": self.first.net,
            "second": self.second.net,
            "train_difference": None if self.train is None else self.train / 100,
            "test_difference": None if self.test is None else self.test / 100,
            "degradation": self.is_degradation if self.first.family == self.second.family else None,
        }


@dataclass(frozen=True)
class Degradation:
    """Errors per depth, and what follows.

    Attributes:
        step: all errors are after so many steps.
        rows: by family, then depth.
        by_depth: neighbours in depth of one family. by_family: plain and residual of one depth.
        cautions: what makes the comparison unfair or uncertain.
    """

    step: int
    rows: tuple[DepthRow, ...]
    by_depth: tuple[DepthStep, ...]
    by_family: tuple[DepthStep, ...]
    cautions: tuple[str, ...]

    @property
    def caption(self) -> str:
        return (
            f"After {self.step:,} steps, in percent. Training error: mean over the last "
            f"{100 * LAST_SHARE:.0f} % of the steps, with augmentation; test error: the last one "
            "measured. ± is the standard deviation of several runs."
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "train_error_over_last": LAST_SHARE,
            "nets": [row.to_json() for row in self.rows],
            "by_depth": [step.to_json() for step in self.by_depth],
            "plain_against_residual": [step.to_json() for step in self.by_family],
            "cautions": list(self.cautions),
        }


def degradation_of(runs: Sequence[TrainingCurves]) -> Degradation:
    """Of at least one run."""
    step = min(run.steps for run in runs)
    groups: dict[tuple[str, str, str], list[TrainingCurves]] = {}
    for run in runs:
        groups.setdefault((run.family, run.make, run.net), []).append(run)
    rows = [_row(group, step) for group in groups.values()]
    rows.sort(key=lambda row: (row.family, row.make, row.depth or 0))
    by_depth = [
        _step(a, b)
        for a, b in itertools.pairwise(rows)
        if (a.family, a.make) == (b.family, b.make) and a.depth is not None
    ]
    by_family = [
        _step(plain, residual)
        for plain in rows
        for residual in rows
        if plain.is_plain and plain.depth is not None
        and (residual.family, residual.depth)
        == (plain.family.removesuffix("plain") + "resnet", plain.depth)
    ]  # fmt: skip
    return Degradation(
        step, tuple(rows), tuple(by_depth), tuple(by_family), tuple(_cautions(runs, rows, step))
    )


def _row(group: Sequence[TrainingCurves], step: int) -> DepthRow:
    first = group[0]
    train = [run.train.mean_before(step) for run in group]
    test = [run.test.upto(step) for run in group]
    return DepthRow(
        first.net_words,
        first.family,
        first.depth,
        first.make,
        first.is_plain,
        len(group),
        _spread(train),
        _spread(test),
    )


def _spread(values: Sequence[float | None]) -> Spread | None:
    there = tuple(v for v in values if v is not None)
    return Spread(there) if there else None


def _step(first: DepthRow, second: DepthRow) -> DepthStep:
    def gap(a: Spread | None, b: Spread | None) -> float | None:
        return b.mean - a.mean if a and b else None

    return DepthStep(first, second, gap(first.train, second.train), gap(first.test, second.test))


# What may differ between runs whose depths are compared.
_FREE = ("MODEL.NET.", "SEED", "OUTPUT_DIR", "SOLVER.CHECKPOINT_PERIOD", "ENGINE.", "VERSION")


def _cautions(runs: Sequence[TrainingCurves], rows: Sequence[DepthRow], step: int) -> list[str]:
    found = []
    longer = [run for run in runs if run.steps > step]
    if longer:
        found.append(
            f"The runs have {step:,} to {max(r.steps for r in runs):,} steps; all errors are after "
            f"{step:,}."
        )
    unfinished = [run.title for run in runs if run.state != "finished"]
    if unfinished:
        found.append(f"Not finished: {', '.join(unfinished)}.")
    if len({run.test_set for run in runs}) > 1:
        sets = ", ".join(sorted({run.test_set or "none" for run in runs}))
        found.append(f"Test errors are of different sets: {sets}.")
    keys = sorted({key for run in runs for key in run.config if not key.startswith(_FREE)})
    differing = [k for k in keys if len({str(run.config.get(k)) for run in runs}) > 1]
    if differing:
        more = f" and {len(differing) - 5} more" if len(differing) > 5 else ""
        found.append(
            f"The runs differ in more than net and seed: {', '.join(differing[:5])}{more}."
        )
    if any(row.runs == 1 for row in rows) and len(rows) > 1:
        found.append("A net with one run has no known spread: a small difference may be chance.")
    return found
