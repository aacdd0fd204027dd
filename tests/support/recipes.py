"""A small classifier training in this process, with a recipe's keys; ended as by a kill.

Data are `tiny.class_folders(PLACE / "data")`; twelve steps of six images, a checkpoint every fifth.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from detectron2.engine import HookBase
from detectron2.utils import comm

from resdet.config import net_options, resolve
from resdet.config.key_checks.pretraining_keys import settle
from resdet.data import DataOptions
from resdet.pretrain.trainer import Pretraining
from resdet.run.folder import Run
from tests.support import trainings

STEPS = 12
BASE: dict[str, Any] = {
    "SOLVER.MAX_ITER": STEPS,
    "SOLVER.CHECKPOINT_PERIOD": 5,
    "SOLVER.BASE_LR": 0.05,
    "DATALOADER.NUM_WORKERS": 0,
}
# A plateau at nearly every measurement, so that a few steps have several drops.
PLATEAU: dict[str, Any] = {
    "PRETRAIN.PLATEAU": "train",
    "PRETRAIN.PLATEAU_PERIOD": 2,
    "PRETRAIN.PLATEAU_PATIENCE": 0,
    "PRETRAIN.PLATEAU_THRESHOLD": 30.0,
    "SOLVER.GAMMA": 0.5,
}
MIXING: dict[str, Any] = {"PRETRAIN.MIXUP_ALPHA": 0.2, "PRETRAIN.CUTMIX_ALPHA": 1.0}
AVERAGE: dict[str, Any] = {"SOLVER.EMA_DECAY": 0.8, "SOLVER.EMA_STEPS": 2}
# A net whose output for an image does not depend on the others of its batch, nor on chance.
ALONE: dict[str, Any] = {
    "MODEL.NET.NAME": "vgg11",
    "MODEL.NET.STEM": None,
    "MODEL.NET.WIDTH": 0.25,
    "MODEL.NET.POOLS": 2,
    "MODEL.NET.POOLED_SIZE": 4,
    "MODEL.NET.FC_CHANNELS": 32,
    "MODEL.NET.DROPOUT": 0.0,
    "SOLVER.IMS_PER_BATCH": 6,
    "SOLVER.BASE_LR": 0.0003,
}
EVERYTHING: dict[str, Any] = {
    **PLATEAU,
    **MIXING,
    **AVERAGE,
    "PRETRAIN.PLATEAU": "val",
    "PRETRAIN.LABEL_SMOOTHING": 0.1,
    "PRETRAIN.BN_IMAGES": -1,
    "TEST.EVAL_PERIOD": 4,
}


class KilledAt(HookBase):
    """Ends the training when a step begins, as a kill would."""

    def __init__(self, step: int):
        self.step = step

    def before_step(self) -> None:
        if self.trainer.iter == self.step:
            raise RuntimeError("killed")


def training_in(
    place: Path,
    name: str,
    changes: Mapping[str, Any],
    *,
    resuming: bool = False,
) -> Pretraining:
    """A training of these keys in the run folder `place`/`name`, made anew or opened.

    Several processes call it together.
    """
    text = trainings.classifier({**BASE, **changes})
    file = place / f"{name}.{os.getpid()}.yaml"
    file.write_text(text, encoding="utf-8")
    config = resolve(file)
    file.unlink()
    settle(config)
    for key in ("TRAIN", "VAL"):
        config.cfg.PRETRAIN[key] = str(place / config.cfg.PRETRAIN[key])
    folder = place / name
    if comm.is_main_process() and not resuming:
        Run.create(folder, kind="classification", config_text=config.to_yaml(), command=[], seed=3)
    comm.synchronize()
    return Pretraining(config.cfg, net_options(config.cfg), Run.open(folder), DataOptions())


def killed_at(training: Pretraining, step: int) -> None:
    """Trains until a step begins, and leaves what a kill would leave."""
    training.loop.register_hooks([KilledAt(step)])
    with contextlib.suppress(RuntimeError):
        training.train(resuming=False)
