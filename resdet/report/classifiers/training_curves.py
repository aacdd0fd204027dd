"""Training and test error of classification runs against steps, as their folders have them.

    metrics.json          train_top1_error: median over the last 20 steps of their batches' errors,
                          with augmentation; <set>/top1_error: of a whole test set
    classification.json   the final test error, with the final statistics of norms
    config.yaml           net, length, batch, steps at which the rate drops
    run.json              "rate_decisions": drops and warm-ups that the error decided

A run that trains or was interrupted has what is written so far.

Not for: drawing (`curve_picture`), or what follows from the errors (`degradation`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from resdet.errors import RunError
from resdet.report.runs import net_title, read_config
from resdet.run import layout
from resdet.run.folder import Run

TRAIN_ERROR, TEST_ERROR = "train_top1_error", "top1_error"
# The final training error is the mean over this share of the steps before.
LAST_SHARE = 0.05
# Points of a drawn training curve: each is the mean of equally many rows.
MOST_POINTS = 300


@dataclass(frozen=True)
class ErrorCurve:
    """Values in percent after `steps` steps done, ascending."""

    steps: tuple[int, ...] = ()
    errors: tuple[float, ...] = ()

    def upto(self, step: int) -> float | None:
        """The last value up to this step."""
        return next(
            (e for s, e in zip(self.steps[::-1], self.errors[::-1], strict=True) if s <= step), None
        )

    def mean_before(self, step: int, share: float = LAST_SHARE) -> float | None:
        """The mean over the last `share` of the steps up to this one; at least one value."""
        inside = [e for s, e in zip(self.steps, self.errors, strict=True) if s <= step]
        if not inside:
            return None
        late = [
            e
            for s, e in zip(self.steps, self.errors, strict=True)
            if step * (1 - share) < s <= step
        ]
        late = late or inside[-1:]
        return math.fsum(late) / len(late)

    def thinned(self, most: int = MOST_POINTS) -> tuple[ErrorCurve, int]:
        """At most so many points, each the mean of equally many; and that number."""
        each = max(1, math.ceil(len(self.steps) / most))
        starts = range(0, len(self.steps), each)
        steps = tuple(self.steps[min(i + each, len(self.steps)) - 1] for i in starts)
        errors = [self.errors[i : i + each] for i in starts]
        return ErrorCurve(steps, tuple(math.fsum(part) / len(part) for part in errors)), each


@dataclass(frozen=True)
class RateDrop:
    """The rate changes after `step` steps; `why` is "schedule", "plateau" or "warm-up".

    Attributes:
        error, lowest: in percent, of a decision by the error.
    """

    step: int
    why: str
    error: float | None = None
    lowest: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Errors in [0, 1]."""
        error, lowest = (None if v is None else v / 100 for v in (self.error, self.lowest))
        return {"step": self.step, "why": self.why, "error": error, "lowest": lowest}


@dataclass(frozen=True)
class TrainingCurves:
    """One run.

    Attributes:
        title: how it is called; another one for each run.
        net: "cifar_plain20". family: "cifar_plain". depth: 20; None of a net of others.
        make: what else of the net decides: width, shortcut and so on, as text.
        seed: None where it is not known.
        state: of run.json.
        steps: done, as far as metrics.json has them. max_steps: of the whole training.
        train, test: the curves. test_set: of `test`, "" where nothing was measured.
        is_final: the last point of `test` is the finished run's own score.
        drops: of the rate, up to `steps`.
    """

    path: Path
    title: str
    net: str
    family: str
    depth: int | None
    make: str
    seed: int | None
    state: str
    steps: int
    max_steps: int | None
    train: ErrorCurve
    test: ErrorCurve
    test_set: str
    is_final: bool
    drops: tuple[RateDrop, ...]
    config: dict[str, Any] = field(default_factory=dict)

    @property
    def net_words(self) -> str:
        return net_title(self.net, _number(self.config.get("MODEL.NET.WIDTH")) or 1.0)

    @property
    def is_plain(self) -> bool:
        return self.family.endswith("plain")

    def to_json(self) -> dict[str, Any]:
        """All numbers of the picture, errors in [0, 1]."""
        drawn, rows = self.train.thinned()
        return {
            "title": self.title,
            "path": str(self.path),
            "net": self.net,
            "depth": self.depth,
            "seed": self.seed,
            "state": self.state,
            "steps": self.steps,
            "max_steps": self.max_steps,
            "train": {
                "steps": list(drawn.steps),
                "top1_error": [e / 100 for e in drawn.errors],
                "rows_per_point": rows,
            },
            "test": {
                "data_set": self.test_set or None,
                "steps": list(self.test.steps),
                "top1_error": [e / 100 for e in self.test.errors],
                "last_is_final": self.is_final,
            },
            "rate_drops": [drop.to_json() for drop in self.drops],
        }


def read_curves(paths: Sequence[Path], data_set: str | None = None) -> list[TrainingCurves]:
    """The curves of these run folders, titled so that no two are alike.

    Args:
        data_set: whose test error; by default the first of PRETRAIN.VAL and PRETRAIN.TEST that was
            measured.

    Raises:
        RunError: one is no run of a classifier's training, has no curve yet, or is given twice;
            or has no test error on `data_set`.
    """
    resolved = [path.resolve() for path in paths]
    for i, path in enumerate(resolved):
        if path in resolved[:i]:
            raise RunError(f"{paths[i]} is given twice. Name each run folder once.")
    runs = [_read(path, data_set) for path in paths]
    return _titled(runs)


def _read(path: Path, data_set: str | None) -> TrainingCurves:
    run = Run.open(path)
    if run.kind != "classification":
        raise RunError(
            f"{path} is a {run.kind} run. analyze curves takes runs of pretrain_cls; for "
            "detectors: resdet compare."
        )
    if "scored_file" in run.info:
        raise RunError(f"{path} holds the scores of another's file: nothing was trained there.")
    config = read_config(run)
    rows = run.metrics()
    train = _curve(rows, TRAIN_ERROR)
    test_set, test = _test_curve(run, rows, config, data_set)
    if not train.steps and not test.steps:
        raise RunError(
            f"{path} has no error in {layout.METRICS} yet: a line is written every 20 steps. Try "
            "again when it has trained so long."
        )
    test, is_final = _with_final(run, test, test_set, config)
    net = str(config.get("MODEL.NET.NAME") or "unnamed net")
    family = net.rstrip("0123456789")
    depth = net[len(family) :]
    steps = max([*train.steps, *test.steps])
    make = {k: str(v) for k, v in config.items()
            if k.startswith("MODEL.NET.") and k != "MODEL.NET.NAME"}  # fmt: skip
    return TrainingCurves(
        path=path,
        title=path.resolve().name,
        net=net,
        family=family,
        depth=int(depth) if depth else None,
        make=str(sorted(make.items())),
        seed=run.info.get("seed"),
        state=run.state,
        steps=steps,
        max_steps=_whole(config.get("SOLVER.MAX_ITER")),
        train=train,
        test=test,
        test_set=test_set,
        is_final=is_final,
        drops=_drops(run, config, steps),
        config=config,
    )


def _curve(rows: Sequence[dict[str, Any]], key: str) -> ErrorCurve:
    """Of each step the value that was written last; values that are not finite are left out."""
    values = {row["iteration"] + 1: float(row[key]) for row in rows if key in row}
    pairs = [(s, e) for s, e in sorted(values.items()) if math.isfinite(e)]
    return ErrorCurve(tuple(s for s, _ in pairs), tuple(e for _, e in pairs))


def _test_curve(
    run: Run, rows: Sequence[dict[str, Any]], config: dict[str, Any], data_set: str | None
) -> tuple[str, ErrorCurve]:
    measured = {key.removesuffix(f"/{TEST_ERROR}") for row in rows for key in row
                if key.endswith(f"/{TEST_ERROR}")}  # fmt: skip
    measured |= set(run.read(layout.CLASSIFICATION, {}) or {})
    if data_set is not None:
        if data_set not in measured:
            raise RunError(
                f"{run.path} has no test error on {data_set}. It has "
                f"{', '.join(sorted(measured)) or 'none'}."
            )
        return data_set, _curve(rows, f"{data_set}/{TEST_ERROR}")
    stated = [config.get(key) for key in ("PRETRAIN.VAL", "PRETRAIN.TEST")]
    # A part of a set is called "cifar10_test (200 of 1000 images)".
    named = sorted(measured, key=lambda name: (name not in stated, name))
    name = next(iter(named), "")
    return name, _curve(rows, f"{name}/{TEST_ERROR}")


def _with_final(
    run: Run, test: ErrorCurve, name: str, config: dict[str, Any]
) -> tuple[ErrorCurve, bool]:
    """With the finished run's own score as the last point."""
    final = (run.read(layout.CLASSIFICATION, {}) or {}).get(name)
    # A rule may have ended it before.
    steps = _whole(run.info.get("steps") or config.get("SOLVER.MAX_ITER"))
    if run.state != "finished" or not final or steps is None:
        return test, False
    pairs = [(s, e) for s, e in zip(test.steps, test.errors, strict=True) if s < steps]
    pairs.append((steps, float(final[TEST_ERROR])))
    return ErrorCurve(tuple(s for s, _ in pairs), tuple(e for _, e in pairs)), True


def _drops(run: Run, config: dict[str, Any], steps: int) -> tuple[RateDrop, ...]:
    """Those of the schedule, of steps alone, and those that the error decided."""
    drops = []
    scheduler = str(config.get("SOLVER.LR_SCHEDULER_NAME", "WarmupMultiStepLR"))
    stated = config.get("SOLVER.STEPS") or ()
    if "Step" in scheduler and isinstance(stated, list | tuple):
        drops += [RateDrop(step, "schedule") for step in map(_whole, stated) if step is not None]
    decisions = run.info.get("rate_decisions")
    for decision in decisions if isinstance(decisions, list) else []:
        step = _whole(decision.get("step")) if isinstance(decision, dict) else None
        if step is not None:
            drops.append(
                RateDrop(
                    step,
                    str(decision.get("why", "plateau")),
                    _number(decision.get("error")),
                    _number(decision.get("lowest")),
                )
            )
    return tuple(sorted((d for d in drops if d.step <= steps), key=lambda d: d.step))


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _number(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and math.isfinite(value) else None


def _titled(runs: list[TrainingCurves]) -> list[TrainingCurves]:
    """The net; then its seed, its folder and a number, as far as is needed to tell them apart."""
    titles = [run.net_words for run in runs]
    more = (
        [f", seed {run.seed}" for run in runs],
        [f", {run.path.resolve().name}" for run in runs],
        [f" ({i})" for i in range(1, len(runs) + 1)],
    )
    for texts in more:
        titles = [
            title + text if titles.count(title) > 1 else title
            for title, text in zip(titles, texts, strict=True)
        ]
    return [replace(run, title=title) for run, title in zip(runs, titles, strict=True)]
