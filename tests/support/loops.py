"""A small loop with everything that a resume must bring back, and ways to end it."""

from __future__ import annotations

import os
import signal

import torch
from detectron2.engine import HookBase

from resdet.engine.checkpoint import Checkpoints
from resdet.engine.loop import Loop, Schedule
from resdet.run.folder import Run


def make_loop(seed=1, spoil_at=None):
    """A net with dropout and BN, so that hidden random state would show."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Linear(4, 8), torch.nn.BatchNorm1d(8), torch.nn.Dropout(0.5), torch.nn.Linear(8, 1)
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 3)

    def batches(start):
        for i in range(start, 1000):
            x = torch.randn(6, 4, generator=torch.Generator().manual_seed(i))
            yield x * float("nan") if i == spoil_at else x

    return Loop(
        model,
        optimizer,
        scheduler,
        lambda x: {"loss": model(x).square().mean()},
        batches,
        seed=seed,
        describe=lambda x: "image 7",
    )


def make_run(path):
    return Run.create(path, kind="detection", config_text="", command=[], seed=1)


class Killed(HookBase):
    """Ends the training when this many steps are done, as a kill would."""

    def __init__(self, steps):
        self.steps = steps

    def before_step(self):
        if self.trainer.iter == self.steps:
            raise RuntimeError("killed")


class Stopped(HookBase):
    """Sends this process SIGTERM in the step with this many done before it."""

    def __init__(self, steps):
        self.steps = steps

    def before_step(self):
        if self.trainer.iter == self.steps:
            os.kill(os.getpid(), signal.SIGTERM)


def train(loop, run, start, stop, *more):
    loop.register_hooks([Schedule(), Checkpoints(run, 5), *more])
    loop.train(start, stop)
