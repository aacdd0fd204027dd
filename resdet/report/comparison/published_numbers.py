"""The paper's number beside ours where, and only where, the protocol is the same.

The numbers are those of `resdet.evaluation.published`. The same protocol means: the data sets
trained and tested on, every image of the test set, the classes, the AP rule, the net unchanged
and pretrained, and the settings on which the papers are explicit (`paper.yaml`). On a subset, on
the embedded data, on other sizes there is no number, so that none is mistaken for a target.

Not for: judging whether ours is good; the paper trained in four alternating steps.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import yaml

from resdet.evaluation.published import published_tables as published
from resdet.report.runs import Column
from resdet.report.scores import SetScores

PAPER = published.PAPER


@dataclass(frozen=True)
class PaperNumber:
    """One published value, a fraction in [0, 1]; `per_class` by class name, where printed."""

    metric: str
    value: float
    source: str
    per_class: Mapping[str, float]
    per_class_source: str = ""


@functools.cache
def tables() -> dict[str, Any]:
    """The content of paper.yaml, with the classes and the numbers that its protocols name."""
    file = resources.files("resdet.report.comparison") / "paper.yaml"
    tree = dict(yaml.safe_load(file.read_text("utf-8")))
    tree["classes"] = {"voc": list(published.voc_classes())}
    tree["numbers"] = list(_numbers(tree["protocols"]))
    return tree


def _numbers(protocols: Mapping[str, Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Percent, as printed; what they were trained on goes into the protocol's side of it."""
    for name, protocol in protocols.items():
        for key, rule in protocol["metrics"].items():
            metric = rule if key == "mean_ap" else key
            rows = published.published(
                source=protocol["source"], data_set=protocol["test"], metric=metric
            )
            for row in rows:
                entry = {"protocol": name, "net": row.net, "metric": key, "value": row.value,
                         "source": row.source, "train": row.train}  # fmt: skip
                if "per_class" in protocol:
                    classes = published.the_number(
                        source=protocol["per_class"], system=row.system, net=row.net
                    )
                    entry["per_class"] = list(classes.per_class.values())
                    entry["per_class_source"] = classes.source
                yield entry


def numbers_for(column: Column, scores: SetScores) -> dict[str, PaperNumber]:
    """Metric ("mean_ap" of the primary VOC rule, "AP", "AP50") to the paper's number.

    Empty where anything of the protocol differs, which is the usual case.
    """
    numbers = {}
    for entry in tables()["numbers"]:
        protocol = tables()["protocols"][entry["protocol"]]
        if entry["net"] == _plain_net(column) and _same_protocol(column, scores, protocol, entry):
            names = tables()["classes"]["voc"]
            values = entry.get("per_class", ())
            numbers[entry["metric"]] = PaperNumber(
                entry["metric"],
                entry["value"] / 100,
                entry["source"],
                {name: v / 100 for name, v in zip(names, values, strict=False)},
                entry.get("per_class_source", ""),
            )
    return numbers


def _plain_net(column: Column) -> str | None:
    """The net's name, if it is the paper's net and not a narrower or reshaped one."""
    config = column.config
    trained_on = str((column.card.get("data") or {}).get("name", "imagenet"))
    plain = (
        column.pretrained
        and "imagenet" in trained_on.lower()
        and config.get("MODEL.NET.WIDTH", 1.0) == 1
        and config.get("MODEL.NET.SHORTCUT", "") in ("", "B")
        and config.get("MODEL.NET.STRIDE_IN_1X1", True)
        and config.get("MODEL.NET.STEM", "") in ("", "imagenet")
        and config.get("MODEL.NET.POOLS", 0) in (0, 5)
        and config.get("MODEL.NET.FC_CHANNELS", 0) in (0, 4096)
        and column.run.state == "finished"
    )
    return str(config.get("MODEL.NET.NAME")) if plain else None


def _same_protocol(
    column: Column, scores: SetScores, protocol: Mapping[str, Any], entry: Mapping[str, Any]
) -> bool:
    config, metric = column.config, entry["metric"]
    classes_fit = len(scores.classes) == protocol["num_classes"] and (
        protocol["num_classes"] != 20 or _same_names(scores.classes)
    )
    rule = scores.primary if metric == "mean_ap" else "COCO bbox" if scores.coco else None
    return (
        scores.data_set == protocol["test"]
        and sorted(config.get("DATASETS.TRAIN", ())) == sorted(entry["train"])
        and len(set(scores.evaluated)) == len(set(scores.expected)) == protocol["images"]
        and classes_fit
        and rule == protocol["metrics"][metric]
        and not column.run.info.get("leak")
        and all(_equal(config.get(key), value) for key, value in tables()["settings"].items())
    )


def _same_names(classes: Sequence[str]) -> bool:
    return sorted(classes) == sorted(tables()["classes"]["voc"])


def _equal(a: Any, b: Any) -> bool:
    listed = isinstance(a, list | tuple)
    return list(a) == list(b) if listed and isinstance(b, list | tuple) else bool(a == b)
