"""What a detector is filled with before it trains, or is scored: a classifier, a detector, nothing.

Not for: how tensors go into a model (`resdet.detect.starting_weights`).
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.utils import comm
from torch import nn

from resdet.cli.training import scored_run, training_command
from resdet.cli.training.stored_config import config_of
from resdet.config import Config
from resdet.detect import from_run
from resdet.detect.starting_weights import load_backbone
from resdet.detect.trainer import DetectorTraining
from resdet.errors import ConfigError, RunError
from resdet.run import layout
from resdet.run.folder import Run
from resdet.weights import Card
from resdet.weights.addresses.fetch import if_address
from resdet.weights.origins.identify import is_detectron2_detector
from resdet.weights.resolve import WeightFile
from resdet.weights.tensor_checks import refuse_norms_of_detector, refuse_not_finite

logger = logging.getLogger("resdet.detect")

FROM_SCRATCH_NOTICE = (
    "MODEL.WEIGHTS is empty: this detector starts from random weights, with live batch norm. "
    "That is no transfer, and not the paper's row. A transfer starts from a pretrained net: "
    "MODEL.WEIGHTS FILE, or MODEL.WEIGHTS auto, which looks for one of {net}."
)


@dataclasses.dataclass(frozen=True)
class StartingPoint:
    """What the model is filled with.

    Attributes:
        card: of the classifier that the detector starts from, or started from.
        tensors: of that classifier or of a whole detector, kept so that no file is read twice.
        detector: the file of a whole detector; "" for a classifier.
        classes: those that it is to be scored on.
        head_classes: those that its predictors were trained for, where a training starts.
        part: of a file of several nets, the detector's.
        is_in_checkpoint: the run goes on from a checkpoint, which has what became of the weights;
            there are no tensors here.
        is_here: there is a file to be read; without one a training can only be explained.
        source: where the file of an address came from; empty for a path.
    """

    card: Card | None = None
    tensors: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    detector: str = ""
    classes: tuple[str, ...] = ()
    head_classes: tuple[str, ...] = ()
    part: str = ""
    source: Mapping[str, str] = dataclasses.field(default_factory=dict)
    is_in_checkpoint: bool = False
    is_here: bool = True


def start_to_explain(cfg: Any) -> StartingPoint:
    """Of weights that are not here, and of which no more is known than whose they are."""
    is_whole = cfg.TRANSFER.HEADS == "by_name"
    return StartingPoint(detector=cfg.MODEL.WEIGHTS if is_whole else "", is_here=False)


def start_of_resumed(cfg: Any, folder: Path) -> StartingPoint | None:
    """What the run in `folder` began with, as its card has it; the weights are in its checkpoint.

    Their file may be gone by now, or another one. None where the run has no checkpoint.
    """
    if not cfg.MODEL.WEIGHTS or not (folder / layout.RUN).exists():
        return None
    run = Run.open(folder)
    # Of the four steps each has its own, and `fill_again` what it needs.
    is_joint = cfg.SOLVER.SCHEME == "joint"
    if config_of(run)["MODEL"]["WEIGHTS"] != cfg.MODEL.WEIGHTS or (
        is_joint and not has_checkpoint(run)
    ):
        return None
    is_whole = "heads" in (run.read(layout.TRANSFER) or {})
    file = run.path / layout.CARD
    if not file.exists() and not is_whole:
        return None
    return StartingPoint(
        Card.read(file) if file.exists() else None, detector=cfg.MODEL.WEIGHTS if is_whole else "",
        is_in_checkpoint=True,
    )  # fmt: skip


def has_checkpoint(run: Run) -> bool:
    return any(run.checkpoints.glob(layout.CHECKPOINT_FILES))


def fill_again(training: DetectorTraining, start: StartingPoint, whole: Run) -> None:
    """The classifier into one of the four steps of a run; not into one with a checkpoint.

    Args:
        whole: the run of all four.

    Raises:
        RunError: the file has other weights by now. WeightsError: it cannot be had.
    """
    cfg = training.cfg
    if start.is_in_checkpoint:
        if has_checkpoint(training.run):
            return
        start = start_of_training(cfg)
        refuse_changed(start.card, cfg.MODEL.WEIGHTS, whole.path)
    if start.card is None:
        logger.warning(FROM_SCRATCH_NOTICE.format(net=cfg.MODEL.NET.NAME))
    else:
        training.load_backbone(start.tensors, cfg.MODEL.WEIGHTS)


def refuse_changed(card: Card | None, where: str, folder: Path) -> None:
    """Raises RunError where the run in `folder`, to be gone on with, began with other weights.

    Args:
        card: of the weights that are there now. where: their file.
    """
    file = folder / layout.CARD
    before = Card.read(file).tensors_sha256 if file.exists() else ""
    now = card.tensors_sha256 if card else ""
    if before and now and before != now:
        raise RunError(
            f"{folder} began with weights of SHA-256 {before[:12]}…, needs them again, and "
            f"{where} holds others by now ({now[:12]}…). Bring back the old file, or start a new "
            "run with another --output."
        )


def start_of_training(cfg: Any) -> StartingPoint:
    """From MODEL.WEIGHTS: a classifier with its card, a whole detector, or nothing.

    Raises:
        ConfigError: nothing to start from, and FROM_SCRATCH not set. WeightsError: a bad file.
    """
    path = cfg.MODEL.WEIGHTS
    training_command.refuse_part_of_nothing(cfg)
    if not path:
        if not cfg.TRANSFER.FROM_SCRATCH:
            raise ConfigError(
                "MODEL.WEIGHTS is empty. Give it the model.safetensors of a pretraining run, "
                "or set TRANSFER.FROM_SCRATCH True to train from random weights."
            )
        return StartingPoint()
    file = WeightFile(path, cfg.MODEL.WEIGHTS_PART or None)
    if file.path.suffix != ".safetensors":
        contents = file.contents
        refuse_not_finite(contents.tensors, path)
        if is_detectron2_detector(contents.tensors):
            classes = _classes_of_heads(cfg.TRANSFER.HEAD_CLASSES) or tuple(
                contents.beside.get("classes", ())
            )
            card = from_run.card_of_detector(file.path)
            return StartingPoint(
                card, contents.tensors, path, head_classes=classes, source=file.source
            )
    tensors, card = file.load()
    if aside := file.left_aside():
        logger.info("%s: %s", path, aside)
    return StartingPoint(card, tensors, source=file.source)


def _classes_of_heads(name: str) -> tuple[str, ...]:
    """The classes of a registered data set; its files need not be there.

    Raises:
        ConfigError: its classes are not known.
    """
    if not name:
        return ()
    classes = MetadataCatalog.get(name).get("thing_classes") if name in DatasetCatalog else None
    if not classes:
        raise ConfigError(
            f"TRANSFER.HEAD_CLASSES is {name!r}, which is no data set with known classes. Name "
            "one, such as coco_2017_val or voc_2007_test."
        )
    return tuple(classes)


def known_classes(cfg: Any) -> dict[str, Any]:
    """The number of classes without any file: of sets whose names are registered with theirs."""
    names = (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST)
    classes = {
        tuple(MetadataCatalog.get(name).get("thing_classes") or ())
        if name in DatasetCatalog
        else ()
        for name in names
    }
    known = classes.pop() if len(classes) == 1 else ()
    return {"MODEL.ROI_HEADS.NUM_CLASSES": len(known)} if known else {}


def refuse_unfit(cfg: Any, start: StartingPoint) -> None:
    """Raises ConfigError where a key speaks of predictors and none come, and where a whole detector
    is to begin the four steps."""
    if start.detector and cfg.SOLVER.SCHEME == "alternating":
        raise ConfigError(
            f"SOLVER.SCHEME is alternating, and {start.detector} holds a whole detector: steps 1 "
            "and 2 each begin with a classifier. Give a classifier, or set SOLVER.SCHEME joint."
        )
    if start.detector or not start.is_here:
        return
    what = f"{cfg.MODEL.WEIGHTS} is a classifier" if start.card else "MODEL.WEIGHTS is empty"
    if cfg.TRANSFER.HEAD_CLASSES:
        raise ConfigError(
            f"TRANSFER.HEAD_CLASSES is {cfg.TRANSFER.HEAD_CLASSES}, and {what}: there are no "
            "predictors whose classes it could name. Leave it out, or give a whole detector."
        )
    if cfg.TRANSFER.HEADS == "by_name":
        raise ConfigError(
            f"TRANSFER.HEADS is by_name, and {what}, so there are no predictors to copy. Give a "
            "whole detector, such as MODEL.WEIGHTS runs/coco_r101/model_final.pth, or set "
            "TRANSFER.HEADS new."
        )


def detector_to_score(config: Config, folder: Path, source: Run | None) -> StartingPoint:
    """The detector of --eval-only: the run's own, as it was made, or another into a new folder.

    Args:
        folder: of the run.
        source: with --best, the run whose best detector it is.

    Raises:
        RunError: there is nothing to score, or the folder is another detector's.
        WeightsError: MODEL.WEIGHTS holds no detector.
    """
    cfg, own = config.cfg, folder / layout.DETECTOR
    training_command.refuse_part_of_nothing(cfg)
    run = source or scored_run.run_to_score(config, folder, layout.DETECTOR, layout.BEST_DETECTOR)
    fetched = None if run else if_address(cfg.MODEL.WEIGHTS or own)
    path, is_own = (
        from_run.file_of(run, best=source is not None)
        if run
        else (fetched.path if fetched else Path(cfg.MODEL.WEIGHTS or own), False)
    )
    if not path.exists():
        raise RunError(
            f"{path} does not exist: nothing to score. Finish the run, or give MODEL.WEIGHTS."
        )
    part = from_run.part_of_detector(path, cfg, run)
    detector = from_run.read_detector(path, part=part, own=own, run=run if is_own else None)
    if not detector.classes:
        logger.warning(
            "%s does not name its classes: those of DATASETS.TEST are taken to be its own, in "
            "their order.",
            path,
        )
    return StartingPoint(
        detector.card, detector.tensors, str(path), detector.classes, part=part or "",
        source=fetched.record() if fetched else {},
    )  # fmt: skip


def fill(
    training: DetectorTraining, start: StartingPoint, run: Run, args: argparse.Namespace
) -> None:
    """Puts the weights into the model, and the card beside the run that they start."""
    cfg = training.cfg
    if args.eval_only and start.detector != str(run.path / layout.DETECTOR):
        run.note_scored_file(start.detector, start.part, start.source)
    if start.is_in_checkpoint:
        logger.info("%s: as in the run's checkpoint; the file is not read", cfg.MODEL.WEIGHTS)
    elif start.detector:
        heads = None if args.eval_only else start.head_classes
        if not args.eval_only:
            refuse_norms_of_detector(start.tensors, start.detector, cfg.MODEL.NET.NORM)
        training.load_detector(start.tensors, start.detector, heads)
    elif start.card is not None and not args.resume:
        training.load_backbone(start.tensors, cfg.MODEL.WEIGHTS)
    elif start.card is None:
        logger.warning(FROM_SCRATCH_NOTICE.format(net=cfg.MODEL.NET.NAME))
    record(start, run, args)


def try_backbone(cfg: Any, model: nn.Module, start: StartingPoint) -> None:
    """A classifier's weights into a model that is explained alone, as a training would take them.

    Raises:
        WeightsError: they do not fit the net.
    """
    if start.card is not None and start.tensors and not start.detector:
        load_backbone(model, start.tensors, cfg.MODEL.WEIGHTS, tuple(cfg.TRANSFER.NEW))


def record(start: StartingPoint, run: Run, args: argparse.Namespace) -> None:
    """What the run starts from: its card, and where the file of an address came from."""
    if start.card is not None and comm.is_main_process():
        run.write(layout.CARD, start.card.to_dict())
    if not args.eval_only:
        run.note_weights_source(start.source)
