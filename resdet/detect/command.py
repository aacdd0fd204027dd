"""`train_det`: trains or scores a detector, station by station as docs/architecture.md has it."""

from __future__ import annotations

import argparse
import dataclasses
import logging
from pathlib import Path
from typing import Any

from detectron2.utils import comm

from resdet import nets, weights
from resdet.config import Config, data_options
from resdet.data import DataOptions, DetectionSet, catalog
from resdet.data.images import ImageReader
from resdet.detect import facts
from resdet.detect.backbone import build_net
from resdet.detect.trainer import FINAL, DetectorTraining
from resdet.engine import command, processes
from resdet.errors import ConfigError, RunError, WeightsError
from resdet.evaluation.commands import coco_table, voc_table
from resdet.weights import Card
from resdet.weights.files import read_tensors

logger = logging.getLogger("resdet.detect")

FROM_SCRATCH_NOTICE = (
    "MODEL.WEIGHTS is empty: this detector starts from random weights, with live batch norm. "
    "That is no transfer, and not the paper's row. Pretrain first:\n"
    "  python tools/pretrain_cls.py --config configs/pretrain/imagenet_{net}.yaml\n"
    "then add: MODEL.WEIGHTS runs/imagenet_{net}/model.safetensors"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--explain", action="store_true", help="print what would be done and why; train nothing"
    )
    command.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    if not args.config:
        raise ConfigError(
            "train_det needs --config FILE, such as configs/coco_r101.yaml "
            "or configs/voc07_r101.yaml."
        )
    return processes.run_in_processes(main, args)


def main(args: argparse.Namespace) -> int:
    config = command.read_config(args.config, args.opts)
    cfg = config.cfg
    catalog.require(list(cfg.DATASETS.TRAIN), annotated=True)
    catalog.require(list(cfg.DATASETS.TEST), annotated=True)
    tensors, card = _read_weights(config, args)
    fill_from_weights_and_net(config, card)
    if args.explain:
        print(explain(config, card))
        return 0
    options = DataOptions(**data_options(cfg))
    train_sets = [] if args.eval_only else [_load(n, options) for n in cfg.DATASETS.TRAIN]
    # A test set is whole or it is no test set (F1).
    whole = dataclasses.replace(options, allow_missing=0)
    test_sets = [_load(n, whole) for n in cfg.DATASETS.TEST]
    train_sets, test_sets = _in_one_order(train_sets), _in_one_order(test_sets, train_sets)
    config.fill(facts.of_sets(train_sets, test_sets), "the data sets")
    leak = _refuse_leak(cfg, train_sets, test_sets)
    with command.run_folder(args, config, "detection", Path(args.config).stem) as run:
        if leak:
            run.update(leak=leak)
        training = DetectorTraining(cfg, run, train_sets, test_sets, ImageReader(options))
        if tensors is not None:
            training.load_detector(tensors, str(cfg.MODEL.WEIGHTS))
        elif card is not None and not args.resume:
            training.load_backbone(_tensors(cfg), cfg.MODEL.WEIGHTS)
        if card is not None:
            run.write("card", card.to_dict())
        if card is None and tensors is None:
            logger.warning(FROM_SCRATCH_NOTICE.format(net=cfg.MODEL.NET.NAME))
        if not args.eval_only:
            training.train(resuming=args.resume)
        numbers = training.evaluate()
        training.finish()
    if not comm.is_main_process():
        return 0
    for name, result in numbers.items():
        print(f"\n{name}")
        if result.voc:
            print(voc_table(result.voc.primary))
        if result.coco:
            print(coco_table(result.coco))
    print(f"\nrun folder: {run.path}")
    return 0


def _load(name: str, options: DataOptions) -> DetectionSet:
    data = catalog.load_detection(name, options=options)
    logger.info("%s: %s", name, ", ".join(f"{k} {v}" for k, v in data.counts.items()))
    for note in data.notes:
        logger.warning("%s: %s", name, note)
    return data


def _in_one_order(
    sets: list[DetectionSet], like: list[DetectionSet] | None = None
) -> list[DetectionSet]:
    """Sets with the same class names in another order are mapped by name (F4)."""
    classes = next((s.classes for s in (like or sets)), ())
    return [
        catalog.with_classes(s, classes)
        if s.classes != classes and set(s.classes) == set(classes)
        else s
        for s in sets
    ]


def _tensors(cfg: Any) -> dict[str, Any]:
    tensors, _ = weights.load(cfg.MODEL.WEIGHTS)
    return tensors


def _read_weights(config: Config, args: argparse.Namespace) -> tuple[Any, Card | None]:
    """(tensors of a whole detector or None, card of a classifier or None).

    Raises:
        ConfigError: nothing to start from, and FROM_SCRATCH not said. WeightsError: a bad file.
    """
    cfg = config.cfg
    if args.eval_only and not cfg.MODEL.WEIGHTS:
        folder = Path(args.output or f"runs/{Path(args.config).stem}")
        if not (folder / FINAL).exists():
            raise RunError(
                f"{folder} has no {FINAL} to score. Finish the run, or give MODEL.WEIGHTS."
            )
        cfg.MODEL.WEIGHTS = str(folder / FINAL)
    path = cfg.MODEL.WEIGHTS
    if not path:
        if not cfg.TRANSFER.FROM_SCRATCH:
            raise ConfigError(
                "MODEL.WEIGHTS is empty. Give it the model.safetensors of a pretraining run, "
                "or say TRANSFER.FROM_SCRATCH True to train from random weights."
            )
        return None, None
    if not path.endswith(".safetensors"):
        tensors = read_tensors(Path(path))
        if any(name.startswith("backbone.") for name in tensors):
            return tensors, _card_beside(Path(path))
        if args.eval_only:
            raise WeightsError(
                f"{path} holds a classifier; --eval-only needs a detector ({FINAL})."
            )
    _, card = weights.load(path)
    return None, card


def _card_beside(model: Path) -> Card | None:
    """The card of the weights that a run's detector started from: its input must look the same."""
    path = model.parent / "card.json"
    if not path.exists():
        return None
    return Card.from_json(path.read_text(encoding="utf-8"), str(path))


def fill_from_weights_and_net(config: Config, card: Card | None) -> nets.Net | None:
    """Fills what card and net decide; refuses what contradicts them.

    Raises:
        ConfigError: a stated key says otherwise, or live norms would meet folded statistics (F21).
    """
    cfg = config.cfg
    if card is not None:
        config.fill(facts.of_card(card), f"the card of {cfg.MODEL.WEIGHTS}")
        if card.norm.get("folded") and cfg.MODEL.NET.NORM == "BN":
            raise ConfigError(
                f"MODEL.NET.NORM is BN, but the norms of {cfg.MODEL.WEIGHTS} are folded into its "
                "convolutions: they can only stay frozen. Say MODEL.NET.NORM auto."
            )
    elif not cfg.MODEL.WEIGHTS:
        config.fill({"MODEL.BACKBONE.FREEZE_AT": 0}, "random weights are never frozen")
    if not cfg.MODEL.NET.NAME:
        return None
    net = build_net(cfg)
    config.fill(facts.of_net(net), f"the net {cfg.MODEL.NET.NAME}")
    return net


def explain(config: Config, card: Card | None) -> str:
    """What would be done and why: every key that is not a default, with its reason."""
    cfg = config.cfg
    lines = [
        f"Train {cfg.MODEL.NET.NAME or cfg.MODEL.BACKBONE.NAME} on "
        f"{', '.join(cfg.DATASETS.TRAIN)}: "
        f"{cfg.SOLVER.MAX_ITER} steps of {cfg.SOLVER.IMS_PER_BATCH} images, on {cfg.MODEL.DEVICE}; "
        f"test on {', '.join(cfg.DATASETS.TEST)}.",
        f"Weights: {cfg.MODEL.WEIGHTS or 'none, from scratch'}"
        + (f" ({card.net}, trained on {card.data.get('name', 'unknown data')})" if card else ""),
        "",
        config.explain(),
    ]
    return "\n".join(lines)


def _refuse_leak(cfg: Any, train: list[DetectionSet], test: list[DetectionSet]) -> str:
    """Training images among the test images are refused (F6), but for a set named on both sides.

    The same *name* in TRAIN and TEST is stated in plain sight, as for a trial run: the run and its
    report then carry the sentence that this gives. Raises DataError otherwise.
    """
    if not train or not test:
        return ""
    same = sorted({s.name for s in train} & {s.name for s in test})
    others = [s for s in test if s.name not in same]
    if others and not cfg.EVAL.ALLOW_LEAK:
        catalog.overlap(train, others)
    if same:
        sentence = (
            f"trained and tested on the same images ({', '.join(same)}): the AP means nothing"
        )
        logger.warning(sentence)
        return sentence
    return "test images may be training images (EVAL.ALLOW_LEAK)" if cfg.EVAL.ALLOW_LEAK else ""
