"""What the published detection numbers were had with, as data: `protocols.yaml`, typed and checked.

An experiment is one pair of training and test data in the papers. It has the settings of the
detector by key of a resolved config, the schedule, the pretraining, and who states each of them.

Not for: the numbers (`published_tables`), or a run of ours (`report.comparison`).
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

import yaml

from resdet.evaluation.published.published_tables import Published, all_published, published

SHARED = ("what", "from", "decides", "unless")
FORMS = ("is", "any", "of_net")


@dataclass(frozen=True)
class ProtocolSetting:
    """What one key of the resolved config must have.

    Attributes:
        what: in words. source: who states it.
        values: by the net's name, or under "" for all; a run has the protocol's where it has
            one of them. The first is the one that is named.
        decides: another value makes it another experiment.
        unless: keys and the values of theirs with which this one is not read.
    """

    key: str
    what: str
    source: str
    values: Mapping[str, tuple[Any, ...]]
    decides: bool = False
    unless: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)

    def of(self, net: str) -> tuple[Any, ...]:
        """The values that are the protocol's for this net; () where it states none."""
        return self.values.get(net, self.values.get("", ()))


@dataclass(frozen=True)
class ProtocolSchedule:
    """Rate, batch and length.

    Attributes:
        rate: for `batch` images a step. drops: as shares of the length. images_seen: steps times
            batch. within, rate_within: the factors up to which another length and another rate
            are listed; beyond, it is another experiment. source: who states it.
    """

    rate: float
    batch: int
    drops: tuple[float, ...]
    images_seen: int
    within: float
    rate_within: float
    source: str


@dataclass(frozen=True)
class ClassifierProtocol:
    """Of the classifier: names that its data may have, their images, and images seen by net."""

    names: tuple[str, ...]
    images: int
    samples: Mapping[str, int]
    within: float
    source: str


@dataclass(frozen=True)
class ConstantDifference:
    """What is so in every run of resdet and was otherwise in the papers."""

    what: str
    paper: str
    here: str
    source: str


@dataclass(frozen=True)
class PublishedExperiment:
    """One pair of data, with the published numbers that it gave.

    Attributes:
        numbers: its rows of paper.yaml. per_class: the same with classes, where they are printed.
        test: the set. images, num_classes: of it. train_images: of all training sets together.
        metrics: our key of a number ("mean_ap", "AP", "AP50") to the rule it is counted by.
        schedule: of one joint training. alternating: of each Fast R-CNN step of four; images_seen
            are that step's.
        settings: by key.
    """

    name: str
    numbers: tuple[Published, ...]
    per_class: tuple[Published, ...]
    test: str
    images: int
    num_classes: int
    metrics: Mapping[str, str]
    train_images: int
    schedule: ProtocolSchedule
    alternating: ProtocolSchedule
    settings: Mapping[str, ProtocolSetting]
    pretraining: ClassifierProtocol

    def number(self, net: str, metric: str) -> Published | None:
        """Of a net of ours, by our key of a metric; None where the paper has none."""
        rule = self.metrics.get(metric, "")
        names = (rule if metric == "mean_ap" else metric,)
        rows = [n for n in self.numbers if n.net == net and n.metric in names]
        return rows[0] if rows else None


@functools.cache
def experiments() -> tuple[PublishedExperiment, ...]:
    """All of protocols.yaml, in its order."""
    return read_experiments(_tree())


@functools.cache
def of_every_run() -> tuple[ConstantDifference, ...]:
    """What no key of a config changes."""
    return tuple(
        ConstantDifference(d["what"], d["paper"], d["here"], d["from"])
        for d in _tree()["of_every_run"]
    )


def never_beside(number: Published) -> str:
    """Why this number stands beside no run of ours; "" where one may have its protocol."""
    for entry in _tree()["never"]:
        if all(_is_one_of(getattr(number, name), v) for name, v in entry["where"].items()):
            return str(entry["why"])
    return ""


@functools.cache
def without_setting() -> Mapping[str, str]:
    """Each key that no experiment has a setting for, and why none is needed."""
    return {key: entry["why"] for entry in _tree()["without_setting"] for key in entry["keys"]}


def _is_one_of(value: Any, expected: Any) -> bool:
    if isinstance(value, tuple):
        return value == tuple(expected)
    return value in expected if isinstance(expected, list) else bool(value == expected)


def unanswered() -> list[Published]:
    """Detection numbers of nets of ours that neither an experiment nor a reason covers."""
    shown = {id(n) for e in experiments() for n in e.numbers}
    return [
        n
        for n in all_published()
        if n.net and n.metric in ("VOC 11-point", "VOC area", "AP", "AP50") and n.unit == "percent"
        if n.status in ("stated", "read") and id(n) not in shown and not never_beside(n)
    ]


def read_experiments(tree: Mapping[str, Any]) -> tuple[PublishedExperiment, ...]:
    """The experiments in the content of a file like protocols.yaml.

    Raises:
        ValueError: a setting has an unknown entry, no value or two forms of one, or an experiment
            has no number; names it.
    """
    shared = {key: _setting(key, entry) for key, entry in tree["settings"].items()}
    classifier = tree["pretraining"]
    pretraining = ClassifierProtocol(
        tuple(classifier["names"]),
        classifier["images"],
        classifier["samples"]["of_net"],
        classifier["samples"]["within"],
        classifier["samples"]["from"],
    )
    found = []
    for name, entry in tree["experiments"].items():
        own = {key: _setting(key, value) for key, value in entry["settings"].items()}
        numbers = published(**entry["numbers"])
        if not numbers:
            raise ValueError(f"{name}: no published number has {entry['numbers']}")
        per_class = published(source=entry["per_class"]) if "per_class" in entry else ()
        found.append(
            PublishedExperiment(
                name=name,
                numbers=numbers,
                per_class=tuple(n for n in per_class if n.system == numbers[0].system),
                schedule=_schedule(entry["schedule"]),
                alternating=_schedule(entry["alternating"]),
                settings={**shared, **own},
                pretraining=pretraining,
                **{k: entry[k] for k in ("test", "images", "num_classes", "metrics",
                                         "train_images")},
            )
        )  # fmt: skip
    return tuple(found)


def _setting(key: str, entry: Mapping[str, Any]) -> ProtocolSetting:
    forms = [form for form in FORMS if form in entry]
    if len(forms) != 1 or set(entry) - {*SHARED, *FORMS}:
        raise ValueError(
            f"{key} has {', '.join(sorted(entry))}; expected one of {', '.join(FORMS)}, and of "
            f"{', '.join(SHARED)}"
        )
    value = entry[forms[0]]
    if forms[0] == "of_net":
        values = {net: _each(v) for net, v in value.items()}
    else:
        values = {"": tuple(value) if forms[0] == "any" else (value,)}
    unless = {k: _each(v) for k, v in entry.get("unless", {}).items()}
    return ProtocolSetting(
        key, entry["what"], entry["from"], values, entry.get("decides", False), unless
    )


def _each(value: Any) -> tuple[Any, ...]:
    """One value, or several that are in a list."""
    return tuple(value) if isinstance(value, list) else (value,)


def _schedule(entry: Mapping[str, Any]) -> ProtocolSchedule:
    kept = {name: value for name, value in entry.items() if name not in ("from", "drops")}
    return ProtocolSchedule(**kept, drops=tuple(entry["drops"]), source=entry["from"])


@functools.cache
def _tree() -> dict[str, Any]:
    text = (resources.files("resdet.evaluation.published") / "protocols.yaml").read_text("utf-8")
    tree: dict[str, Any] = yaml.safe_load(text)
    return tree
