"""Several files of scores to one result: each alone, all averaged, each pair against each other.

One file is in memory at a time, besides the sum: six of 50,000 images and 1,000 classes need
0.9 GB.

Not for: printing (`resdet.cli`), or pages (`resdet.report.render`).
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from resdet.evaluation.classification.classifier_errors import (
    GUESSES,
    ClassErrors,
    ClassifierErrors,
    ErrorRate,
    errors_in,
)
from resdet.evaluation.classification.paired_test import PairedTest, holm, paired_test
from resdet.evaluation.classification.score_files import ClassScores, ensemble, load_scores
from resdet.file_names import file_name


@dataclass(frozen=True)
class ScoredClassifier:
    """One classifier, or an ensemble, on a set.

    Attributes:
        title: how tables call it.
        scores: without its numbers where several are averaged, so that they need not be held.
        errors: None where the classes of the images are not known.
    """

    title: str
    scores: ClassScores
    errors: ClassifierErrors | None

    @property
    def protocol(self) -> str:
        """In words."""
        stated = self.scores.protocol
        return str(stated.get("words") or stated.get("kind") or "not stated")

    def cells(self) -> list[str]:
        """A row of the table."""
        if self.errors is None:
            return [self.title, "-", "-", self.protocol]
        return [self.title, *rates(self.errors, self.errors), self.protocol]

    def to_json(self) -> dict[str, Any]:
        empty = dict.fromkeys(
            ("top1_error", "top1_standard_error", "top5_error", "top5_standard_error")
        )
        return {
            "title": self.title,
            "net": self.scores.net.get("name"),
            "file": self.scores.net.get("file"),
            "protocol": dict(self.scores.protocol),
            **(self.errors.to_json() if self.errors else empty),
        }


@dataclass(frozen=True)
class TestedPair:
    """Two classifiers, first minus second.

    Attributes:
        p_holm: of top-1 and top-5, corrected for the number of pairs in the result.
    """

    __test__ = False  # no test case, whatever its name begins with

    first: str
    second: str
    top1: PairedTest
    top5: PairedTest
    p_holm: tuple[float, float]

    def cells(self) -> list[str]:
        """A row of the table, of top-1."""
        t = self.top1
        return [
            f"{self.first} - {self.second}",
            f"{100 * t.difference:+.2f}",
            f"{100 * t.low:+.2f} to {100 * t.high:+.2f}",
            f"{t.first_only:,}, {t.second_only:,}",
            f"{t.p_value:.2g}",
            f"{self.p_holm[0]:.2g}",
        ]

    def to_json(self) -> dict[str, Any]:
        return {
            "first": self.first,
            "second": self.second,
            "top1": {**self.top1.to_json(), "p_value_holm": self.p_holm[0]},
            "top5": {**self.top5.to_json(), "p_value_holm": self.p_holm[1]},
        }


@dataclass(frozen=True)
class ClassifierResult:
    """All that `resdet evaluate cls` states.

    Attributes:
        singles: each classifier.
        last: the one alone, or the ensemble, with its numbers.
        tests: of each pair.
        path: the file with the scores of `last`.
    """

    singles: tuple[ScoredClassifier, ...]
    last: ScoredClassifier
    tests: tuple[TestedPair, ...]
    path: Path

    @property
    def name(self) -> str:
        """A folder name, another one for each set of members."""
        scores = self.last.scores
        where = Path(scores.data_set.rstrip("/")).name or scores.data_set
        if len(self.singles) == 1:
            return file_name(f"{where}-{scores.protocol.get('tag') or self.last.protocol}")
        texts = [repr(sorted(one.scores.header().items())) for one in self.singles]
        digest = hashlib.sha256("\n".join(texts).encode()).hexdigest()
        return file_name(f"{where}-ensemble-of-{len(self.singles)}-{digest[:12]}")

    def rows(self) -> list[ScoredClassifier]:
        """Of a table: each alone, then all together."""
        return [*self.singles, *([self.last] if len(self.singles) > 1 else [])]

    def to_json(self) -> dict[str, Any]:
        scores = self.last.scores
        together = {**self.last.to_json(), "members": len(self.singles)}
        return {
            "data_set": scores.data_set,
            "data_hash": scores.data_hash,
            "classifiers": [one.to_json() for one in self.singles],
            "ensemble": together if len(self.singles) > 1 else None,
            "paired_tests": [test.to_json() for test in self.tests],
            "per_class": self._per_class(),
            "scores": str(self.path),
            "images": {"expected": len(scores), "evaluated": len(scores), "missing": 0},
        }

    def _per_class(self) -> list[dict[str, Any]] | None:
        if self.last.errors is None:
            return None
        return [
            {
                "class": c.name,
                "images": c.images,
                "top1_error": c.top1.value if c.top1 else None,
                "top5_error": c.top5.value if c.top5 else None,
                "taken_for": {"class": c.taken_for[0], "images": c.taken_for[1]}
                if c.taken_for
                else None,
            }
            for c in self.last.errors.per_class()
        ]


def evaluated(titles: Sequence[str], paths: Sequence[Path]) -> ClassifierResult:
    """The result of these files of scores.

    Args:
        titles: one for each, all different.

    Raises:
        DataError: a file does not load, or two are of other images or classes.
    """
    singles: list[ScoredClassifier] = []

    def members() -> Iterator[ClassScores]:
        for title, path in zip(titles, paths, strict=True):
            scores = load_scores(path)
            scores = replace(scores, net={**scores.net, "title": title})
            errors = errors_in(scores) if scores.has_labels else None
            names = replace(scores, log_probabilities=scores.log_probabilities[:0].copy())
            singles.append(ScoredClassifier(title, names, errors))
            yield scores

    together = ensemble(members())
    if len(singles) == 1:
        one = singles[0]
        whole = replace(one.scores, log_probabilities=together.log_probabilities)
        last = ScoredClassifier(one.title, whole, one.errors)
    else:
        errors = errors_in(together) if together.has_labels else None
        words = _common({one.protocol for one in singles})
        together = replace(together, protocol={**together.protocol, "words": words})
        last = ScoredClassifier(f"ensemble of {len(singles)}", together, errors)
    tests = _tested(singles)
    return ClassifierResult(tuple(singles), last, tests, Path(paths[0]))


def _tested(singles: Sequence[ScoredClassifier]) -> tuple[TestedPair, ...]:
    pairs = [
        (a.title, b.title, paired_test(a.errors.rank, b.errors.rank),
         paired_test(a.errors.rank, b.errors.rank, top=5))
        for a, b in itertools.combinations(singles, 2)
        if a.errors and b.errors
    ]  # fmt: skip
    top1 = holm([one.p_value for _, _, one, _ in pairs])
    top5 = holm([five.p_value for _, _, _, five in pairs])
    return tuple(
        TestedPair(*pair, (p1, p5)) for pair, p1, p5 in zip(pairs, top1, top5, strict=True)
    )


def _common(protocols: set[str]) -> str:
    what = protocols.pop() if len(protocols) == 1 else "several protocols"
    return f"probabilities averaged; {what}"


def rates(of_set: ClassifierErrors, errors: ClassifierErrors | ClassErrors) -> tuple[str, str]:
    """Top-1 and top-5 error as cells: of the set, or of one class of it.

    Top-5 is "-" of sets of five classes or fewer, where no five guesses can be wrong.
    """
    return rate(errors.top1), rate(errors.top5 if len(of_set.classes) > GUESSES else None)


def rate(error: ErrorRate | None) -> str:
    """Percent with the standard error: "6.40 ± 0.77"."""
    if error is None:
        return "-"
    return f"{100 * error.value:.2f} ± {100 * error.standard_error:.2f}"


def describe(net: Mapping[str, Any]) -> str:
    """Net and file, for pages."""
    return ", ".join(str(net[key]) for key in ("name", "file") if net.get(key))
