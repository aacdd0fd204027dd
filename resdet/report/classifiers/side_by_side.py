"""Several classifiers on the same images: errors, pairs, classes, counts, curves, settings.

Everything comes from files of scores and run folders; what is not there is None, with the reason
among the notes.

Not for: how it looks (`side_by_side_page`), or making scores (`resdet evaluate cls`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from resdet.errors import RunError
from resdet.evaluation.classification.classifier_errors import ErrorRate
from resdet.evaluation.classification.classifier_result import (
    ClassifierResult,
    ScoredClassifier,
    TestedPair,
)
from resdet.evaluation.classification.paired_test import PairedTest, holm, paired_test
from resdet.report.classifiers.degradation import Degradation, degradation_of
from resdet.report.classifiers.response_picture import NetResponses
from resdet.report.classifiers.training_curves import TrainingCurves, read_curves
from resdet.report.runs import flatten, read_config
from resdet.run import layout
from resdet.run.folder import Run

LEVEL = 0.05
# Facts of a file of scores that differ between any two files, or that have a place of their own.
_OWN = ("title", "file", "tensors", "data_hash", "classes", "words", "tag")
# Keys of a training that decide nothing that is compared.
_FREE = ("OUTPUT_DIR", "VERSION", "SOLVER.CHECKPOINT_PERIOD", "ENGINE.KEEP_CHECKPOINTS")


@dataclass(frozen=True)
class ClassRow:
    """Errors on the images of one class.

    Attributes:
        errors: of each classifier.
        against_first: the test of the first classifier against each other one, on these images.
        p_holm: of each of these, corrected for the number of classes.
    """

    name: str
    images: int
    errors: tuple[ErrorRate, ...]
    against_first: tuple[PairedTest, ...]
    p_holm: tuple[float, ...]

    @property
    def range(self) -> float:
        """Largest minus smallest error, in [0, 1]."""
        values = [error.value for error in self.errors]
        return max(values) - min(values)

    def to_json(self) -> dict[str, Any]:
        return {
            "class": self.name,
            "images": self.images,
            "top1_error": [error.value for error in self.errors],
            "range": self.range,
            "against_first": [
                {"difference": gap(t), "p_value": t.p_value, "p_value_holm": p}
                for t, p in zip(self.against_first, self.p_holm, strict=True)
            ],
        }


def gap(test: PairedTest) -> float:
    """Error rate of the second minus that of the first, in [-1, 1]."""
    return (test.second_only - test.first_only) / test.images


@dataclass(frozen=True)
class SettingRow:
    """A setting that is not the same for all; None where a classifier has no such setting."""

    name: str
    values: tuple[Any, ...]

    def to_json(self) -> dict[str, Any]:
        return {"setting": self.name, "values": [_plain(v) for v in self.values]}


def _plain(value: Any) -> Any:
    is_plain = value is None or isinstance(value, str | int)
    return value if is_plain or (isinstance(value, float) and math.isfinite(value)) else str(value)


@dataclass(frozen=True)
class SideBySide:
    """What the page shows.

    Attributes:
        result: errors and pairs; its members in the order given.
        counts: per classifier, `NetCounts.to_json` without its layers, or None.
        classes: in the order of the set, those with images.
        settings: that differ, facts of the nets and their input first, then of trainings.
        runs: the curves of those that are runs. degradation: of these, where there are two or more.
        responses: of those that were measured.
        notes: what is missing and why.
    """

    result: ClassifierResult
    counts: tuple[Mapping[str, Any] | None, ...]
    classes: tuple[ClassRow, ...]
    settings: tuple[SettingRow, ...]
    runs: tuple[TrainingCurves, ...] = ()
    degradation: Degradation | None = None
    responses: tuple[NetResponses, ...] = ()
    response_facts: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def singles(self) -> tuple[ScoredClassifier, ...]:
        return self.result.singles

    @property
    def ranked(self) -> list[ScoredClassifier]:
        """By top-1 error, the lowest first; equal ones as given."""
        return sorted(self.singles, key=lambda one: one.errors.top1.value if one.errors else 0.0)

    @property
    def headline(self) -> str:
        best, second = self.ranked[:2]
        assert best.errors and second.errors
        error = 100 * best.errors.top1.value
        return f"{best.title} has the lowest top-1 error, {error:.2f} %"

    @property
    def standfirst(self) -> str:
        """Which others the best differs from, by the corrected tests."""
        best, *others = self.ranked
        told = [o.title for o in others if self.pair(best.title, o.title).p_holm[0] < LEVEL]
        rest = [o.title for o in others if o.title not in told]
        scores = self.result.last.scores
        words = f"On {len(scores):,} images of {scores.data_set}. "
        if told:
            words += (
                f"It differs from {', '.join(told)} (McNemar's test, Holm's correction, p below "
                f"{LEVEL:g}). "
            )
        if rest:
            words += f"These images do not separate it from {', '.join(rest)}. "
        return words + "Noise of another training is not in these tests."

    def pair(self, first: str, second: str) -> TestedPair:
        """The test of these two titles, in either order."""
        return next(t for t in self.result.tests if {t.first, t.second} == {first, second})

    def to_json(self) -> dict[str, Any]:
        """All numbers; fractions in [0, 1], null where there is none."""
        result = self.result.to_json()
        return {
            "headline": self.headline,
            "data_set": result["data_set"],
            "data_hash": result["data_hash"],
            "images": result["images"],
            "classifiers": [
                {**one, "counts": None if counts is None else dict(counts)}
                for one, counts in zip(result["classifiers"], self.counts, strict=True)
            ],
            "ensemble": result["ensemble"],
            "paired_tests": result["paired_tests"],
            "per_class": [row.to_json() for row in self.classes],
            "settings_that_differ": [row.to_json() for row in self.settings],
            "curves": [run.to_json() for run in self.runs],
            "degradation": self.degradation.to_json() if self.degradation else None,
            "responses": [net.to_json() for net in self.responses],
            "response_definition": self.response_facts.get("definition"),
            "notes": list(self.notes),
        }


def gather(
    result: ClassifierResult,
    *,
    counts: Sequence[Mapping[str, Any] | None],
    folders: Sequence[Path | None] = (),
    responses: Mapping[str, Any] | None = None,
    notes: Sequence[str] = (),
) -> SideBySide:
    """All that is known of the classifiers of a result.

    Args:
        result: of two classifiers or more, on images whose classes are known.
        counts: one for each classifier.
        folders: the run of each, where it is known; else it is looked for beside the file that
            the scores name.
        responses: what analyze responses wrote, checked (`responses_in`).

    Raises:
        RunError: a run folder is damaged.
    """
    found_notes = list(notes)
    folders = folders or [None] * len(result.singles)
    folders = [folder or _run_of(one) for one, folder in zip(result.singles, folders, strict=True)]
    runs: list[TrainingCurves] = []
    for one, folder in zip(result.singles, folders, strict=True):
        if folder is None:
            found_notes.append(
                f"{one.title}: no run folder, so neither curve nor training settings."
            )
        elif not any(folder.resolve() == run.path.resolve() for run in runs):
            try:
                runs += read_curves([folder])
            except RunError as error:
                found_notes.append(f"{one.title}: no curve. {error}")
    runs = _with_titles_of(runs, result.singles, folders)
    nets = _matched(responses, result.singles, found_notes)
    return SideBySide(
        result,
        tuple(counts),
        tuple(_class_rows(result)),
        tuple(_settings(result.singles, folders)),
        tuple(runs),
        degradation_of(runs) if len(runs) > 1 else None,
        tuple(nets),
        dict(responses or {}),
        tuple(found_notes),
    )


def _run_of(one: ScoredClassifier) -> Path | None:
    """The run folder whose classifier gave the scores; None for a file of its own."""
    file = one.scores.net.get("file")
    folder = Path(str(file)).parent if file else None
    if folder is None or Path(str(file)).name != layout.CLASSIFIER:
        return None
    return folder if (folder / layout.RUN).is_file() else None


def _with_titles_of(
    runs: Sequence[TrainingCurves],
    singles: Sequence[ScoredClassifier],
    folders: Sequence[Path | None],
) -> list[TrainingCurves]:
    """Curves called as their classifiers are in the tables."""
    titles = {f.resolve(): one.title for one, f in zip(singles, folders, strict=True) if f}
    return [replace(run, title=titles[run.path.resolve()]) for run in runs]


def _class_rows(result: ClassifierResult) -> list[ClassRow]:
    all_errors = [one.errors for one in result.singles if one.errors is not None]
    labels, names = all_errors[0].labels, all_errors[0].classes
    rows = []
    for place, name in enumerate(names):
        chosen = labels == place
        if not chosen.any():
            continue
        ranks = [errors.rank[chosen] for errors in all_errors]
        rates = tuple(ErrorRate(int((rank >= 1).sum()), len(rank)) for rank in ranks)
        tests = tuple(paired_test(ranks[0], rank) for rank in ranks[1:])
        rows.append(ClassRow(name, int(chosen.sum()), rates, tests, ()))
    corrected = [
        holm([row.against_first[k].p_value for row in rows]) for k in range(len(all_errors) - 1)
    ]
    return [replace(row, p_holm=tuple(p[i] for p in corrected)) for i, row in enumerate(rows)]


def _settings(
    singles: Sequence[ScoredClassifier], folders: Sequence[Path | None]
) -> list[SettingRow]:
    facts = [_facts(one) for one in singles]
    rows = _differing(facts, all_have_it=False)
    configs = [read_config(Run.open(folder)) if folder else None for folder in folders]
    if sum(config is not None for config in configs) > 1:
        rows += _differing(configs, all_have_it=True)
    return rows


def _facts(one: ScoredClassifier) -> dict[str, Any]:
    """What a file of scores has of net, input, protocol and versions, as dotted names."""
    facts = {k: v for k, v in one.scores.net.items() if k not in ("name", "protocol")}
    protocol = {**(one.scores.net.get("protocol") or {}), **one.scores.protocol}
    leaves = flatten({**facts, "protocol": protocol})
    return {k: v for k, v in leaves if v != {} and k.rpartition(".")[2] not in _OWN}


def _differing(many: Sequence[Mapping[str, Any] | None], *, all_have_it: bool) -> list[SettingRow]:
    """Rows of names whose values are not alike.

    Args:
        all_have_it: None stands for a classifier that has no such record at all, and is passed
            over.
    """
    there = [facts for facts in many if facts is not None]
    names = sorted({name for facts in there for name in facts})
    rows = []
    for name in names:
        values = {repr(facts.get(name)) for facts in there}
        if len(values) > 1 and not (all_have_it and name.startswith(_FREE)):
            rows.append(SettingRow(name, tuple(None if f is None else f.get(name) for f in many)))
    return rows


def _matched(
    responses: Mapping[str, Any] | None, singles: Sequence[ScoredClassifier], notes: list[str]
) -> list[NetResponses]:
    """The responses of these classifiers, found by the SHA-256 of their tensors."""
    if responses is None:
        return []
    titles = {one.scores.net.get("tensors"): one.title for one in singles}
    found = []
    for net in responses["nets"]:
        title = titles.get(net.get("tensors"))
        if title is not None:
            facts = {
                k: net[k] for k in ("net", "net_options", "file", "tensors", "images") if k in net
            }
            found.append(NetResponses(title, tuple(net["layers"]), facts))
    order = [one.title for one in singles]
    found.sort(key=lambda net: order.index(net.title))
    missing = [one.title for one in singles if one.title not in {net.title for net in found}]
    if missing:
        notes.append(f"No responses of {', '.join(missing)} in the file that was given.")
    return found
