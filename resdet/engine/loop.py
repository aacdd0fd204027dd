"""The training loop of both trainers, on Detectron2's `TrainerBase`, hooks and writers.

Every step draws its random numbers from (seed, step, process) and its batch from (seed, step),
so that 5 steps, a kill and 5 steps equal 10 steps to the bit on one CPU. Invariant: a checkpoint
with `iteration` n holds the state after n steps, and step n is the next to run.

Not for: what is trained. The caller gives `losses`, a function of a batch.
"""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from detectron2.engine import HookBase, TrainerBase
from detectron2.utils import comm
from detectron2.utils.events import EventStorage
from torch import nn

from resdet import profile
from resdet.engine.data_workers import no_word_of_workers, why_lost
from resdet.engine.parallel import is_lost_peer
from resdet.errors import ConfigError, DataError, TrainingStopped

logger = logging.getLogger("resdet.engine.loop")

Batch = Any
Losses = dict[str, torch.Tensor]
# Values that Detectron2's writers take the median of.
WINDOW = 20
# Scalars that Detectron2's timer takes up some steps after a start.
CLOCKS = ("time", "eta_seconds")
TOTAL, GRADIENT_NORM = "total_loss", "gradient norm"


class Loop(TrainerBase):
    """Optimizer steps on batches, guarded.

    Args:
        model: what the optimizer holds; put into training mode.
        optimizer, scheduler: torch's; the scheduler advances once a step.
        losses: batch to named losses, each a scalar with gradient; "metric/…" entries are only
            recorded.
        batches: number of the first batch to the endless stream of batches from there on.
        describe: batch to the ids of its images, for messages.
        seed: 0 or above.
        clip_norm: gradients are scaled down to this total norm; 0 = off.
        split: batch to the parts that pass through the model one after the other, each with its
            share of the batch; gradients add up. Without it the whole batch passes at once.
        beside: by name, modules that hooks change and checkpoints hold, such as an average of the
            model.

    Attributes:
        last_rows: losses, "metric/…" and "data_time" of the last step, by process.
        has_ended: `end` was called; `iter` is then the number of steps done once `train` is over.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        scheduler: Any,
        losses: Callable[[Batch], Losses],
        batches: Callable[[int], Iterator[Batch]],
        *,
        seed: int,
        describe: Callable[[Batch], str] = lambda batch: "?",
        clip_norm: float = 0.0,
        split: Callable[[Batch], Sequence[tuple[float, Batch]]] = lambda batch: [(1.0, batch)],
        beside: Mapping[str, nn.Module] = MappingProxyType({}),
    ):
        super().__init__()
        self.model = model
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.losses = losses
        self.batches = batches
        self.seed = seed
        self.describe = describe
        self.clip_norm = clip_norm
        self.split = split
        self.beside = dict(beside)
        self.last_rows: Sequence[Mapping[str, float]] = ()
        self.has_ended = False
        # Statistics of live norms as they were before the step: a loss that is not finite has
        # spoiled them by the time it is seen.
        self._statistics = _statistics_of(model)
        self._statistics_before = [b.clone() for b in self._statistics]
        # How many batches the statistics are of.
        self._counts = _statistics_of(model, counts=True)
        self._counts_before = [b.clone() for b in self._counts]
        self._stream: Iterator[Batch] | None = None
        self._last_totals: list[float] = []
        self._step_taken = False
        # This process stops, or a peer is gone, without the others taking part.
        self.is_alone = False
        self._began = time.monotonic()
        self._seconds_before = 0.0
        # Of the checkpoint that a resume begins with (`recorded`).
        self._earlier: Mapping[str, Any] = {}

    @property
    def statistics(self) -> list[torch.Tensor]:
        """Buffers of the live norms, which differ from process to process."""
        return self._statistics + [b for m in self.beside.values() for b in _statistics_of(m)]

    @property
    def seconds(self) -> float:
        """Of the whole training: since `train` began, and up to the checkpoint of a resume before.

        Steps that a kill lost are not counted: the resume takes them again.
        """
        return time.monotonic() - self._began

    def state_dict(self) -> dict[str, Any]:
        model = getattr(self.model, "module", self.model)  # without DDP's wrapper
        return {
            "model": model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "iteration": self.iter,
            **({"beside": beside} if (beside := self._beside_states()) else {}),
        }

    def _beside_states(self) -> dict[str, Any]:
        return {name: module.state_dict() for name, module in self.beside.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        model = getattr(self.model, "module", self.model)
        model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        for name, module in self.beside.items():
            module.load_state_dict(state["beside"][name])
        self.start_iter = self.iter = state["iteration"]
        self._earlier = state.get("record", {})
        self._seconds_before = float(self._earlier.get("seconds", 0.0))

    @property
    def ends_its_last_step(self) -> bool:
        """What the checkpoint of a resume left to do is known, and done before the next step."""
        return bool(self._earlier)

    def recorded(self, *, is_step_over: bool) -> dict[str, Any]:
        """What the writers have yet to see, whether hooks have yet to run, and `seconds`.

        Args:
            is_step_over: every hook has run; else those behind the one that asks have not.
        """
        hints = self.storage.smoothing_hints()
        # Detectron2's heads record within a step, also within one that is not taken then.
        steps = self.iter + (not is_step_over)
        scalars = []
        for name, history in self.storage.histories().items():
            values = [list(pair) for pair in history.values()[-WINDOW - 1 :] if pair[1] < steps]
            if values and name not in CLOCKS:
                scalars.append((name, values[-WINDOW:], bool(hints[name])))
        return {"scalars": scalars, "is_step_over": is_step_over, "seconds": self.seconds}

    def _go_on(self) -> None:
        """Ends the step before `start_iter` as it would have ended without a stop.

        A checkpoint is written before the evaluation and the writers of its step: both may take
        long or fail.
        """
        for name, values, is_smoothed in self._earlier.get("scalars", []):
            for value, iteration in values:
                self.storage.iter = iteration
                self.storage.put_scalar(name, value, smoothing_hint=is_smoothed)
        if not self._earlier.get("is_step_over", True):
            self.iter = self.storage.iter = self.start_iter - 1
            self._step_taken = True
            places = [n for n, hook in enumerate(self._hooks) if hasattr(hook, "on_stop")]
            for hook in self._hooks[max(places) + 1 :] if places else []:
                hook.after_step()
        self._earlier = {}
        self.iter = self.storage.iter = self.start_iter

    def train(self, start_iter: int, max_iter: int) -> None:
        """Steps `start_iter` to `max_iter` - 1, hooks around them.

        As Detectron2's, but errors that state what to do come without a traceback, and hooks are
        told of a training that stops itself (`on_stop`).
        """
        self.iter, self.start_iter, self.max_iter = start_iter, start_iter, max_iter
        self._began = time.monotonic() - self._seconds_before
        if start_iter < max_iter:
            logger.info("training from step %d to %d", start_iter, max_iter)
        with EventStorage(start_iter) as self.storage, profile.section("training", "step"):
            try:
                self._steps(start_iter, max_iter)
            except BaseException:
                # What ended the training is what counts, and writers may fail for the same reason.
                with no_word_of_workers():
                    self.end_workers()
                    with contextlib.suppress(Exception):
                        self.after_train()
                raise
            self.end_workers()
            self.after_train()

    def _steps(self, start_iter: int, max_iter: int) -> None:
        try:
            self.before_train()
            self._go_on()
            for self.iter in range(start_iter, max_iter):
                if self.has_ended:
                    break
                with profile.step():
                    self.before_step()
                    self.run_step()
                    with profile.span("log and checkpoints"):
                        self.after_step()
            else:
                self.iter = max_iter
        except (TrainingStopped, RuntimeError) as error:
            stopped = _as_stopped(error, self.iter)
            if stopped is None:
                raise
            self.is_alone = self.is_alone or stopped is not error
            # Once the step is taken its checkpoint is the hooks' affair, not the one before it.
            if not self._step_taken:
                with no_word_of_workers():
                    self._undo_statistics()
                    for hook in self._hooks:
                        getattr(hook, "on_stop", lambda: None)()
            raise stopped from None

    def end(self) -> None:
        """The step that runs is the last; between steps, there is none. All processes call it."""
        self.has_ended = True

    def how_it_ended(self) -> dict[str, Any]:
        """For run.json: steps done, and the key whose rule ended the training, None for its end."""
        return {"steps": self.iter, "ended_by": "TEST.EARLY_STOP" if self.has_ended else None}

    def end_workers(self) -> None:
        """Ends the loader's workers, so that their memory serves what comes between two steps.

        The next step starts others, at its own batch; the order of images is what it was.
        """
        self._stream = None

    def _undo_statistics(self) -> None:
        if self._statistics:
            torch._foreach_copy_(self._statistics, self._statistics_before)
        if self._counts:
            torch._foreach_copy_(self._counts, self._counts_before)

    def _next_batch(self) -> Batch:
        """Raises TrainingStopped where the images of the next step cannot be had."""
        try:
            if self._stream is None:
                self._stream = iter(self.batches(self.iter))
            return next(self._stream)
        except (DataError, OSError, EOFError, RuntimeError) as error:
            why = why_lost(error)
            if not why:
                raise
        # Outside of the handler: the error holds the worker's traceback and open files.
        self.is_alone = True
        raise TrainingStopped(
            f"the images of step {self.iter} could not be read: {why}\nThe step was not taken; "
            "the state before it is in checkpoints/. Go on with --resume."
        )

    def run_step(self) -> None:
        self._step_taken = False
        if self._statistics:
            torch._foreach_copy_(self._statistics_before, self._statistics)
        if self._counts:
            torch._foreach_copy_(self._counts_before, self._counts)
        with profile.span(profile.WAIT):
            start = time.perf_counter()
            batch = self._next_batch()
            data_time = time.perf_counter() - start
        # Data order and augmentation are seeded per sample; this covers dropout and RoI sampling.
        torch.manual_seed(_mix(self.seed, self.iter, comm.get_rank()))
        self.optimizer.zero_grad()
        parts = self.split(batch)
        values: Losses = {}
        for number, (share, part) in enumerate(parts, 1):
            for name, value in self._add_gradients(part, share, number == len(parts)).items():
                values[name] = values[name] + value if name in values else value
        with profile.span("check of gradients"):
            gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
            norm = nn.utils.get_total_norm(gradients)
            rows = self._read({**values, GRADIENT_NORM: norm}, data_time)
            self._stop_unless_finite(rows, batch)
            if self.clip_norm > 0:
                nn.utils.clip_grads_with_norm_(self.model.parameters(), self.clip_norm, norm)
        with profile.span("optimizer step"):
            # From here on the state is no longer the one before, also where this is cut short.
            self._step_taken = True
            self.optimizer.step()
        self.last_rows = rows
        self._record(rows)

    def _add_gradients(self, part: Batch, share: float, is_last: bool) -> Losses:
        """Gradients of a part of the batch; gives its losses and metrics, by its share."""
        try:
            with profile.span("forward"):
                values = self.losses(part)
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            raise ConfigError(
                "a live batch norm has the values of one image alone, of 1 x 1 pixel, to take its "
                "statistics from. Give each process two images or more: SOLVER.IMS_PER_BATCH over "
                "the number of processes, or ENGINE.IMAGES_PER_PASS."
            ) from None
        except FloatingPointError as error:  # Detectron2's, of boxes that are not finite
            self.is_alone = True
            raise TrainingStopped(self._page(str(error), self.describe(part))) from None
        losses = {k: v for k, v in values.items() if not k.startswith("metric/")}
        total = sum(losses.values())
        assert isinstance(total, torch.Tensor)
        # Several processes exchange gradients once a step, with the last part.
        waits = getattr(self.model, "no_sync", None) if not is_last else None
        with waits() if waits else contextlib.nullcontext(), profile.span("backward"):
            (total if share == 1 else total * share).backward()
        values = {**values, TOTAL: total}
        # In double, on the device: parts add up as numbers of Python do, and nobody waits for them.
        return {k: share * v.detach().double() for k, v in values.items()}

    def _read(self, values: Losses, data_time: float) -> list[dict[str, float]]:
        """The values of each process, in the order of ranks: one wait of the host, one exchange."""
        device = values[TOTAL].device
        row = torch.stack([v.to(device, torch.double) for v in values.values()])
        # Filled there: a copy from this side would be a wait of its own.
        row = torch.cat([row, row.new_full((1,), data_time)])
        rows = [torch.empty_like(row) for _ in range(comm.get_world_size())]
        if len(rows) > 1:
            torch.distributed.all_gather(rows, row)
            row = torch.stack(rows)
        names = [*values, "data_time"]
        return [dict(zip(names, one, strict=True)) for one in row.reshape(len(rows), -1).tolist()]

    def _stop_unless_finite(self, rows: Sequence[Mapping[str, float]], batch: Batch) -> None:
        """Stops before the step is applied (F35): a value is not finite, and the first is named.

        Every process reads the same rows, so all stop together.
        """
        bad = [
            (name, value, rank)
            for rank, row in enumerate(rows)
            for name, value in row.items()
            if not (name.startswith("metric/") or math.isfinite(value))
        ]
        if not bad:
            return
        # The gradients of all are those of one: a loss tells which process it was.
        name, value, _ = next((b for b in bad if b[0] != GRADIENT_NORM), bad[0])
        images = self.describe(batch)
        if len(rows) > 1:
            everyone = comm.all_gather(images)
            named = sorted({r for n, _, r in bad if n != GRADIENT_NORM}) or range(len(rows))
            images = ", ".join(everyone[r] for r in named)
        raise TrainingStopped(self._page(f"{name} became {value}", images))

    def _page(self, what: str, images: str) -> str:
        last = " ".join(f"{v:.3g}" for v in self._last_totals) or "none"
        return (
            f"{what} at step {self.iter} (images {images}; "
            f"lr {self.optimizer.param_groups[0]['lr']:g}; last total losses {last}). "
            "Usual causes, in this order: learning rate, weights, a box. The step was not "
            "taken; the state before it is in checkpoints/, and --resume runs the same step again: "
            "the same images and random numbers."
        )

    def _record(self, rows: Sequence[Mapping[str, float]]) -> None:
        self._last_totals = [*self._last_totals[-4:], rows[comm.get_rank()][TOTAL]]
        if not comm.is_main_process():
            return
        names = [name for name in rows[0] if name != GRADIENT_NORM]
        mean = {n.removeprefix("metric/"): float(np.mean([r[n] for r in rows])) for n in names}
        mean["data_time"] = max(r["data_time"] for r in rows)
        self.storage.put_scalars(**mean)


def _statistics_of(model: nn.Module, *, counts: bool = False) -> list[torch.Tensor]:
    """Means and variances of live norms, or how many batches they are of."""
    norms = (m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm))
    return [b for m in norms for b in m.buffers() if b.is_floating_point() != counts]


def _as_stopped(error: Exception, step: int) -> TrainingStopped | None:
    """The error as one that stops a training with a page; None for a bug."""
    if isinstance(error, TrainingStopped):
        return error
    if why := why_lost(error):
        # torch raises it wherever the process is when it hears of it.
        return TrainingStopped(
            f"a loader worker was lost at step {step}: {why}\nGo on with --resume."
        )
    if not is_lost_peer(error):
        return None
    return TrainingStopped(
        f"another process of this training ended at step {step}: see its own page. "
        "Go on with --resume."
    )


def passes(images: int, per_pass: int) -> list[tuple[float, slice]]:
    """The parts of a batch, each with its share; 0 = all images in one (ENGINE.IMAGES_PER_PASS).

    >>> passes(5, 2)
    [(0.4, slice(0, 2, None)), (0.4, slice(2, 4, None)), (0.2, slice(4, 6, None))]
    >>> passes(5, 0)
    [(1.0, slice(0, 5, None))]
    """
    size = per_pass or max(images, 1)
    starts = range(0, max(images, 1), size)
    return [(min(size, images - i) / images if images else 1.0, slice(i, i + size)) for i in starts]


def _mix(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))


class Schedule(HookBase):
    """Advances the learning rate and records it."""

    def after_step(self) -> None:
        loop = self.trainer
        loop.storage.put_scalar("lr", loop.optimizer.param_groups[0]["lr"], smoothing_hint=False)
        loop.scheduler.step()
