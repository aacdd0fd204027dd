"""A classifier's file, ours or another's, scored on sets of labelled images.

Net, input and classes come from its card or its origin's rules; nothing is trained, and no training
set is read.

Not for: a run's own classifier (`trainer`), or whose file it is (`resdet.weights`).
"""

from __future__ import annotations

import logging
import math
from dataclasses import replace
from typing import Any

import torch
import yaml
from detectron2.utils import comm

from resdet import nets, weights
from resdet.data import catalog
from resdet.data.records import with_labels_of
from resdet.engine.speed.precision import Precision
from resdet.engine.versions import versions
from resdet.errors import ConfigError, WeightsError
from resdet.nets.timm_maps import first_line
from resdet.pretrain.recipe.mean_image import MeanImage, require_square
from resdet.pretrain.set_scores import Preparation, score_sets
from resdet.run import layout
from resdet.run.folder import Run, utc_now
from resdet.weights import Card
from resdet.weights.cards import timm_record
from resdet.weights.formats.contents import Tensors
from resdet.weights.origins.identify import is_detectron2_detector
from resdet.weights.resolve import WeightFile

logger = logging.getLogger("resdet.pretrain")

# What timm's record states of its test.
_TIMM_TEST = ("crop_pct", "interpolation")


def load_classifier(file: WeightFile) -> tuple[Tensors, Card]:
    """The tensors of a classifier, and its card.

    Raises:
        WeightsError: the file does not load, or holds a detector.
    """
    if not file.has_card_inside and is_detectron2_detector(file.contents.tensors):
        raise WeightsError(
            f"{file.where} holds a detector, which has no last layer for whole images. Score it "
            "with train_det --eval-only."
        )
    tensors, card = file.load()
    has_record = card.origin == "timm" and "timm" not in card.data
    if has_record and (record := timm_record(file.path)):
        stated = {k: v for k, v in record["pretrained_cfg"].items() if k in _TIMM_TEST}
        card = replace(card, data={**card.data, "timm": stated})
    if aside := file.left_aside():
        logger.info("%s: %s", file.where, aside)
    return tensors, card


def crops_of(card: Card) -> dict[str, Any]:
    """The keys of the 1-crop test that a card decides, where the user states no others.

    The shorter side is the training's own; else by timm's record; else 256 for 224, and CIFAR's
    images whole.
    """
    size = card.input.size
    facts = {"PRETRAIN.CROP": size, "INPUT.EXIF": card.input.exif}
    try:
        ours = yaml.safe_load(card.config)["PRETRAIN"]
        if ours["CROP"] == size:
            return {**facts, "PRETRAIN.TEST_SIDE": int(ours["TEST_SIDE"])}
    except (yaml.YAMLError, KeyError, TypeError, ValueError):
        pass  # no file of ours
    share = card.data.get("timm", {}).get("crop_pct")
    if isinstance(share, int | float) and 0 < share <= 1:
        # Downwards, as timm's own transform.
        return {**facts, "PRETRAIN.TEST_SIDE": math.floor(size / share)}
    share = 1 if card.net.startswith("cifar_") else 224 / 256
    return {**facts, "PRETRAIN.TEST_SIDE": round(size / share)}


def score_file(
    cfg: Any, net_options: dict[str, Any], file: WeightFile, run: Run, options: Any
) -> dict[str, Any]:
    """Scores the file on PRETRAIN.VAL and TEST, and writes scores and card into the run folder.

    Args:
        cfg: with the net, the input and the crops of the file's card.

    Raises:
        WeightsError: the file has no last layer, or not every tensor has a place in the net.
        ConfigError: a set has other classes than the file, or the net takes no such crop.
        DataError: a set is missing or broken, or has classes that the file does not name.
    """
    tensors, card = load_classifier(file)
    outputs = number_of_outputs(tensors, cfg.MODEL.NET.NAME, net_options, file)
    if card.classes and len(card.classes) != outputs:
        raise WeightsError(
            f"{file.where} has {outputs} outputs, and its card names {len(card.classes)} classes. "
            "Correct the card."
        )
    sets = {
        name: _with_classes(catalog.load_classification(name, options=options), card, outputs, file)
        for name in (cfg.PRETRAIN.VAL, cfg.PRETRAIN.TEST)
        if name
    }
    try:
        net = nets.build(cfg.MODEL.NET.NAME, outputs, **net_options)
    except ValueError as error:
        raise ConfigError(f"MODEL.NET: {error}") from None
    received = weights.transfer(net, tensors, where=file.where, optional=())
    logger.info("%s: %s\n%s", file.where, received, received.table())
    _refuse_crop(net, cfg.PRETRAIN.CROP, card)
    precision = Precision.of_config(cfg)
    net.to(cfg.MODEL.DEVICE)
    if precision.channels_last:
        net.to(memory_format=torch.channels_last)
    mean_image = MeanImage.of_input(card.input)
    if mean_image is not None:
        for data in sets.values():
            require_square(data)
    scores = score_sets(cfg, net, Preparation(cfg, precision), sets, mean_image)
    if not comm.is_main_process():
        return scores
    run.write(layout.CARD, card.to_dict())
    run.write(layout.TRANSFER, {"file": file.where, **received.to_dict()})
    run.write(layout.CLASSIFICATION, scores)
    run.note_scored_file(file.where, source=file.source)
    run.update(
        state="finished",
        finished=utc_now(),
        versions=versions(),
        parent=card.tensors_sha256 or file.digest,
        net={
            "name": cfg.MODEL.NET.NAME,
            "options": net_options,
            "parameters": nets.parameters(net),
        },
    )
    return scores


def load_net(file: WeightFile) -> tuple[nets.Net, Card]:
    """The classifier of a file in evaluation mode, every tensor counted, and its card.

    Raises:
        WeightsError: it does not load, has no last layer, or not every tensor has a place.
        ConfigError: the card's net cannot be built.
    """
    tensors, card = load_classifier(file)
    outputs = number_of_outputs(tensors, card.net, card.net_options, file)
    net = nets.build(card.net, outputs, **card.net_options)
    received = weights.transfer(net, tensors, where=file.where, optional=())
    logger.info("%s: %s", file.where, received)
    return net.eval(), card


def number_of_outputs(
    tensors: Tensors, name: str, options: dict[str, Any], file: WeightFile
) -> int:
    """How many classes the last layer tells apart.

    Raises:
        WeightsError: there is no last layer. ConfigError: the net cannot be built.
    """
    try:
        outputs = nets.classes_in(tensors, name, **options)
    except (ValueError, ImportError) as error:
        raise ConfigError(f"MODEL.NET: {error}") from None
    if outputs is None:
        aside = f" ({file.left_aside()})" if file.left_aside() else ""
        raise WeightsError(
            f"{file.where} holds a {name} without its last layer{aside}: it classifies nothing. "
            "Train one on it with pretrain_cls MODEL.WEIGHTS, without --eval-only."
        )
    return outputs


def _with_classes(data: Any, card: Card, outputs: int, file: WeightFile) -> Any:
    """The set with labels that are places among the file's classes (F4, F22)."""
    if card.classes:
        return with_labels_of(data, card.classes)
    if len(data.classes) != outputs:
        raise ConfigError(
            f"{file.where} has {outputs} outputs and names no classes, and {data.name} has "
            f"{len(data.classes)} classes. Score it on a set with its own classes: PRETRAIN.VAL."
        )
    logger.warning(
        "%s does not name its classes: those of %s are taken to be its own, in their order "
        "(%s, …).",
        file.where,
        data.name,
        ", ".join(data.classes[:3]),
    )
    return data


def _refuse_crop(net: torch.nn.Module, crop: int, card: Card) -> None:
    """Raises ConfigError where the net takes no image of this size, as VGG's fc6 and ViTs."""
    if card.input.mean_image and crop != card.input.size:
        raise ConfigError(
            f"PRETRAIN.CROP is {crop}, and the card of {card.net} has a mean for each pixel of "
            f"{card.input.size} x {card.input.size}: leave PRETRAIN.CROP out."
        )
    net.eval()
    try:
        with torch.no_grad():
            net(torch.zeros(1, 3, crop, crop))
    # Each net fails in its own way.
    except (RuntimeError, AssertionError, ValueError) as error:
        raise ConfigError(
            f"PRETRAIN.CROP is {crop}, and {card.net} takes no such image "
            f"({first_line(error)}). Its card has {card.input.size}: leave "
            "PRETRAIN.CROP out."
        ) from None
