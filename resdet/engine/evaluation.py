"""Measuring a model while it trains: in evaluation mode, every so many steps, the best one kept.

The best model is a file of its own in the run folder, written aside and renamed over the one
before. Its record (metric, value, step) lies in the file itself, in run.json and in every
checkpoint. On a resume the file's own record counts, so no kill can leave one of another model.

Not for: the newest state, which a training goes on from (`checkpoint`), or what a number means.
"""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from detectron2.engine import HookBase
from detectron2.utils import comm
from torch import nn

from resdet.engine.data_workers import lost_images_stop
from resdet.errors import ConfigError
from resdet.run.folder import Run

logger = logging.getLogger("resdet.engine.evaluation")

SMALLER_IS_BETTER = ("top1_error", "top5_error")

# "metric" (SET/NAME), "value", "step" (steps done), "data" (the set's hash), "run" (its id).
Record = dict[str, Any]


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Every module comes back to the mode it had: a frozen stage stays in evaluation mode."""
    modes = [(m, m.training) for m in model.modules()]
    model.eval()
    try:
        yield
    finally:
        # From the outside in, by `train`: nets have parts that follow it and are no children, and
        # attention of timm's forgets the biases that it kept for evaluation.
        for module, training in modes:
            module.train(training)


class BestModel:
    """The model with the best value of one metric so far, as a file.

    Ties keep the earlier step; a value that is not finite, or that is not there, is never best.

    Args:
        run: the folder; its run.json has the record as "best".
        path: the file.
        metric: as among the scalars, SET/NAME; `SMALLER_IS_BETTER` has the names that fall.
        data: hash of the set, so that a value on other images is not compared.
        write: writes the model as it stands, with the record inside, whole or not at all.
        read: the record in a whole file; None where the file is damaged or has none.
    """

    def __init__(
        self,
        run: Run,
        path: Path,
        metric: str,
        data: str,
        *,
        write: Callable[[Path, Record], None],
        read: Callable[[Path], Record | None],
    ):
        self.run = run
        self.path = path
        self.metric = metric
        self.data = data
        self.write = write
        self.read = read
        self.record: Record | None = None

    def resume(self) -> None:
        """Takes up the file that is there; one that is not of this metric will be replaced."""
        stated = self.run.info.get("best")
        record = self.read(self.path) if self.path.exists() else None
        if record is None and stated:
            logger.warning(
                "%s, the best of step %s, is gone or damaged: the next evaluation is the best "
                "again.",
                self.path,
                stated.get("step"),
            )
        elif record is not None and not self._is_comparable(record):
            logger.warning(
                "%s is the best by %s, not by %s on this set in this run: the next evaluation "
                "replaces it.",
                self.path,
                record.get("metric"),
                self.metric,
            )
            record = None
        self.record = record
        self.run.update(best=record)

    def _is_comparable(self, record: Mapping[str, Any]) -> bool:
        expected = (self.metric, self.data, self.run.info["id"])
        is_number = isinstance(record.get("value"), int | float)
        same = (record.get("metric"), record.get("data"), record.get("run")) == expected
        return same and is_number and isinstance(record.get("step"), int)

    def offer(self, step: int, scalars: Mapping[str, float]) -> None:
        """Keeps the model as it stands where it is better than all before.

        Args:
            step: steps done.
            scalars: name to value; the metric need not be among them.
        """
        value = scalars.get(self.metric)
        if value is None or not math.isfinite(value):
            logger.warning("step %d: %s is %s, which is never best", step, self.metric, value)
            return
        if self.record is not None and not self._is_better(value, self.record["value"]):
            return
        record = {
            "metric": self.metric,
            "value": value,
            "step": step,
            "data": self.data,
            "run": self.run.info["id"],
        }
        self.write(self.path, record)
        self.record = record
        self.run.update(best=record)
        # All numbers of ranges.BEST_METRICS are in percent.
        logger.info("step %d: %s %.4g %% is the best so far, kept as %s", step, self.metric, value,
                    self.path)  # fmt: skip

    def is_out_of(self, patience: int, step: int, period: int) -> bool:
        """Whether the last `patience` evaluations, one every `period` steps, were none the best.

        Args:
            step: steps done at the last one.
        """
        return self.record is not None and step - self.record["step"] >= patience * period

    def _is_better(self, value: float, best: float) -> bool:
        falls = self.metric.rpartition("/")[2] in SMALLER_IS_BETTER
        return value < best if falls else value > best


def metric_of(cfg: Any, measured: Mapping[str, Sequence[str]]) -> str:
    """TEST.BEST_METRIC in full, SET/NAME; "" where it is off.

    Args:
        measured: data set to the names of its numbers; the first set is meant where none is named.

    Raises:
        ConfigError: nothing of this name is measured, or nothing before the end.
    """
    stated = cfg.TEST.BEST_METRIC
    if not stated:
        return ""
    data_set, _, name = stated.rpartition("/")
    data_set = data_set or next(iter(measured), "")
    if name not in measured.get(data_set, ()):
        known = [f"{s}/{n}" for s, names in measured.items() for n in names]
        raise ConfigError(
            f"TEST.BEST_METRIC is {stated!r}, which is not measured here. There "
            f"{'are ' + ', '.join(known) if known else 'is no test set'}."
        )
    if cfg.TEST.EVAL_PERIOD == 0:
        raise ConfigError(
            f"TEST.BEST_METRIC is {stated!r}, and TEST.EVAL_PERIOD is 0: nothing is measured "
            "before the end. Set TEST.EVAL_PERIOD to a number of steps."
        )
    if cfg.TEST.EVAL_IMAGES:
        raise ConfigError(
            f"TEST.BEST_METRIC is {stated!r}, and TEST.EVAL_IMAGES {cfg.TEST.EVAL_IMAGES}: the "
            "best by a part of a set is not the best by the set. Leave one of the two out."
        )
    return f"{data_set}/{name}"


class Evaluation(HookBase):
    """Scalars of `evaluate` every `period` steps, but not after the last: the trainer does that.

    Measuring changes nothing in the training: random numbers are drawn per step, and each process
    gets its own statistics of live norms back. What a stop prevented comes first after a resume,
    where its step ends.

    Args:
        best: keeps the best model; needed for patience.
        patience: TEST.EARLY_STOP; the loop ends after so many evaluations in a row without a new
            best. 0 = never.
    """

    def __init__(
        self,
        run: Run,
        period: int,
        evaluate: Callable[[], Mapping[str, float]],
        best: BestModel | None = None,
        patience: int = 0,
    ):
        self.run = run
        self.period = period
        self.evaluate = evaluate
        self.best = best
        self.patience = patience

    def before_train(self) -> None:
        """A resume of a training that its rule has ended takes no step more."""
        if self.patience and self.trainer.start_iter:
            self._end_where_no_better(self.trainer.start_iter)

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        if self.period > 0 and done % self.period == 0 and done < self.trainer.max_iter:
            self._measure(done)

    def _measure(self, done: int) -> None:
        statistics = self.trainer.statistics if comm.get_world_size() > 1 else []
        own = [b.clone() for b in statistics]
        self.trainer.end_workers()
        scalars = self._measured_before(done)
        if scalars is None:
            with lost_images_stop():
                scalars = self.evaluate()
        if comm.is_main_process():
            if self.best is not None:
                self.best.offer(done, scalars)
            is_finite = all(map(math.isfinite, scalars.values()))
            self.run.update(evaluated=done, evaluated_as=dict(scalars) if is_finite else None)
        comm.synchronize()
        if own:
            torch._foreach_copy_(statistics, own)
        if scalars:
            self.trainer.storage.put_scalars(**scalars, smoothing_hint=False)
        if self.patience:
            self._end_where_no_better(done)

    def _end_where_no_better(self, done: int) -> None:
        """Ends the loop where the step was measured; only the main process knows the best."""
        best = self.best if self.run.info.get("evaluated") == done else None
        is_over = best is not None and best.is_out_of(self.patience, done, self.period)
        if not comm.all_gather(is_over)[0]:
            return
        self.trainer.end()
        if best is not None and best.record is not None:
            logger.info(
                "step %d: no better %s in %d evaluations since step %d: the training ends "
                "(TEST.EARLY_STOP)",
                done, best.metric, self.patience, best.record["step"],
            )  # fmt: skip

    def _measured_before(self, done: int) -> Mapping[str, float] | None:
        """What this evaluation gave before the resume that ends its step; None where it is due."""
        info = self.run.info
        scalars = info.get("evaluated_as") if info.get("evaluated") == done else None
        if not self.trainer.ends_its_last_step:
            scalars = None
        if comm.get_world_size() > 1:
            scalars = comm.all_gather(scalars)[0]
        return scalars
