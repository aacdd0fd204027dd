"""The texts of the presets in configs/pretrain, from their record.

Not for: writing files, or detectors (`make_presets`).
"""

from __future__ import annotations

import functools
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torchvision
from preset_text import resolved_of, table_of, text_of, trains
from pretraining_record import (
    MEAN,
    PRETRAINING,
    PRETRAINING_NEEDS,
    RECIPES,
    TITLES,
    VARIANTS,
    Pretraining,
)

from resdet import nets
from resdet.evaluation.published.published_tables import Published, published

OTHER_PROTOCOL = "evaluate cls --protocol tests so; pretrain_cls tests 1-crop"
NO_NUMBER = "no published number of this recipe"
# docs/cost.md: multiply-adds per second of one GPU.
SPEED = 15e12
WIDTH = 88


def classifiers() -> dict[str, str]:
    """Every preset's path within configs, and its text."""
    return {
        f"pretrain/{row.name(data)}.yaml": classifier(data, row)
        for data, rows in PRETRAINING.items()
        for row in rows
    }


def classifier(data: str, row: Pretraining) -> str:
    """A preset of `pretrain_cls`."""
    base = f"base_{data}_{row.recipe}.yaml" if row.recipe else f"base_{data}.yaml"
    leaf = f"NAME: {row.net}" + (f", SHORTCUT: {row.shortcut}" if row.shortcut else "")
    keys = resolved_of(f"pretrain/{base}", f"  NET: {{{leaf}}}\n{row.body}")
    header: dict[str, Sequence[str]] = {"Source": _source(data, row)}
    if row.twin:
        header["Twin"] = [f"{row.twin}.yaml; differs in MODEL.NET only (tested)"]
    if differs := _differs(data, row):
        header["Differs"] = textwrap.wrap(differs, WIDTH)
    header["Trains"] = [*trains(keys, [keys["PRETRAIN.TRAIN"]]), *_crops(keys, row)]
    if row.weights:
        header["Weights"] = row.weights
    name = row.name(data)
    header["Run"] = [f"python tools/pretrain_cls.py --config configs/pretrain/{name}.yaml"]
    header["Needs"] = [
        f"{PRETRAINING_NEEDS[data]}; {_cost(keys, row)} by the rule in docs/cost.md, not measured"
    ]
    option = f" with shortcuts of option {row.shortcut}" if row.shortcut else ""
    variant = VARIANTS.get(row.variant, "")
    title = f"{row.net}{option} on {TITLES[data]}{RECIPES[row.recipe]}{variant}."
    return text_of(title, header, base, leaf) + row.body


def _source(data: str, row: Pretraining) -> list[str]:
    if row.recipe:
        return [_torchvisions(row.net)]
    numbers = {"imagenet": _top1, "cifar10": _cifar_error}[data](row) if row.numbered else []
    lines = [row.source, *numbers] if row.source else numbers
    return [*(f"{line};" for line in lines[:-1]), *lines[-1:]] or [""]


def _differs(data: str, row: Pretraining) -> str:
    """From what it cites; the paper states no rule of a plateau, and neither does VGG's."""
    is_papers = data == "imagenet" and not row.recipe
    own = [row.differs, _other_shortcut(row)]
    if is_papers:
        own += ["" if row.source else MEAN, "the rule of the plateau is ours (docs/recipes.md)"]
    return "; ".join(text for text in own if text)


def _cost(keys: Mapping[str, Any], row: Pretraining) -> str:
    """Hours on one GPU: images x multiply-adds x 3 / speed."""
    classes = {"imagenet_train": 1000, "cifar10_train": 10}[keys["PRETRAIN.TRAIN"]]
    options = tuple(_options(keys, row).items())
    images = keys["SOLVER.MAX_ITER"] * keys["SOLVER.IMS_PER_BATCH"]
    work = 3.0 * images * _multiply_adds(row.net, classes, options, keys["PRETRAIN.CROP"])
    hours = work / SPEED / 3600
    return f"{hours:.0f} h" if hours >= 10 else f"{hours:.2g} h"


@functools.cache
def _multiply_adds(net: str, classes: int, options: tuple[tuple[str, Any], ...], crop: int) -> int:
    with torch.device("meta"):
        return nets.multiply_adds(nets.build(net, classes, **dict(options)), crop)


def _options(keys: Mapping[str, Any], row: Pretraining) -> dict[str, Any]:
    options: dict[str, Any] = {"shortcut": row.shortcut} if row.shortcut else {}
    if not keys["MODEL.NET.STRIDE_IN_1X1"]:
        options["stride_in_1x1"] = False
    return options


def _crops(keys: Mapping[str, Any], row: Pretraining) -> list[str]:
    """Input, test and shortcuts."""
    option = built_shortcut(row)
    return [
        f"crops of {keys['PRETRAIN.CROP']}; tested on one of side {keys['PRETRAIN.TEST_SIDE']} of "
        f"{keys['PRETRAIN.VAL']}"
        + (f"; shortcuts of option {option}" if option else "; no shortcuts")
    ]


def built_shortcut(row: Pretraining) -> str | None:
    """Option A, B or C of the preset's net; None where it has no shortcuts."""
    return row.shortcut or shortcut(row.net)


@functools.cache
def shortcut(net: str) -> str | None:
    """Option A, B or C that our net is built with; None where it has no shortcuts."""
    with torch.device("meta"):
        option = getattr(nets.build(net), "shortcut", "none")
    return None if option == "none" else option


def top1(preset: Pretraining) -> tuple[Published, bool]:
    """The paper's 10-crop number, that of our shortcuts before others; whether to name theirs."""
    rows = published(
        data_set="imagenet_val", protocol="10-crop", metric="top-1 error", net=preset.net
    )
    option = built_shortcut(preset)
    ours = [row for row in rows if row.shortcut == option]
    return (ours or rows)[0], {row.shortcut for row in rows} != {option}


def _top1(preset: Pretraining) -> list[str]:
    row, named = top1(preset)
    option = f" (option {row.shortcut})" if named else ""
    dense = published(
        source="table 4", metric="top-1 error", net=preset.net, shortcut=built_shortcut(preset)
    )
    return [
        f"{table_of(row)}{option}: top-1 {row.value:.2f}, 10-crop",
        *(f"table 4: top-1 {one.value:.2f}, dense at five sizes" for one in dense),
        OTHER_PROTOCOL,
    ]


def _torchvisions(net: str) -> str:
    """torchvision's own number for its second recipe, from its record of the weights."""
    weights = torchvision.models.get_model_weights(net)
    second = next((w for w in weights if w.name == "IMAGENET1K_V2"), None)
    if second is None:
        return f"{NO_NUMBER} (torchvision's references, for ResNet-50 and deeper)"
    error = 100 - second.meta["_metrics"]["ImageNet-1K"]["acc@1"]
    return f"torchvision's references, weights {second.name}: top-1 {error:.2f}, 1-crop"


def _other_shortcut(row: Pretraining) -> str:
    """The note where the paper has no number for the shortcuts that our net is built with."""
    if row.recipe or not row.numbered or row.net.startswith("cifar"):
        return ""
    number, ours = top1(row)[0], built_shortcut(row)
    if number.shortcut == ours:
        return ""
    return (
        f"shortcuts are option {ours}, as in the paper's deeper nets; {number.source}'s are "
        f"option {number.shortcut}, which is imagenet_{row.net}_{str(number.shortcut).lower()}"
    )


def _cifar_error(preset: Pretraining) -> list[str]:
    """With mean and deviation where the paper trained it several times."""
    rows = published(
        source="table 6", net=preset.net, metric="error", shortcut=built_shortcut(preset)
    )
    single, *runs = (f"{row.value:.2f}" for row in rows)
    return [f"{table_of(rows[0])}: error {single}" + (f" ({' +- '.join(runs)})" if runs else "")]
