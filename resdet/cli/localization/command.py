"""`train_loc`: trains or tests the localiser of ImageNet's LOC, He et al. 2015, appendix C.

Not for: what it trains (`resdet.detect.localization`).
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any

from detectron2.utils import comm

from resdet.cli.training import auto_weights, starting_point, training_command
from resdet.cli.training.detection_sets import load_set, refuse_leak
from resdet.cli.training.run_folder import run_folder
from resdet.cli.training.stored_config import as_in_run, config_of
from resdet.config import Config, data_options, refuse_keys_of_other
from resdet.data import DataOptions, DetectionSet, catalog
from resdet.data.images.reader import ImageReader
from resdet.detect.architecture import derived_keys
from resdet.detect.architecture.model import build_faults_as_pages
from resdet.detect.localization import loc_results
from resdet.detect.localization.localization_run import Localization, check_sets
from resdet.detect.plan import lines_of_absent_card
from resdet.engine.profiling import profiled
from resdet.engine.starts.start_checks import require_equal_shares
from resdet.errors import ConfigError, RunError
from resdet.printable import show
from resdet.run import layout
from resdet.run.folder import Run, utc_now
from resdet.text_table import ruled
from resdet.weights import Card
from resdet.weights.resolve import WeightFile


def run(args: argparse.Namespace) -> int:
    """Trains and tests, prints table 13's rows; gives the exit code."""
    if args.best:
        raise ConfigError("train_loc keeps the last nets alone. Leave --best out.")
    return training_command.run_with_config(
        main, args, name="train_loc", example="imagenet_loc_r101"
    )


def main(args: argparse.Namespace) -> int:
    with profiled(args, "train_loc"):
        return _main(args)


def _main(args: argparse.Namespace) -> int:
    config, name = training_command.read_config(args.config, args.opts), Path(args.config).stem
    training_command.take_output(args, config)
    training_command.refuse_test_without_steps(args)
    folder = training_command.folder_of(args, name)
    if args.eval_only:  # before it is asked what --eval-only tests; nothing is fetched
        auto_weights.settle(config, folder, args)
    training_command.decide_resume(args, name)
    refuse_keys_of_other(config, "train_loc")
    cfg = config.cfg
    if args.eval_only:
        _as_trained(config, folder)
    _check(cfg)
    if not args.explain:  # which asks for no data
        if not args.eval_only:
            catalog.require(list(cfg.DATASETS.TRAIN), annotated=True)
        catalog.require(list(cfg.DATASETS.TEST))
    is_here = auto_weights.settle(config, folder, args)
    tensors, card = ({}, None) if args.eval_only else _start(config, is_here=is_here)
    if args.resume and not args.eval_only:
        starting_point.refuse_changed(card, cfg.MODEL.WEIGHTS, folder)
    if args.explain:
        if comm.is_main_process():
            show(explain(config, is_here=is_here))
        return 0
    options = DataOptions(**data_options(cfg), masks=False)
    train = None if args.eval_only else load_set(cfg.DATASETS.TRAIN[0], options)
    test = load_set(cfg.DATASETS.TEST[0], dataclasses.replace(options, allow_missing=0))
    check_sets(train, test)
    leak = refuse_leak(cfg, [train] if train else [], [test])
    asked = loc_results.classes_asked(test, cfg.LOC.SCORES)
    with run_folder(args, config, "localization", name) as made:
        with build_faults_as_pages(config):
            work = Localization(
                cfg, made, train, test, asked, ImageReader(options), tensors, cfg.MODEL.WEIGHTS
            )
        if card is not None and comm.is_main_process():
            made.write(layout.CARD, card.to_dict())
        made.note_weights_source(card.source if card is not None else {})
        if leak:
            made.update(leak=leak)
        rpn, rcnn = work.loaded() if args.eval_only else work.trained()
        rows = work.tested(rpn, rcnn, resuming=args.resume and not args.eval_only)
        made.update(state="finished", finished=utc_now())
    if comm.is_main_process():
        show("\n".join(report(test, rows)))
        show(f"\nrun folder: {made.path}")
    return 0


def report(test: DetectionSet, rows: list[dict[str, Any]]) -> list[str]:
    """Table 13's rows, and what to do with a file."""
    out = sum(bool(record.get("not_scored")) for record in test.records)
    return [
        f"{test.name}: {len(test):,} images, boxes of {out:,} blacklisted; errors in percent "
        "(ILSVRC LOC)",
        "",
        *ruled(loc_results.HEAD, loc_results.table(rows), left=(0, 1, 3, 6)),
    ]


def _check(cfg: Any) -> None:
    """Raises ConfigError for keys that do not fit each other."""
    sides = {"LOC.JITTER": min(cfg.LOC.JITTER), "LOC.TEST_SIDE": cfg.LOC.TEST_SIDE}
    for key, side in sides.items():
        if side < cfg.LOC.CROP:
            raise ConfigError(
                f"{key} is {side}, smaller than LOC.CROP {cfg.LOC.CROP}: no crop fits. Raise it."
            )
    if cfg.LOC.JITTER[0] > cfg.LOC.JITTER[1]:
        raise ConfigError(f"LOC.JITTER is {tuple(cfg.LOC.JITTER)}. Give the smaller side first.")
    for key in ("TRAIN", "TEST"):
        names = cfg.DATASETS[key]
        if len(names) != 1:
            raise ConfigError(f"DATASETS.{key} has {len(names)} sets, and train_loc takes one.")
    if not cfg.MODEL.NET.NAME and not cfg.MODEL.WEIGHTS:
        raise ConfigError("MODEL.NET.NAME is empty. Name a net, or give MODEL.WEIGHTS with a card.")


def _as_trained(config: Config, folder: Path) -> None:
    """Gives the config of --eval-only the values that the run in `folder` was made with.

    Raises:
        RunError: there is no run, or MODEL.WEIGHTS or another stated key is not the run's.
    """
    run = Run.open(folder) if (folder / layout.RUN).exists() else None
    if run is None or run.kind != "localization":
        raise RunError(
            f"{folder} is {f'a {run.kind} run' if run else 'no run folder'}, and --eval-only tests "
            "the nets of a train_loc run. Name one with --output DIR, or train it: leave "
            "--eval-only out."
        )
    stated = config.cfg.MODEL.WEIGHTS
    made_from = config_of(run)["MODEL"]["WEIGHTS"]
    if stated not in ("", made_from):
        raise RunError(
            f"MODEL.WEIGHTS is {stated}, but the nets of {folder} were made from "
            f"{made_from or 'random weights'}, and --eval-only tests these. Leave MODEL.WEIGHTS "
            "out, or name another run with --output DIR."
        )
    as_in_run(config, run)


def _start(config: Config, *, is_here: bool) -> tuple[dict[str, Any], Card | None]:
    """The classifier's tensors and card, nothing for random weights and for those that are not
    here; the config gets what the card determines.

    Raises:
        ConfigError: nothing to start from, and FROM_SCRATCH not set; a batch that the processes
            cannot share. WeightsError: a bad file.
    """
    cfg = config.cfg
    require_equal_shares({"SOLVER.IMS_PER_BATCH": cfg.SOLVER.IMS_PER_BATCH})
    training_command.refuse_part_of_nothing(cfg)
    if not cfg.MODEL.WEIGHTS:
        if not cfg.TRANSFER.FROM_SCRATCH:
            raise ConfigError(
                "MODEL.WEIGHTS is empty. Give it the model.safetensors of a pretraining run, or "
                "set TRANSFER.FROM_SCRATCH True to train from random weights."
            )
        config.fill({"MODEL.BACKBONE.FREEZE_AT": 0}, "random weights are never frozen")
        return {}, None
    if not is_here:
        return {}, None
    file = WeightFile(cfg.MODEL.WEIGHTS, cfg.MODEL.WEIGHTS_PART or None)
    tensors, card = file.load()
    config.fill(derived_keys.of_card(card), f"the card of {cfg.MODEL.WEIGHTS}")
    return dict(tensors), card


def explain(config: Config, *, is_here: bool = True) -> str:
    """What would be done and why, without data."""
    cfg = config.cfg
    steps = [f"the per-class RPN, {cfg.SOLVER.MAX_ITER} steps of {cfg.SOLVER.IMS_PER_BATCH} crops"]
    if cfg.LOC.RCNN == "on":
        number = cfg.LOC.RCNN_ITERS or cfg.SOLVER.MAX_ITER
        steps += [f"{cfg.LOC.PROPOSALS} proposals of each training image",
                  f"R-CNN, {number} steps of {cfg.SOLVER.IMS_PER_BATCH} regions"]  # fmt: skip
    return "\n".join(
        [
            f"Localise with {cfg.MODEL.NET.NAME} on {cfg.DATASETS.TRAIN[0]}: {'; '.join(steps)}; "
            f"test on {cfg.DATASETS.TEST[0]}, {' and '.join(cfg.LOC.TEST)}, for the known class"
            + (f" and the five best of {cfg.LOC.SCORES}." if cfg.LOC.SCORES else "."),
            f"Weights: {cfg.MODEL.WEIGHTS or 'none, from scratch'}"
            + ("" if is_here else " (not here yet)"),
            "",
            config.explain(),
            *([] if is_here else lines_of_absent_card(config)),
        ]
    )
