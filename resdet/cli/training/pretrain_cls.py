"""`pretrain_cls`: trains or scores a classifier. Without a config: the embedded digits."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import Any

import torch
from detectron2.utils import comm

from resdet import nets, weights
from resdet.cli.arguments import pretrain_cls as add_arguments  # noqa: F401 as all commands have
from resdet.cli.training import auto_weights, scored_run, training_command
from resdet.cli.training.run_folder import run_folder
from resdet.config import (
    Config,
    data_options,
    drop_path_option,
    net_options,
    presets,
    refuse_keys_of_other,
    refuse_late_flags,
)
from resdet.config.key_checks import pretraining_keys
from resdet.data import DataOptions, catalog
from resdet.detect.architecture import derived_keys
from resdet.engine import processes
from resdet.engine.profiling import profiled
from resdet.engine.speed.torch_compile import require_compiler
from resdet.errors import ConfigError, RunError
from resdet.file_names import file_name
from resdet.pretrain.file_scores import crops_of, load_classifier, score_file
from resdet.pretrain.recipe.mean_image import MeanImage
from resdet.pretrain.recipe.plan import plan_of_classifier
from resdet.pretrain.set_scores import in_words
from resdet.pretrain.trainer import Pretraining
from resdet.printable import show
from resdet.run import layout
from resdet.run.folder import Run
from resdet.weights.addresses.fetch import is_address, name_of
from resdet.weights.resolve import WeightFile

logger = logging.getLogger("resdet.pretrain")

DEFAULT_CONFIG = presets.root() / "demo" / "pretrain_resnet.yaml"
IMAGENET_HINT = (
    "No --config: training on the embedded digits. For ImageNet, put it at "
    "datasets/imagenet/{train,val} (or set DETECTRON2_DATASETS) and run:\n"
    "  resdet pretrain_cls --config imagenet_resnet50"
)


def run(args: argparse.Namespace) -> int:
    refuse_late_flags(args.opts)
    if args.config:
        args.config = str(presets.find(args.config))
    elif _own_config(args) and "MODEL.DEVICE" not in args.opts[::2]:
        # The run's own was that of its machine.
        args.opts = ["MODEL.DEVICE", "auto", *args.opts]
    device = training_command.device_of(_config_file(args), args.opts)
    return processes.run_in_processes(main, args, device)


def main(args: argparse.Namespace) -> int:
    with profiled(args, "pretrain_cls"):
        return _main(args)


def _main(args: argparse.Namespace) -> int:
    config_file = _config_file(args)
    config = training_command.read_config(config_file, args.opts)
    training_command.take_output(args, config)
    cfg = config.cfg
    if config_file == DEFAULT_CONFIG and not args.eval_only:
        logging.getLogger().warning(IMAGENET_HINT)
    training_command.refuse_test_without_steps(args)
    name = Path(config_file).stem if config_file else f"score_{_name_of(cfg.MODEL.WEIGHTS)}"
    source = scored_run.run_of_best(args, config, name, layout.BEST_CLASSIFIER)
    training_command.decide_resume(args, name)
    refuse_keys_of_other(config, "pretrain_cls")
    if cfg.MODEL.WEIGHTS == auto_weights.AUTO:
        raise ConfigError(
            "MODEL.WEIGHTS is auto: what a detector starts from (train_det, train_loc). A "
            "classifier starts from random weights: leave it out, or name a file."
        )
    if not args.eval_only:
        pretraining_keys.settle(config, processes=comm.get_world_size())
    training_command.refuse_part_of_nothing(cfg)
    folder_path = training_command.folder_of(args, name)
    file = _file_to_score(config, folder_path, args, source)
    # A folder that is there has its own values, as they were at first.
    if file is not None and not (folder_path / layout.RUN).exists():
        _fill_from_card(config, file)
    _check(cfg)
    if args.explain:
        if comm.is_main_process():
            show(explain(config))
        return 0
    trains = () if file is not None else (cfg.PRETRAIN.TRAIN,)
    catalog.require([s for s in (*trains, cfg.PRETRAIN.VAL, cfg.PRETRAIN.TEST) if s])
    if args.estimate:
        return _estimate(args, config, folder_path)
    with run_folder(args, config, "classification", name) as folder:
        if source:
            scored_run.record_best(folder, source, config)
        if file is not None:
            options = DataOptions(**data_options(cfg))
            scores = score_file(cfg, net_options(cfg), file, folder, options)
        elif args.eval_only:
            scores = _score_only(config, folder)
        else:
            scores = _train(config, folder, args.resume)
    if not comm.is_main_process():
        return 0
    for data_set, errors in scores.items():
        show(f"{data_set}: {in_words(errors)}")
    own = folder.path / layout.CLASSIFIER
    show(f"classifier with its card: {own}" if own.exists() else f"run folder: {folder.path}")
    return 0


def explain(config: Config) -> str:
    """What would be done and why, without data: the plan, and every key that is not a default.

    Raises:
        ConfigError: there is no such net.
    """
    cfg = config.cfg
    options = {**net_options(cfg), **drop_path_option(cfg)}
    try:
        with torch.device("meta"):
            net = nets.build(cfg.MODEL.NET.NAME, **options)
    except ValueError as error:
        raise ConfigError(f"MODEL.NET: {error}") from None
    tests = ", ".join(s for s in (cfg.PRETRAIN.VAL, cfg.PRETRAIN.TEST) if s)
    lines = [
        f"Train {cfg.MODEL.NET.NAME} on {cfg.PRETRAIN.TRAIN}, on {cfg.MODEL.DEVICE}; test on "
        f"{tests or 'no set'}.",
        *plan_of_classifier(cfg, net).lines(),
        "Time and memory: the same command with --estimate instead of --explain.",
        "",
        config.explain(),
    ]
    return "\n".join(lines)


def _estimate(args: argparse.Namespace, config: Config, folder: Path) -> int:
    """Prints the plan and what a few steps show; the folder for them is removed."""
    args.output = f"{folder}.estimate"
    args.resume = False
    with run_folder(args, config, "classification", folder.name) as run:
        plan, found = _trainer(config, run).estimate()
        comm.synchronize()
        if comm.is_main_process():
            run.discard()
    if comm.is_main_process():
        show("\n".join(plan.lines()))
        show(found.line())
    return 0


def _config_file(args: argparse.Namespace) -> str | Path | None:
    """The config: of a run that is scored again its own; none for a file, whose card has what a
    config would state."""
    if args.config:
        return str(args.config)
    if own := _own_config(args):
        return own
    return None if args.eval_only and "MODEL.WEIGHTS" in args.opts[::2] else DEFAULT_CONFIG


def _own_config(args: argparse.Namespace) -> Path | None:
    """That of the classifier's run which --eval-only is about; None where there is no such run."""
    stated = dict(zip(args.opts[::2], args.opts[1::2], strict=False))
    folder = Path(args.output or stated.get("OUTPUT_DIR") or "")
    if not args.eval_only or not (folder / layout.RUN).exists():
        return None
    return folder / layout.CONFIG if Run.open(folder).kind == "classification" else None


def _name_of(weights: str) -> str:
    """A folder's name for a file or an address; of two addresses another one."""
    return file_name(name_of(weights)) if is_address(weights) else Path(weights).stem


def _file_to_score(
    config: Config, folder: Path, args: argparse.Namespace, source: Run | None
) -> WeightFile | None:
    """The file of --eval-only, into a folder of its own; None for a run's own classifier.

    Args:
        source: with --best, the run whose best classifier it is.

    Raises:
        RunError: there is nothing to score, or the folder is another classifier's.
    """
    if not args.eval_only:
        return None
    if source:
        return WeightFile(str(source.path / layout.BEST_CLASSIFIER))
    cfg = config.cfg
    run = scored_run.run_to_score(config, folder, layout.CLASSIFIER, layout.BEST_CLASSIFIER)
    if run and not run.scored_file:
        return None
    if run and "best_of" in run.info:
        return WeightFile(str(run.scored_file))
    if run and not is_address(cfg.MODEL.WEIGHTS):
        return WeightFile(str(run.scored_file), cfg.MODEL.WEIGHTS_PART or None)
    if not cfg.MODEL.WEIGHTS:
        raise RunError(
            f"{folder} is no run folder, and MODEL.WEIGHTS is empty: nothing to score. Give a "
            "file, MODEL.WEIGHTS FILE, or the folder of a finished run, --output DIR."
        )
    return WeightFile(cfg.MODEL.WEIGHTS, cfg.MODEL.WEIGHTS_PART or None)


def _fill_from_card(config: Config, file: WeightFile) -> None:
    """The net, its input and its crops; of the sets those that the user named.

    Raises:
        ConfigError: net or input were stated otherwise. WeightsError: the file does not load.
    """
    _, card = load_classifier(file)
    source = f"the card of {file.where}"
    facts = derived_keys.of_card(card)
    # A detector states its own; the tensors of this classifier are of that one.
    if side := card.net_options.get("image_size"):
        facts["MODEL.NET.IMAGE_SIZE"] = side
    config.fill(facts, source)
    crops = {k: v for k, v in crops_of(card).items() if k not in config.stated}
    config.fill(crops, source)
    if "PRETRAIN.TEST" in config.stated and "PRETRAIN.VAL" not in config.stated:
        config.fill({"PRETRAIN.VAL": ""}, "PRETRAIN.TEST alone is named")


def _check(cfg: Any) -> None:
    """Raises ConfigError for crops that cannot be cut, and where nothing compiles."""
    if cfg.PRETRAIN.TEST_SIDE < cfg.PRETRAIN.CROP:
        raise ConfigError(
            f"PRETRAIN.TEST_SIDE is {cfg.PRETRAIN.TEST_SIDE}, PRETRAIN.CROP {cfg.PRETRAIN.CROP}: "
            "a crop does not fit into a smaller image. Raise TEST_SIDE (paper: 256 for 224)."
        )
    if cfg.ENGINE.COMPILE == "on":
        require_compiler(cfg.MODEL.DEVICE)
        if cfg.ENGINE.ACTIVATION_CHECKPOINTING == "on":
            raise ConfigError(
                "ENGINE.COMPILE and ENGINE.ACTIVATION_CHECKPOINTING are both on: a compiled step "
                "decides itself what it keeps. Set one of them to off."
            )


def _trainer(config: Config, folder: Run) -> Pretraining:
    options = DataOptions(**data_options(config.cfg))
    return Pretraining(config.cfg, net_options(config.cfg), folder, options)


def _train(config: Config, folder: Run, resuming: bool) -> dict:
    return _trainer(config, folder).train(resuming=resuming)


def _score_only(config: Config, folder: Run) -> dict:
    path = folder.path / layout.CLASSIFIER
    if not path.exists():
        raise RunError(
            f"{folder.path} has no {layout.CLASSIFIER} to score. Finish it with --resume."
        )
    trainer = _trainer(config, folder)
    tensors, card = weights.load(path)
    folder.refuse_weights_of_another(path, card.training.get("run"))
    weights.transfer(trainer.net, tensors, where=str(path), optional=())
    # The one that it was trained with: the training images may have changed since.
    trainer.mean_image = MeanImage.of_input(card.input)
    return trainer.score()
