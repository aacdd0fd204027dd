"""Ways of doing the same work on a GPU that take turns: seconds and memory of each.

A GPU works on while the host has gone ahead, so a turn starts and ends with waiting for it. The
first steps of each way are not counted: libraries choose algorithms, compilers compile, memory is
taken from the driver. One way's turn follows the other's in every round, so that a clock that falls
with the temperature falls for all.

Memory is what torch has allocated for tensors, of each way by itself: what the way keeps between
its turns, and the most that a turn needed on top.

Not for: what is computed.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch

Step = Callable[[], object]


@dataclass(frozen=True)
class GPUWay:
    """One way of doing the work.

    Attributes:
        make: makes ready, and gives what takes a step.
        units: what the seconds are of: images in a step, where they are seconds of an image.
    """

    make: Callable[[], Step]
    units: int = 1


@dataclass
class TimedOnGPU:
    """What the turns gave, by the name of the way.

    Attributes:
        seconds: of a unit, one entry for each round. peaks: of memory, in MB.
        failed: ways that could not be measured, and why.
    """

    seconds: dict[str, list[float]] = field(default_factory=dict)
    peaks: dict[str, float] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)


def take_turns(
    ways: Mapping[str, GPUWay], device: str, *, rounds: int, steps: int, warm_up: int
) -> TimedOnGPU:
    """Every way `rounds` times `steps` steps, behind `warm_up` steps that are not counted.

    Raises:
        RuntimeError: the first way, which the others are compared with, failed.
    """
    timed = TimedOnGPU()
    ready: dict[str, Step] = {}
    held: dict[str, float] = {}
    for name, way in ways.items():
        before = torch.cuda.memory_allocated(device)
        try:
            ready[name] = way.make()
            for _ in range(warm_up):
                ready[name]()
            torch.cuda.synchronize(device)
        except Exception as error:  # of torch, CUDA, a compiler: each has its own kinds
            _drop(name, error, timed, ready)
        held[name] = _mb(torch.cuda.memory_allocated(device) - before)
    for _ in range(rounds):
        for name in list(ready):
            try:
                seconds, peak = _turn(ready[name], device, steps)
            except Exception as error:
                _drop(name, error, timed, ready)
                continue
            timed.seconds.setdefault(name, []).append(seconds / ways[name].units)
            timed.peaks[name] = max(timed.peaks.get(name, 0.0), held[name] + peak)
    first = next(iter(ways))
    if first in timed.failed:
        raise RuntimeError(f"{first}, which the others are compared with: {timed.failed[first]}")
    return timed


def _turn(step: Step, device: str, steps: int) -> tuple[float, float]:
    """Seconds of a step, and MB of memory beyond what was there before."""
    torch.cuda.synchronize(device)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    start = time.perf_counter()
    for _ in range(steps):
        step()
    torch.cuda.synchronize(device)
    seconds = (time.perf_counter() - start) / steps
    return seconds, _mb(torch.cuda.max_memory_allocated(device) - before)


def _drop(name: str, error: Exception, timed: TimedOnGPU, ready: dict[str, Step]) -> None:
    timed.failed[name] = reason(error)
    timed.seconds.pop(name, None)
    timed.peaks.pop(name, None)
    ready.pop(name, None)
    error.__traceback__ = None  # which holds what the step had on the GPU
    gc.collect()
    torch.cuda.empty_cache()


def reason(error: BaseException) -> str:
    """An error in a line."""
    return f"{type(error).__name__}: {error}".strip().partition("\n")[0]


def _mb(size: float) -> float:
    return size / 2**20
