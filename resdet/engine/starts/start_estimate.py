"""What a training will be and cost: its plan, known before a step, and an estimate from a few.

    time = steps x median step + images passed forward alone x a third of a step's time per image

Forward alone are scoring and the statistics of norms at the end (docs/cost.md). Reading images is
within a step's time, as it is waited for; the first steps, which start workers and choose
algorithms, are left out.

Not for: room on the disk, which is checked before (`start_checks`), or what is planned
(`pretrain.recipe.plan`, `detect.plan`).
"""

from __future__ import annotations

import resource
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from detectron2.engine import HookBase
from detectron2.utils import comm
from torch import nn

from resdet.engine.parallel import gathered
from resdet.engine.starts.start_checks import DiskNeed, size_in_words
from resdet.printable import counted

# Steps that are left out, and steps that are measured.
LEFT_OUT, MEASURED = 3, 10


@dataclass(frozen=True)
class Plan:
    """A training before its first step.

    Attributes:
        steps: still to be taken. batch: images of a step, of all processes.
        images: of the training set; None = not known. images_source: what stands behind that
            number where no file has it.
        scored_images: of all scorings, the end included; None = not known.
        statistics_images: over which statistics of norms are recomputed; None = not known.
        multiply_adds: of one image, forward; None = not counted.
        disk: what it writes.
        rate: SOLVER.BASE_LR. rate_rule: how it came from that of another batch; "" = as stated.
    """

    steps: int
    batch: int
    processes: int
    per_pass: int
    images: int | None
    scored_images: int | None
    statistics_images: int | None
    parameters: int
    multiply_adds: int | None
    disk: DiskNeed
    rate: float
    rate_rule: str
    images_source: str = ""

    @classmethod
    def of_solver(
        cls,
        cfg: Any,
        model: nn.Module,
        *,
        start: int = 0,
        images: int | None = None,
        images_source: str = "",
        scored_images: int | None = None,
        statistics_images: int | None = 0,
        multiply_adds: int | None = None,
    ) -> Plan:
        """Of a resolved config.

        Args:
            model: on "meta", it needs no memory. start: steps that are done.
        """
        return cls(
            steps=cfg.SOLVER.MAX_ITER - start,
            batch=cfg.SOLVER.IMS_PER_BATCH,
            processes=comm.get_world_size(),
            per_pass=cfg.ENGINE.IMAGES_PER_PASS,
            images=images,
            scored_images=scored_images,
            statistics_images=statistics_images,
            parameters=sum(p.numel() for p in model.parameters()),
            multiply_adds=multiply_adds,
            disk=DiskNeed.of_training(cfg, model),
            rate=cfg.SOLVER.BASE_LR,
            rate_rule=_rate_rule(cfg.SOLVER),
            images_source=images_source,
        )

    def lines(self) -> list[str]:
        """As printed before the start."""
        share = self.batch // self.processes
        parts = f", in parts of {self.per_pass}" if 0 < self.per_pass < share else ""
        rule = f" ({self.rate_rule})" if self.rate_rule else ""
        seen = self.steps * self.batch
        epochs = "epochs follow from the training set, which is not read here"
        if self.images:
            epochs = f"{seen / self.images:.1f} epochs of {self.images:,}{self.images_source}"
        return [
            f"batch      {counted(self.batch, 'image')}: {_times(self.processes, share)}{parts}; "
            f"rate {self.rate:g}{rule}",
            f"length     {counted(self.steps, 'step')}, {counted(seen, 'image')}: {epochs}",
            *self._work(seen),
            f"disk       about {size_in_words(self.disk.most)}: {self.disk}",
        ]

    def _work(self, seen: int) -> list[str]:
        if self.multiply_adds is None:
            return [f"net        {self.parameters:,} parameters"]
        work = 3 * self.multiply_adds * seen
        return [
            f"net        {self.parameters:,} parameters, {self.multiply_adds:,} multiply-adds an "
            "image",
            f"work       {work:.3g} multiply-adds: {work / 15e12 / 3600:.3g} h at 15e12 a second, "
            "by the rule in docs/cost.md",
        ]


@dataclass(frozen=True)
class Estimate:
    """What a few steps showed.

    Attributes:
        step_seconds: median of `measured` steps. data_seconds: of it, waiting for images.
        seconds: of all that is planned. memory_bytes: the most that one process took: of the GPU's
            memory, or resident on a CPU.
    """

    measured: int
    step_seconds: float
    data_seconds: float
    seconds: float
    memory_bytes: int
    on_gpu: bool

    def line(self) -> str:
        where = "of the GPU's memory" if self.on_gpu else "resident"
        return (
            f"estimate from {self.measured} steps: {self.step_seconds:.3g} s a step "
            f"({self.data_seconds:.2g} s of it waiting for images), {_duration(self.seconds)} in "
            f"all, scoring included; a process takes {size_in_words(self.memory_bytes)} {where}, "
            "and may take more when it scores"
        )

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def estimate_of(plan: Plan, steps: list[float], waits: list[float], device: str) -> Estimate:
    """From the seconds of steps, and of their waits for images."""
    step = statistics.median(steps)
    per_image = step / plan.batch
    forward = ((plan.scored_images or 0) + (plan.statistics_images or 0)) * per_image / 3
    on_gpu = device.startswith("cuda")
    memory = torch.cuda.max_memory_allocated(device) if on_gpu else _resident_bytes()
    return Estimate(
        measured=len(steps),
        step_seconds=step,
        data_seconds=statistics.median(waits),
        seconds=plan.steps * step + forward,
        memory_bytes=max(gathered(memory)),
        on_gpu=on_gpu,
    )


class StepCost(HookBase):
    """Measures the first steps, and gives their estimate to `report` on the main process.

    Attributes:
        found: the estimate, once it is there.
    """

    found: Estimate

    def __init__(self, plan: Plan, device: str, report: Callable[[Estimate], None] | None = None):
        self.plan = plan
        self.device = device
        self.report = report
        self._seconds: list[float] = []
        self._waits: list[float] = []
        self._began = 0.0

    def before_step(self) -> None:
        self._began = time.perf_counter()

    def after_step(self) -> None:
        if len(self._seconds) == LEFT_OUT + MEASURED:
            return
        if self.device.startswith("cuda"):
            torch.cuda.synchronize()
        self._seconds.append(time.perf_counter() - self._began)
        self._waits.append(max(row["data_time"] for row in self.trainer.last_rows))
        if len(self._seconds) == LEFT_OUT + MEASURED:
            seconds, waits = self._seconds[LEFT_OUT:], self._waits[LEFT_OUT:]
            self.found = estimate_of(self.plan, seconds, waits, self.device)
            if self.report and comm.is_main_process():
                self.report(self.found)


def _resident_bytes() -> int:
    """The most that this process has had in memory."""
    # In KB, but on macOS, which counts bytes.
    unit = {"darwin": 1}.get(sys.platform, 1024)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def scorings(cfg: Any, start: int) -> int:
    """How often the test sets are scored while it trains from step `start`, but for the end."""
    period = cfg.TEST.EVAL_PERIOD
    return max(0, (cfg.SOLVER.MAX_ITER - 1) // period - start // period) if period else 0


def _rate_rule(solver: Any) -> str:
    if solver.REFERENCE_BATCH in (0, solver.IMS_PER_BATCH):
        return ""
    return f"SOLVER.SCALE_LR {solver.SCALE_LR}, from a batch of {solver.REFERENCE_BATCH}"


def _times(processes: int, share: int) -> str:
    return f"{processes} processes x {share}" if processes > 1 else "one process"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 2 * 3600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 2 * 86400 else f"{seconds / 86400:.1f} days"
