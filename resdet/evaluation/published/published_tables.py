"""The published numbers as data: tables 1 to 14 of the paper, and the contests' lists of 2015.

`paper.yaml` holds them as they were printed; here they get types, a search that never returns
the wrong row, and a check of everything in them that can be checked against itself.

Not for: whether a number may stand beside one of ours (`report.comparison.published_numbers`
decides that), or any number of ours.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from importlib import resources
from typing import Any

import numpy as np
import yaml

PAPER = "He et al. 2015, arXiv:1512.03385"
STATUSES = ("stated", "read", "secondary", "recalled")
# A printed number is at most this far from what was measured, in units of its last digit.
ROUNDING = 0.05 + 1e-9


@dataclass(frozen=True)
class Published:
    """One published number.

    Attributes:
        paper: who published it. source: "table 7", or the name of a list; section: of the paper.
        system: the row's name there. net: ours for its net, None where it is none or several.
        metric: what the number is: "VOC 11-point", "AP50", "top-1 error", "multiply-adds", …
        unit: "percent", "count", "pixels", "points" (a difference of percents), "1e6", "1e9".
        data_set: tested on. train: trained on. protocol: how it was tested.
        shortcut: option A, B or C, where the paper states it.
        status: "stated" in the paper; "read" on the official page; "secondary": quoted by others;
            "recalled": not checked again against a text.
        per_class: by class name, where it is printed.
    """

    value: float
    metric: str
    source: str
    system: str
    paper: str = PAPER
    section: str = ""
    net: str | None = None
    shortcut: str | None = None
    data_set: str | None = None
    train: tuple[str, ...] = ()
    protocol: str = ""
    unit: str = "percent"
    status: str = "stated"
    note: str = ""
    per_class: Mapping[str, float] = field(default_factory=dict)

    @property
    def fraction(self) -> float:
        """A percentage as JSON has it, in [0, 1].

        Raises:
            ValueError: it is not one.
        """
        if self.unit != "percent":
            raise ValueError(f"{self.metric} of {self.system} is in {self.unit}, not in percent")
        return self.value / 100


FIELDS = tuple(f.name for f in fields(Published))


@functools.cache
def all_published() -> tuple[Published, ...]:
    """Every number in paper.yaml, in its order."""
    text = (resources.files("resdet.evaluation.published") / "paper.yaml").read_text("utf-8")
    return tuple(read_blocks(yaml.safe_load(text)))


def voc_classes() -> tuple[str, ...]:
    """The twenty classes in the order of tables 10 and 11."""
    (with_classes, *_) = published(source="table 10")
    return tuple(with_classes.per_class)


def published(**expected: Any) -> tuple[Published, ...]:
    """The numbers whose fields are as expected; none is a possible answer.

    Example:
        >>> [n.value for n in published(source="table 7", net="resnet101")]
        [76.4, 73.8]

    Raises:
        TypeError: there is no such field.
    """
    unknown = sorted(set(expected) - set(FIELDS))
    if unknown:
        raise TypeError(f"no field {unknown[0]!r}; there are {', '.join(FIELDS)}")
    if "train" in expected:
        expected["train"] = tuple(expected["train"])
    return tuple(
        number
        for number in all_published()
        if all(getattr(number, name) == value for name, value in expected.items())
    )


def the_number(**expected: Any) -> Published:
    """The one number whose fields are as expected.

    Example:
        >>> the_number(source="table 8", net="vgg16", metric="AP").value
        21.2

    Raises:
        LookupError: there is none, or there are several; lists them.
    """
    matches = published(**expected)
    if len(matches) != 1:
        named = "; ".join(f"{n.source}, {n.system}, {n.metric}: {n.value:g}" for n in matches[:5])
        raise LookupError(
            f"{len(matches)} published numbers have {expected}, expected one. {named}"
        )
    return matches[0]


def read_blocks(tree: Mapping[str, Any]) -> Iterator[Published]:
    """The numbers in the content of a file like paper.yaml.

    Raises:
        ValueError: an unknown key or status, a row without a number, a list of
            classes of another length; names block and row.
    """
    classes = tree["classes"]["voc"]
    for block in tree["blocks"]:
        shared = {k: v for k, v in block.items() if k not in ("columns", "rows")}
        columns = block["columns"]
        for row in block["rows"]:
            own = {k: v for k, v in row.items() if k not in columns and k != "per_class"}
            where = f"{block.get('source')}, row {row.get('system')}"
            values = {name: row[name] for name in columns if name in row}
            if not values:
                raise ValueError(f"{where} has none of {', '.join(columns)}")
            for name, value in values.items():
                per_class = row.get("per_class", ())
                if per_class and len(per_class) != len(classes):
                    raise ValueError(f"{where}: {len(per_class)} classes, not {len(classes)}")
                # A row's own value overrides the block's, as in the tables.
                kept = {**shared, **columns[name], **own}
                yield _number(kept, value, dict(zip(classes, per_class, strict=False)), where)


def _number(
    kept: dict[str, Any], value: Any, per_class: Mapping[str, float], where: str
) -> Published:
    unknown = sorted(set(kept) - set(FIELDS))
    if unknown:
        raise ValueError(f"{where}: {unknown[0]!r} is neither a column nor one of {FIELDS}")
    if kept.get("status", "stated") not in STATUSES:
        raise ValueError(f"{where}: status is {kept['status']!r}, expected one of {STATUSES}")
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{where}: {value!r} is not a number")
    kept["train"] = tuple(kept.get("train", ()))
    return Published(value=float(value), per_class=per_class, **kept)


# -- what can be checked against itself --------------------------------------------------------


def contradictions(numbers: Sequence[Published] | None = None) -> list[str]:
    """Where the tables contradict themselves; none in the paper, so any here is a slip of ours.

    Args:
        numbers: those to check; paper.yaml's when left out.
    """
    table = _Checked(all_published() if numbers is None else numbers)
    return [
        *table.means(),
        *table.repeats(),
        *table.gains(),
        *table.depths(),
    ]


class _Checked:
    def __init__(self, numbers: Sequence[Published]):
        self.numbers = numbers

    def value(self, source: str, metric: str, **expected: Any) -> float:
        expected |= {"source": source, "metric": metric}
        (match,) = [n for n in self.numbers if all(getattr(n, k) == v for k, v in expected.items())]
        return match.value

    def means(self) -> Iterator[str]:
        """Tables 10 and 11: a row's classes have the mean that it states."""
        for number in self.numbers:
            if not number.per_class:
                continue
            mean = float(np.mean(list(number.per_class.values())))
            if abs(mean - number.value) > ROUNDING:
                yield (
                    f"{number.source}, {number.system} {number.net}: the classes have mean "
                    f"{mean:.2f}, the table has {number.value:g}"
                )

    def repeats(self) -> Iterator[str]:
        """Numbers that are printed in two places."""
        for net in ("vgg16", "resnet101"):
            for other, metric in (("table 10", "VOC 11-point"), ("table 11", "VOC area")):
                yield from self._same(("table 7", metric), (other, metric), net=net)
            for metric in ("AP50", "AP"):
                where = {"net": net, "system": "baseline", "data_set": "coco_2014_val"}
                yield from self._same(("table 8", metric), ("table 9", metric), **where)
        for name in ("plain-34", "ResNet-34"):
            printed = name if name == "plain-34" else "ResNet-34 A"
            first = self.value("table 2", "top-1 error", system=name)
            second = self.value("table 3", "top-1 error", system=printed)
            yield from _unequal(f"{name} in tables 2 and 3", first, second)
        yield from _unequal(
            "ResNet-101's top-5 error in tables 4 and 13",
            self.value("table 4", "top-5 error", net="resnet101"),
            self.value("table 13", "top-5 error"),
        )
        metric = "top-5 localisation error"
        yield from _unequal(
            "the ensemble's localisation error in tables 13 and 14",
            self.value("table 13", metric, system="RPN and R-CNN, ensemble"),
            self.value(
                "table 14", metric, system="ResNet (ILSVRC'15)", data_set="ilsvrc_loc_val"
            ),
        )  # fmt: skip

    def _same(
        self, first: tuple[str, str], second: tuple[str, str], **expected: Any
    ) -> Iterator[str]:
        expected.setdefault("system", "baseline")
        a, b = (self.value(*pair, **expected) for pair in (first, second))
        yield from _unequal(f"{expected['net']}, {first[1]}, in {first[0]} and {second[0]}", a, b)

    def gains(self) -> Iterator[str]:
        """Differences and shares that the text draws from the tables."""
        before, after = (self.value("table 8", "AP", net=n) for n in ("vgg16", "resnet101"))
        yield from _unequal(
            "the gain of AP", after - before, self.value("text", "gain of AP"), ROUNDING
        )
        share = 100 * (after - before) / before
        stated = self.value("text", "relative gain of AP")
        yield from _unequal("the relative gain of AP", share, stated, 10 * ROUNDING)
        metric, system = "top-5 localisation error", "ResNet (ILSVRC'15)"
        old, new = (
            self.value("table 14", metric, system=s, data_set="ilsvrc_loc_test")
            for s in ("VGG (ILSVRC'14)", system)
        )
        stated = self.value("text", "relative reduction of the error of 2014")
        share = 100 * (old - new) / old
        yield from _unequal("the relative reduction of table 14", share, stated, 10 * ROUNDING)
        contest = "ILSVRC 2015 results, DET with provided data"
        first, second = (self.value(contest, "ILSVRC DET", system=s) for s in ("MSRA", "Qualcomm"))
        stated = self.value("text", "lead over the second of ILSVRC DET")
        yield from _unequal("the lead in ILSVRC DET", first - second, stated, ROUNDING)
        printed = self.value("table 12", "ILSVRC DET", system="ensemble (ILSVRC'15)",
                             data_set="ilsvrc_det_test")  # fmt: skip
        yield from _unequal("ILSVRC DET in table 12 and the contest", printed, first, ROUNDING)

    def depths(self) -> Iterator[str]:
        """Table 1: a net's name is the number of its layers with weights."""
        for depth in (18, 34, 50, 101, 152):
            blocks = [
                self.value("table 1", f"blocks in conv{i}_x", net=f"resnet{depth}")
                for i in (2, 3, 4, 5)
            ]
            layers = 2 + sum(blocks) * (2 if depth < 50 else 3)
            yield from _unequal(f"the layers of ResNet-{depth}", layers, depth)


def _unequal(what: str, first: float, second: float, slack: float = 0.0) -> Iterator[str]:
    if abs(first - second) > slack:
        yield f"{what}: {first:g} and {second:g}"
