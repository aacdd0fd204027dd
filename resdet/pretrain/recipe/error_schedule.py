"""A learning rate that follows the error: lower at a plateau, low until a first fall.

    rate of a step = Detectron2's schedule x gamma ** drops x (warm-up factor, or 1)

He et al. 2015 divide the rate by 10 "when the error plateaus" (section 3.4) and state no rule. Here
the error is measured every `period` steps; a measurement is lower where it is more than `threshold`
points of percent below the lowest before it; after `patience` measurements in a row that are not,
the next such one lowers the rate, and counting begins anew. This is torch's `ReduceLROnPlateau`,
and its object decides. ResNet-110 on CIFAR starts at a tenth of its rate until the training error
is below 80 % (section 4.2); here the mean over the last `WINDOW` steps must be.

All processes decide from the same numbers, counts of wrong images, which do not depend on how many
processes counted them. What was decided is in the state, so that a resume goes on to the bit.

Not for: rates that follow the step alone (Detectron2's SOLVER keys).
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from detectron2.engine import HookBase
from detectron2.utils import comm
from torch.optim.lr_scheduler import ReduceLROnPlateau

from resdet.engine.data_workers import lost_images_stop
from resdet.run.folder import Run

logger = logging.getLogger("resdet.pretrain.recipe.error_schedule")

# Steps whose mean training error ends the warm-up; the paper needed about 400.
WINDOW = 100
ERROR = "metric/train_top1_error"


@dataclass(frozen=True)
class ErrorRule:
    """When the rate changes; PRETRAIN's keys of these names.

    Attributes:
        plateau: "off", "val" or "train". period: steps. threshold: points of percent.
        patience: measurements. gamma: the factor of a drop, in (0, 1).
        warm_until: percent; 0 = off. warm_factor: the rate's share until then.
        begin: steps of the schedule's own warm-up, in which nothing is measured.
    """

    plateau: str = "off"
    period: int = 1
    threshold: float = 0.0
    patience: int = 0
    gamma: float = 0.1
    warm_until: float = 0.0
    warm_factor: float = 1.0
    begin: int = 0

    @classmethod
    def of_config(cls, cfg: Any) -> ErrorRule:
        return cls(
            plateau=cfg.PRETRAIN.PLATEAU,
            period=cfg.PRETRAIN.PLATEAU_PERIOD,
            threshold=cfg.PRETRAIN.PLATEAU_THRESHOLD,
            patience=cfg.PRETRAIN.PLATEAU_PATIENCE,
            gamma=cfg.SOLVER.GAMMA,
            warm_until=cfg.PRETRAIN.WARMUP_UNTIL_ERROR,
            warm_factor=cfg.SOLVER.WARMUP_FACTOR,
            begin=cfg.SOLVER.WARMUP_ITERS,
        )

    @property
    def is_off(self) -> bool:
        return self.plateau == "off" and self.warm_until == 0


class ErrorSchedule:
    """A schedule of torch's interface: the given one, times what the error decided.

    Args:
        optimizer: whose rates are set.
        schedule: sets them anew from the step alone, at its start and in `step`.
        rule: not off.

    Attributes:
        is_warming: the rate is still at its warm-up factor.
        decisions: one dict per change of the rate, in order: "step" (steps done), "why" ("plateau"
            or "warm-up"), "error" and, of a plateau, "lowest" in percent, "factor" from then on.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, schedule: Any, rule: ErrorRule):
        self.optimizer = optimizer
        self.schedule = schedule
        self.rule = rule
        self.is_warming = rule.warm_until > 0
        self.decisions: list[dict[str, Any]] = []
        # torch's object sets the rate of an optimizer; this one's rate is the factor.
        self._carrier = torch.optim.SGD([torch.zeros(1)], lr=1.0)
        self._plateau = ReduceLROnPlateau(
            self._carrier,
            factor=rule.gamma,
            patience=rule.patience,
            threshold=rule.threshold,
            threshold_mode="abs",
        )
        self._last_errors: deque[float] = deque(maxlen=WINDOW)
        self._sum, self._count = 0.0, 0
        self._apply()

    @property
    def factor(self) -> float:
        """What the schedule's rate is multiplied by."""
        drops = float(self._carrier.param_groups[0]["lr"])
        return drops * self.rule.warm_factor if self.is_warming else drops

    @property
    def drops(self) -> int:
        return sum(decision["why"] == "plateau" for decision in self.decisions)

    def step(self) -> None:
        """Once a step, after the optimizer."""
        self.schedule.step()
        self._apply()

    def _apply(self) -> None:
        if self.factor != 1.0:
            for group in self.optimizer.param_groups:
                group["lr"] *= self.factor

    def see(self, error: float, done: int) -> bool:
        """Takes the training error of a step, in percent; whether the warm-up ends with it."""
        if self.rule.plateau == "train":
            self._sum, self._count = self._sum + error, self._count + 1
        if not self.is_warming:
            return False
        self._last_errors.append(error)
        mean = sum(self._last_errors) / len(self._last_errors)
        if len(self._last_errors) < WINDOW or mean >= self.rule.warm_until:
            return False
        self.is_warming = False
        self._note(done, "warm-up", error=mean)
        return True

    def is_due(self, done: int) -> bool:
        """Whether the plateau's error is measured after so many steps."""
        return (
            self.rule.plateau != "off"
            and not self.is_warming
            and done % self.rule.period == 0
            and done > self.rule.begin
        )

    def train_error(self) -> float:
        """The mean since the last call, in percent."""
        mean = self._sum / self._count
        self._sum, self._count = 0.0, 0
        return mean

    def measure(self, error: float, done: int) -> bool:
        """Takes a measurement of the plateau's error, in percent; whether the rate drops."""
        before, lowest = self.factor, float(self._plateau.best)
        self._plateau.step(error)
        if self.factor == before:
            return False
        self._note(done, "plateau", error=error, lowest=lowest)
        return True

    @property
    def lowest(self) -> float:
        """The lowest error that counted as lower, in percent."""
        return float(self._plateau.best)

    def _note(self, done: int, why: str, **errors: float) -> None:
        self.decisions.append({"step": done, "why": why, **errors, "factor": self.factor})

    def state_dict(self) -> dict[str, Any]:
        return {
            "schedule": self.schedule.state_dict(),
            "plateau": self._plateau.state_dict(),
            "rate": self._carrier.param_groups[0]["lr"],
            "is_warming": self.is_warming,
            "last_errors": list(self._last_errors),
            "sum": self._sum,
            "count": self._count,
            "decisions": [dict(decision) for decision in self.decisions],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The rates themselves come with the optimizer's state."""
        self.schedule.load_state_dict(state["schedule"])
        self._plateau.load_state_dict(state["plateau"])
        self._carrier.param_groups[0]["lr"] = state["rate"]
        self.is_warming = state["is_warming"]
        self._last_errors = deque(state["last_errors"], maxlen=WINDOW)
        self._sum, self._count = state["sum"], state["count"]
        self.decisions = [dict(decision) for decision in state["decisions"]]


def error_of_batch(errors: Sequence[float], images: int) -> float:
    """The error of a batch in percent, from those of equal shares of it.

    By whole images, so that it is the same number whatever the shares.
    """
    share = images // len(errors)
    return 100.0 * sum(round(error * share / 100) for error in errors) / images


class RateByError(HookBase):
    """Feeds an `ErrorSchedule` after every step, and records what it decides.

    It stands before the hooks that advance the rate and write checkpoints, so that a checkpoint
    holds the decision of its own step.

    Args:
        run: its record gets the decisions.
        val_error: the top-1 error of PRETRAIN.VAL now, in percent, equal on all processes.
        batch: images of a step, of all processes.
    """

    def __init__(
        self, schedule: ErrorSchedule, run: Run, val_error: Callable[[], float], batch: int
    ):
        self.schedule = schedule
        self.run = run
        self.val_error = val_error
        self.batch = batch

    def before_train(self) -> None:
        self._record()

    def after_step(self) -> None:
        loop, schedule, done = self.trainer, self.schedule, self.trainer.iter + 1
        error = error_of_batch([row[ERROR] for row in loop.last_rows], self.batch)
        changed = schedule.see(error, done)
        if changed:
            logger.info(
                "step %d: mean training error of the last %d steps %.2f %%, below %g: end of the "
                "warm-up",
                done,
                WINDOW,
                schedule.decisions[-1]["error"],
                schedule.rule.warm_until,
            )
        if schedule.is_due(done):
            is_val = schedule.rule.plateau == "val"
            error = self._measured() if is_val else schedule.train_error()
            drops = schedule.measure(error, done)
            changed = changed or drops
            if drops:
                logger.info(
                    "step %d: plateau: %s error %.2f %%, lowest %.2f %%; the rate is multiplied by "
                    "%g, drop %d",
                    done,
                    "validation" if is_val else "training",
                    error,
                    schedule.decisions[-1]["lowest"],
                    schedule.rule.gamma,
                    schedule.drops,
                )
            loop.storage.put_scalars(
                plateau_error=error,
                plateau_lowest=schedule.lowest,
                rate_drops=schedule.drops,
                smoothing_hint=False,
            )
        if changed:
            self._record()

    def _measured(self) -> float:
        """The validation error; each process gets its own statistics of live norms back."""
        statistics = self.trainer.statistics if comm.get_world_size() > 1 else []
        own = [b.clone() for b in statistics]
        self.trainer.end_workers()
        with lost_images_stop():
            error = self.val_error()
        if own:
            torch._foreach_copy_(statistics, own)
        return error

    def _record(self) -> None:
        if comm.is_main_process():
            self.run.update(rate_decisions=self.schedule.decisions)
