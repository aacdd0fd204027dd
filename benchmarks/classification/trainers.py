"""The real classification trainer, made for a benchmark: the command's, without the command.

Not for: measuring.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from resdet.cli.training import training_command
from resdet.config import data_options, net_options
from resdet.data.options import DataOptions
from resdet.pretrain.trainer import Pretraining
from resdet.run.folder import Run

CONFIG = Path(__file__).resolve().parents[2] / "configs" / "pretrain" / "imagenet_resnet18.yaml"
# What the preset does beside plain steps of a short training; on the CPU unless stated.
PLAIN = ["MODEL.DEVICE", "cpu", "SOLVER.REFERENCE_BATCH", "0", "SOLVER.STEPS", "()",
         "SOLVER.CHECKPOINT_PERIOD", "0", "TEST.EVAL_PERIOD", "0", "PRETRAIN.BN_IMAGES", "0",
         "SOLVER.MAX_ITER", "1000000", "DATALOADER.NUM_WORKERS", "0"]  # fmt: skip
OFF = ["ENGINE.BF16", "off", "ENGINE.CHANNELS_LAST", "off", "ENGINE.FUSED_OPTIMIZER", "off",
       "ENGINE.KEEP_MEMORY", "off"]  # fmt: skip
BF16 = [*OFF, "ENGINE.BF16", "auto", "ENGINE.CHANNELS_LAST", "auto"]
# What gains for every net on a CPU with bf16 instructions.
AUTO = [*BF16, "ENGINE.FUSED_OPTIMIZER", "auto", "ENGINE.KEEP_MEMORY", "auto"]


class Enough(Exception):
    """Ends a training from within its stream of batches."""


def make_trainer(folder: Path, images: Path, opts: Sequence[str]) -> Pretraining:
    """A training of the ImageNet preset on a folder of classes, its run in `folder`.

    opts: KEY VALUE … over `PLAIN`.
    """
    opts = ["PRETRAIN.TRAIN", str(images), "PRETRAIN.VAL", str(images), *PLAIN, *opts]
    config = training_command.read_config(CONFIG, opts)
    run = Run.create(
        folder / "run",
        kind="classification",
        config_text=config.to_yaml(),
        command=[],
        seed=config.cfg.SEED,
    )
    options = DataOptions(**{**data_options(config.cfg), "cache": False})
    return Pretraining(config.cfg, net_options(config.cfg), run, options)


def make_batch(batch_size: int, side: int) -> tuple[torch.Tensor, torch.Tensor, list[int]]:
    """Noise as a loader gives it: uint8 (N, 3, H, W) with its channels last, two classes."""
    generator = torch.Generator().manual_seed(0)
    shape = (batch_size, side, side, 3)
    images = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
    labels = torch.randint(0, 2, (batch_size,), generator=generator)
    return images.permute(0, 3, 1, 2), labels, [0] * batch_size


def last_loss(trainer: Pretraining) -> float | None:
    """Of the step that was done last; None before the first."""
    latest = trainer.loop.storage.latest()
    return latest["total_loss"][0] if "total_loss" in latest else None
