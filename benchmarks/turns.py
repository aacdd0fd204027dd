"""Trainings that take turns, each in a process of its own: whole steps, timed where they run.

A process is told how many steps to take, takes them, and answers with their seconds, their losses
and its peak memory; the others wait meanwhile. So a setting of one process (threads,
what its C library does with memory) stays its own, and slow minutes of a machine affect all alike.

Not for: what is trained (`classification.training`, `classification.cifar`).
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import IO, Any

from benchmarks.apart import peak_mb


class Order:
    """The side that takes steps. Call `step_done` before the first step and after each."""

    def __init__(self) -> None:
        self._left = 0
        self._began = 0.0
        self._losses: list[float] = []
        # Whatever the work prints must not get between the answers.
        self._answers: IO[str] = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)

    def step_done(self, loss: float | None = None) -> None:
        """Returns when the next step is due.

        Raises:
            SystemExit: no more steps are expected.
        """
        if loss is not None:
            self._losses.append(loss)
            self._left -= 1
        if self._left > 0:
            return
        if loss is not None:
            self._answer({"seconds": time.perf_counter() - self._began, "losses": self._losses})
        order = sys.stdin.readline()
        if not order.strip():
            raise SystemExit(0)
        self._left, self._losses = int(order), []
        self._began = time.perf_counter()

    def _answer(self, page: dict[str, Any]) -> None:
        print(json.dumps({**page, "peak_mb": peak_mb()}), file=self._answers, flush=True)


@dataclass(frozen=True)
class Turn:
    """What a turn gave.

    Attributes:
        seconds: of one step, the mean over the turn.
        losses: of every step.
        peak_mb: of the process so far (`apart.peak_mb`).
    """

    seconds: float
    losses: list[float]
    peak_mb: float


class Training:
    """A training in a process of its own: `python -m MODULE ARGUMENTS`, which serves an `Order`."""

    def __init__(self, module: str, *arguments: object):
        self._command = [sys.executable, "-W", "ignore", "-m", module, *map(str, arguments)]
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )

    def turn(self, steps: int) -> Turn:
        """Raises RuntimeError where the process ends instead of answering."""
        assert self._process.stdin is not None and self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(f"{steps}\n")
            self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(
                f"{' '.join(self._command)} ended with {self._process.wait()}; its output is above"
            )
        page = json.loads(answer)
        return Turn(page["seconds"] / steps, page["losses"], page["peak_mb"])

    def __enter__(self) -> Training:
        return self

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()


def in_turns(
    ways: Mapping[str, Callable[[], Training]], rounds: int, steps: int, warm_up: int
) -> dict[str, list[Turn]]:
    """Rounds of every way, by name; the first entry of each is its warm-up."""
    with contextlib.ExitStack() as stack:
        trainings = {name: stack.enter_context(make()) for name, make in ways.items()}
        turns = {name: [training.turn(warm_up)] for name, training in trainings.items()}
        for _ in range(rounds):
            for name, training in trainings.items():
                turns[name].append(training.turn(steps))
    return turns


def stream(order: Order, items: Iterator[Any], loss: Callable[[], float | None]) -> Iterator[Any]:
    """The same items; asking for the next ends a step, whose loss is `loss()`."""
    while True:
        order.step_done(loss())
        yield next(items)


def seconds_and_peaks(
    turns: Mapping[str, Sequence[Turn]],
) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Of the turns behind the warm-up, for `claims.rows`."""
    seconds = {name: [turn.seconds for turn in taken[1:]] for name, taken in turns.items()}
    return seconds, {name: taken[-1].peak_mb for name, taken in turns.items()}
