"""From what was typed to a net without values: a name with options, a weight file, a run folder.

Not for: counting (`resdet.nets`), or nets with their weights (`resdet.pretrain.file_scores`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from resdet import nets
from resdet.cli.evaluate.class_members import run_of_classifier
from resdet.errors import ConfigError, RunError
from resdet.nets.families import family_of
from resdet.nets.timm import PREFIX, TimmNet
from resdet.pretrain.file_scores import load_classifier, number_of_outputs
from resdet.run import layout
from resdet.run.folder import Run
from resdet.weights.addresses.fetch import is_address, local_path
from resdet.weights.resolve import WeightFile

CIFAR_CLASSES, CIFAR_SIDE = 10, 32
CLASSES, SIDE = 1000, 224


@dataclass(frozen=True)
class NetSource:
    """A net to be counted.

    Attributes:
        source: as it was typed.
        net: on "meta", or on the CPU where it cannot run there.
        side: of its images, in pixels, where none is stated.
    """

    source: str
    name: str
    options: dict[str, Any]
    num_classes: int
    side: int
    net: torch.nn.Module = field(repr=False)


def source_of(typed: str, *, classes: int | None = None, part: str | None = None) -> NetSource:
    """The net of a name, a weight file or a run folder.

    Args:
        classes: of a net given by name.
        part: the net among several in one weight file.

    Raises:
        ConfigError: there is no such net, file or folder, or the net has no such option.
        WeightsError: the file is no classifier's. RunError: the folder is no run of a classifier.
    """
    path = Path(typed)
    if path.is_dir():
        return _of_run(typed, part)
    if path.exists() or is_address(typed):
        return _of_file(typed, local_path(typed), part)
    if classes is not None and classes < 1:
        raise ConfigError(f"--classes is {classes}: give 1 or more.")
    return _of_name(typed, classes)


def _of_name(typed: str, classes: int | None) -> NetSource:
    name, *stated = typed.split(",")
    options = dict(_option(text, typed) for text in stated)
    family = family_of(name)
    is_cifar = family is not None and family.is_cifar
    number = classes or (CIFAR_CLASSES if is_cifar else CLASSES)
    net = _built(name, number, options, typed)
    return NetSource(typed, name, options, number, CIFAR_SIDE if is_cifar else _side(net), net)


def _option(text: str, typed: str) -> tuple[str, Any]:
    """Raises ConfigError where it is no OPTION=VALUE."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise ConfigError(
            f"{typed}: {text!r} is no OPTION=VALUE. Options stand behind the net's name, as in "
            "resnet34,shortcut=A."
        )
    if value.lower() in ("true", "false"):
        return name, value.lower() == "true"
    for kind in (int, float):
        try:
            return name, kind(value)
        except ValueError:
            continue
    return name, value


def _built(name: str, classes: int, options: dict[str, Any], typed: str) -> torch.nn.Module:
    try:
        with torch.device("meta"):
            return nets.build(name, classes, **options)
    except (ValueError, ImportError) as error:
        looks_like_file = "/" in name or Path(name).suffix in (
            ".pth",
            ".pt",
            ".safetensors",
            ".pkl",
        )
        if looks_like_file and not name.startswith(PREFIX):
            raise ConfigError(f"{typed} does not exist.") from None
        raise ConfigError(f"{typed}: {error}") from None
    except TypeError as error:
        raise ConfigError(f"{typed}: an option has a value of another kind: {error}") from None
    except NotImplementedError:
        return nets.build(name, classes, **options)


def _side(net: torch.nn.Module) -> int:
    """timm's own size, which some nets are bound to."""
    if not isinstance(net, TimmNet):
        return SIDE
    record: Any = getattr(net.model, "pretrained_cfg", None) or {}
    size = record.get("input_size") or (3, SIDE, SIDE)
    return int(size[-1])


def _of_file(typed: str, path: Path, part: str | None) -> NetSource:
    file = WeightFile(path, part)
    tensors, card = load_classifier(file)
    outputs = number_of_outputs(tensors, card.net, card.net_options, file)
    net = _built(card.net, outputs, dict(card.net_options), typed)
    return NetSource(typed, card.net, dict(card.net_options), outputs, card.input.size, net)


def _of_run(typed: str, part: str | None) -> NetSource:
    run = run_of_classifier(Path(typed))
    weights = run.path / layout.CLASSIFIER
    if weights.exists():
        return _of_file(typed, weights, part)
    return _of_unfinished(typed, run)


def _of_unfinished(typed: str, run: Run) -> NetSource:
    """By its record; the number of classes follows from the recorded number of parameters."""
    from resdet.report.runs import read_config

    recorded = run.info.get("net") or {}
    name, total = recorded.get("name"), recorded.get("parameters")
    options = dict(recorded.get("options") or {})
    if not name or not total:
        raise RunError(f"{typed} has not begun to train: its {layout.RUN} names no net yet.")
    one, two = (nets.parameters(_built(name, k, options, typed)) for k in (1, 2))
    classes = 1 + (total - one) // (two - one)
    config = read_config(run)
    side = int(config.get("PRETRAIN.CROP") or SIDE)
    return NetSource(typed, name, options, classes, side, _built(name, classes, options, typed))
