"""A run folder as one column of the report: its name, its cost, how it is drawn.

Read from a run folder, beside what `resdet.run` names itself:

    config.yaml     MODEL.NET.NAME and .WIDTH, MODEL.WEIGHTS
    run.json        "net": {"parameters"}, "samples", "train_seconds", "versions", "device", "leak",
                    "best_of", "train_sets": [{"name", "hash", "images"}]
    card.json       a `resdet.weights` card: "data", "metrics", "training", "input"

What is not there is `None` and shown as a dash; nothing is guessed.

Not for: the results of a run (`scores`), or whether two runs may be compared (`comparability`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from resdet.config.recipes.transfer_recipes import RecipeOfRun, recipe_of
from resdet.errors import RunError
from resdet.run import layout
from resdet.run.folder import Run
from resdet.run.renamed_keys import with_new_names

NUM_HUES = 6
# Keys beside the name and the weights that make a backbone another one.
_MAKE = ("MODEL.NET.", "MODEL.RESNETS.", "MODEL.BACKBONE.", "TRANSFER.")
# Keys of a classifier's training that make it another one, and what of these does not.
_OF_PRETRAINING = (
    "PRETRAIN.", "SOLVER.", "INPUT.", "TRANSFER.", "MODEL.NET.", "MODEL.PIXEL_MEAN",
    "MODEL.PIXEL_STD", "MODEL.WEIGHTS", "ENGINE.CLIP_GRADIENT_NORM",
)  # fmt: skip
_NO_PRETRAINING = (
    "PRETRAIN.VAL", "PRETRAIN.TEST", "PRETRAIN.TEST_SIDE", "PRETRAIN.CACHE_MB",
    "SOLVER.CHECKPOINT_PERIOD",
)  # fmt: skip
FROM_SCRATCH, PRETRAINED, FROM_DETECTOR = "from scratch", "pretrained", "from a detector"
# A file of a net that was never trained, as `rank` makes it: it may be fixed, as weights may.
RANDOM = "random weights"
_DASHES = {FROM_SCRATCH: 1, FROM_DETECTOR: 2}
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class Group(NamedTuple):
    """What the trainings of one backbone share.

    start: from scratch, random weights, pretrained, from a detector. recipe: what it was pretrained
    on, "" from scratch. make: how the net is built and frozen, and how it was pretrained.
    """

    net: str
    start: str
    recipe: str
    make: str


@dataclass(frozen=True)
class DetectorStart:
    """A whole detector that a training started from.

    Attributes:
        file: as the config names it.
        heads: what became of its predictors, for people.
        data: the sets that it was trained on; "" where its run folder is not there any more.
        hash: of those sets. samples, seconds: of its training; None where they are not known.
    """

    file: str
    heads: str = ""
    data: str = ""
    hash: str = ""
    samples: int | None = None
    seconds: float | None = None

    @property
    def make(self) -> str:
        """The same for detectors that differ in the seed alone, as far as that is known."""
        return f"{self.hash}, {self.samples} images" if self.hash else self.file


@dataclass(frozen=True)
class Column:
    """One run in the report.

    Attributes:
        letter: A, B, …, in the order given.
        label: the net and its start, as short as it can be told from the others.
        side: the same without the seed: the common name of all trainings of one backbone.
        net: "ResNet-18"; the usual name, with its width where nets differ in that alone.
        full_net: "ResNet-18 (width 0.5)".
        pretrained: it was trained from weights that its config names.
        config: dotted key to value, resolved.
        hue, dash: how it is drawn: a hue per net, a dash per start.
        parameters: of the whole detector, or None.
        samples_seen: training images that went through the net, repeats counted, or None.
        seconds: of training, or None.
        detector: where its weights were a whole detector, not a classifier.
        foreign: only its results are known (`foreign_results`); how it was made is not.
    """

    run: Run
    letter: str
    net: str
    full_net: str
    pretrained: bool
    config: dict[str, Any]
    seed: int | None
    label: str = ""
    side: str = ""
    hue: int = 0
    dash: int = 0
    card: dict[str, Any] = field(default_factory=dict)
    parameters: int | None = None
    samples_seen: int | None = None
    seconds: float | None = None
    detector: DetectorStart | None = None
    foreign: bool = False

    @property
    def from_detector(self) -> bool:
        return self.detector is not None

    @property
    def start(self) -> str:
        if self.foreign:
            return "–"
        if self.from_detector:
            return FROM_DETECTOR
        if self.pretrained and (self.card.get("data") or {}).get("name") == "random":
            return RANDOM
        return PRETRAINED if self.pretrained else FROM_SCRATCH

    @property
    def loaded(self) -> str:
        """SHA-256 of the tensors that the training started from; "" where it is not known, as of a
        whole detector, whose card is that of its classifier."""
        return "" if self.from_detector else str(self.card.get("tensors_sha256", ""))

    @property
    def recipe(self) -> RecipeOfRun:
        """What trained of the net, and how."""
        recorded = self.run.info.get("recipe") or {}
        return recipe_of(self.config, recorded.get("by_net") or {})

    @property
    def group(self) -> Group:
        """Runs with the same group differ, if all is well, in nothing but the seed.

        The recipe is the data and the number of images that the card names, so that a net may be
        pretrained again for every seed, by the same config; the weights themselves where the card
        names neither.
        """
        make = str(
            sorted(
                (k, str(v))
                for k, v in self.config.items()
                if k.startswith(_MAKE) and k != "TRANSFER.FROM_SCRATCH"  # which `start` states
            )
        )
        make += self.recipe.words
        if not self.pretrained:
            return Group(self.net, self.start, "", make)
        data = self.card.get("data") or {}
        seen = (self.card.get("training") or {}).get("samples")
        known = data.get("hash") or data.get("name")
        weights = self.loaded or str(self.config.get("MODEL.WEIGHTS"))
        recipe = f"{known}, {seen} images" if known else weights
        if self.detector:
            recipe = self.detector.make
        else:
            make += _pretraining(self.card)
        return Group(self.net, self.start, recipe, make)


def _pretraining(card: Mapping[str, Any]) -> str:
    """How a classifier was trained, but for its seed; "" where its card does not tell."""
    try:
        tree = yaml.safe_load(str(card.get("config") or ""))
    except (yaml.YAMLError, ValueError, RecursionError):
        return ""
    keys = with_new_names(dict(flatten(tree))) if isinstance(tree, dict) else {}
    made = {
        key: str(value)
        for key, value in keys.items()
        if key.startswith(_OF_PRETRAINING) and key not in _NO_PRETRAINING
    }
    return json.dumps(made, sort_keys=True) if made else ""


def read_columns(
    paths: Sequence[Path | str], *, fewest: int = 2, most: int | None = len(LETTERS)
) -> list[Column]:
    """The run folders as columns, labelled so that no two look alike.

    Args:
        most: as many as the charts of a report hold; None where none is drawn of them.

    Raises:
        RunError: fewer than a comparison needs, too many, one of them twice, or one that is no run
            of a detector.
    """
    folders = [Path(path) for path in paths]
    if len(folders) < fewest:
        raise RunError(f"{len(folders)} run folder given; a comparison needs at least two.")
    if most is not None and len(folders) > most:
        raise RunError(f"{len(folders)} run folders given; a report holds {most} at most.")
    resolved = [os.path.realpath(folder) for folder in folders]
    for i, folder in enumerate(resolved):
        if folder in resolved[:i]:
            raise RunError(f"{folders[i]} is given twice. Name each run folder once.")
    columns = [_read(folder, _letter(place)) for place, folder in enumerate(folders)]
    return _drawn(_labelled(columns))


def _letter(place: int) -> str:
    """A to Z, then AA, AB, …"""
    before, last = divmod(place, len(LETTERS))
    return (_letter(before - 1) if before else "") + LETTERS[last]


def flatten(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of every leaf."""
    for key, value in node.items():
        if isinstance(value, Mapping) and value:
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def net_title(name: str, width: float = 1.0) -> str:
    """The usual name of a net.

    Example:
        >>> net_title("resnet101"), net_title("vgg16_bn"), net_title("cifar_plain20", 0.5)
        ('ResNet-101', 'VGG-16-BN', 'CIFAR-Plain-20 (width 0.5)')
    """
    match = re.fullmatch(r"(cifar_)?(resnet|plain|vgg)(\d+)(_bn)?", name)
    title = name
    if match:
        family = {"resnet": "ResNet", "plain": "Plain", "vgg": "VGG"}[match[2]]
        title = f"{'CIFAR-' if match[1] else ''}{family}-{match[3]}{'-BN' if match[4] else ''}"
    return title if width == 1 else f"{title} (width {width:g})"


def _read(folder: Path, letter: str) -> Column:
    run = Run.open(folder)
    if run.kind == "results":
        name = str(run.info["title"])
        return Column(run, letter, name, name, False, {}, None, foreign=True)
    if run.kind != "detection":
        raise RunError(
            f"{folder} is a {run.kind} run. compare takes detection runs, "
            "such as those that train_det writes; for classifiers: resdet analyze classifiers."
        )
    config = read_config(run)
    if config.get("MODEL.META_ARCHITECTURE") == "ProposalNetwork":
        raise RunError(
            f"{folder} is the run of an RPN alone, which has no AP. For its recall: "
            f"resdet evaluate proposals {folder}/results/SET"
        )
    info = run.info
    trained, trained_with = _trained(run, config)
    return Column(
        run=run,
        letter=letter,
        net=_net(config, 1.0),
        full_net=_net(config, float(config.get("MODEL.NET.WIDTH", 1.0))),
        pretrained=bool(trained_with.get("MODEL.WEIGHTS")),
        config=config,
        seed=info.get("seed"),
        card=run.read(layout.CARD, {}) or {},
        parameters=(info.get("net") or {}).get("parameters"),
        samples_seen=_samples_seen(run, config),
        seconds=info.get("train_seconds"),
        detector=_detector_start(trained, trained_with),
    )


def _detector_start(run: Run, config: Mapping[str, Any]) -> DetectorStart | None:
    """None where the run started from a classifier, or from nothing."""
    transfer = run.read(layout.TRANSFER) or {}
    if "heads" not in transfer:
        return None
    found = DetectorStart(str(config.get("MODEL.WEIGHTS", "")), str(transfer["heads"]))
    source = _training_of(Path(found.file))
    if source is None:
        return found
    sets = source.info.get("train_sets") or []
    hashes = [s.get("hash") for s in sets]
    return dataclasses.replace(
        found,
        data=", ".join(str(s.get("name")) for s in sets),
        hash="+".join(hashes) if all(hashes) else "",
        samples=source.info.get("samples"),
        seconds=source.info.get("train_seconds"),
    )


def _training_of(file: Path) -> Run | None:
    """The run that made a detector's file; None where it is not there any more."""
    if not (file.parent / layout.RUN).exists():
        return None
    with contextlib.suppress(RunError):  # damaged: it is not the run that is compared
        run = Run.open(file.parent)
        return run if run.kind == "detection" else None
    return None


def _trained(run: Run, config: dict[str, Any]) -> tuple[Run, dict[str, Any]]:
    """The run that trained the detector, and its config: another one's, where this run scored a
    file of that and it is still there."""
    scored = run.scored_file
    other = None if scored is None else _training_of(scored)
    if other is not None:
        with contextlib.suppress(RunError):  # its config is damaged
            return other, read_config(other)
    return run, config


def read_config(run: Run) -> dict[str, Any]:
    """The resolved config as dotted keys.

    Raises:
        RunError: there is no config.yaml, or it is not plain YAML.
    """
    where = run.path / layout.CONFIG
    try:
        tree = yaml.safe_load(run.config_text)
    except (yaml.YAMLError, ValueError) as error:
        raise RunError(f"{where} is not plain YAML: {error}.") from None
    except RecursionError:
        raise RunError(f"{where} is not plain YAML: it is nested too deeply.") from None
    if not isinstance(tree, dict):
        raise RunError(f"{where} holds no keys. The run folder is not complete.")
    return with_new_names(dict(flatten(tree)))


def _net(config: Mapping[str, Any], width: float) -> str:
    if name := config.get("MODEL.NET.NAME"):
        return net_title(str(name), width)
    backbone = str(config.get("MODEL.BACKBONE.NAME", "unnamed net"))
    depth = config.get("MODEL.RESNETS.DEPTH")
    return f"{backbone} (depth {depth})" if depth and "resnet" in backbone else backbone


def _samples_seen(run: Run, config: Mapping[str, Any]) -> int | None:
    """The numbers of a finished run; of another, those of its log."""
    if run.state == "finished" and "samples" in run.info:
        return int(run.info["samples"])
    iterations = [row["iteration"] for row in run.metrics() if "iteration" in row]
    batch = config.get("SOLVER.IMS_PER_BATCH")
    return (max(iterations) + 1) * int(batch) if iterations and batch else None


def _labelled(columns: list[Column]) -> list[Column]:
    """Net; then its start, its seed, its folder, as far as is needed to tell runs apart."""
    if len({c.net for c in columns}) < len({c.full_net for c in columns}):
        columns = [dataclasses.replace(c, net=c.full_net) for c in columns]
    sides = _sides(columns)
    labels = [sides[c.group] for c in columns]
    files = [f", {Path(str(c.run.info.get('file'))).name}" for c in columns]
    seeds = [
        file if c.foreign else f", seed {c.seed}" for c, file in zip(columns, files, strict=True)
    ]
    folders = ["" if c.foreign else f", {c.run.path.name}" for c in columns]
    letters = [f" ({c.letter})" for c in columns]
    for more in (seeds, folders, letters):
        labels = [
            label + text if labels.count(label) > 1 else label
            for label, text in zip(labels, more, strict=True)
        ]
    return [
        dataclasses.replace(c, label=label, side=sides[c.group])
        for c, label in zip(columns, labels, strict=True)
    ]


def by_group(columns: Sequence[Column]) -> dict[Group, list[int]]:
    """Places of the runs of each backbone, both in the order given."""
    groups: dict[Group, list[int]] = {}
    for place, column in enumerate(columns):
        groups.setdefault(column.group, []).append(place)
    return groups


def _sides(columns: Sequence[Column]) -> dict[Group, str]:
    """The common name of the runs of each group."""
    firsts = {group: columns[places[0]] for group, places in by_group(columns).items()}
    names = {group: c.net for group, c in firsts.items()}
    several_starts = len({c.start for c in columns}) > 1
    if (several_starts or len(set(names.values())) < len(names)) and not columns[0].foreign:
        names = {group: f"{c.net}, {c.start}" for group, c in firsts.items()}
    recipes = {group: c.recipe.name for group, c in firsts.items()}
    if len(set(recipes.values())) > 1 and len(set(names.values())) < len(names):
        names = {g: f"{name}, {recipes[g]}" if recipes[g] else name for g, name in names.items()}
    taken = list(names.values())
    return {
        group: f"{name}, {firsts[group].run.path.name}" if taken.count(name) > 1 else name
        for group, name in names.items()
    }


def _drawn(columns: list[Column]) -> list[Column]:
    """A hue per net in order of appearance; a start from scratch is dashed, one from a whole
    detector dotted, the rest solid.

    Seeds of one backbone look alike; where two backbones would, each gets a hue of its own.
    """
    nets = list(dict.fromkeys(c.net for c in columns))
    groups = by_group(columns)
    looks = {c.group: (nets.index(c.net) % NUM_HUES, _DASHES.get(c.start, 0)) for c in columns}
    if len(set(looks.values())) < len(groups):
        looks = {group: (i % NUM_HUES, i // NUM_HUES) for i, group in enumerate(groups)}
    return [dataclasses.replace(c, hue=looks[c.group][0], dash=looks[c.group][1]) for c in columns]
