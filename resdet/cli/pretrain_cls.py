"""`pretrain_cls`: trains or scores a classifier. Without a config: the embedded digits."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import Any

from detectron2.utils import comm

from resdet import weights
from resdet.cli import training_command
from resdet.cli.arguments import pretrain_cls as add_arguments  # noqa: F401 as all commands have
from resdet.config import (
    Config,
    data_options,
    net_options,
    presets,
    refuse_keys_of_other,
    refuse_late_flags,
)
from resdet.data import DataOptions, catalog
from resdet.engine import processes
from resdet.engine.profiling import profiled
from resdet.engine.speed.torch_compile import require_compiler
from resdet.errors import ConfigError, RunError
from resdet.pretrain.trainer import Pretraining
from resdet.run import layout
from resdet.run.folder import Run

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
    device = training_command.device_of(args.config or DEFAULT_CONFIG, args.opts)
    return processes.run_in_processes(main, args, device)


def main(args: argparse.Namespace) -> int:
    with profiled(args, "pretrain_cls"):
        return _main(args)


def _main(args: argparse.Namespace) -> int:
    config = training_command.read_config(args.config or DEFAULT_CONFIG, args.opts)
    if not args.config:
        logging.getLogger().warning(IMAGENET_HINT)
    name = Path(args.config or DEFAULT_CONFIG).stem
    training_command.decide_resume(args, name)
    refuse_keys_of_other(config, "pretrain_cls")
    cfg = config.cfg
    if args.eval_only:
        training_command.as_in_run(config, Run.open(training_command.folder_of(args, name)))
    _check(cfg)
    catalog.require([s for s in (cfg.PRETRAIN.TRAIN, cfg.PRETRAIN.VAL, cfg.PRETRAIN.TEST) if s])
    with training_command.run_folder(args, config, "classification", name) as folder:
        scores = (
            _score_only(config, folder) if args.eval_only else _train(config, folder, args.resume)
        )
    if not comm.is_main_process():
        return 0
    for data_set, values in scores.items():
        images = values["images"]["evaluated"]
        print(
            f"{data_set}: top-1 error {values['top1_error']:.2f} %, top-5 error "
            f"{values['top5_error']:.2f} % (1-crop, {images} images)"
        )
    print(f"classifier with its card: {folder.path / layout.CLASSIFIER}")
    return 0


def _check(cfg: Any) -> None:
    """Raises ConfigError for crops that cannot be cut, and where nothing compiles."""
    if cfg.PRETRAIN.TEST_SIDE < cfg.PRETRAIN.CROP:
        raise ConfigError(
            f"PRETRAIN.TEST_SIDE is {cfg.PRETRAIN.TEST_SIDE}, PRETRAIN.CROP {cfg.PRETRAIN.CROP}: "
            "a crop does not fit into a smaller image. Raise TEST_SIDE (paper: 256 for 224)."
        )
    if cfg.ENGINE.COMPILE == "on":
        require_compiler(cfg.MODEL.DEVICE)


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
    tensors, _ = weights.load(path)
    weights.transfer(trainer.net, tensors, where=str(path), optional=())
    return trainer.score()
