"""Where the time went: named spans that nest, summed up while a command runs with `--profile`.

    with profile.section("training", "step"):      a part of the command, with a table of its own
        with profile.step():                       what its table is divided by
            with profile.span("forward"):          a row; spans inside it are parts of it

Without a recording every one of these is the same empty context: nothing is measured or kept.
Times are wall clock of one thread. A section that begins inside another (a measurement in the
middle of a training) is taken out of it, so that sections never overlap and sum to the whole.

What workers and other threads do runs beside that thread: it is summed apart (`Section.beside`).

Not for: how it looks (`profile_view`), or what is worth a span: each stands in the code it times.
"""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, ParamSpec, TypeVar

from resdet.errors import Interrupted

WAIT = "wait for data"
DECODE = "decode"
AUGMENT = "resize and augment"
# Names timed in data workers, and of how many sections; shared memory is allocated before them.
BESIDE = (DECODE, AUGMENT)
MAX_SECTIONS = 32
# The first steps of a section allocate, compile and fill caches. With fewer than ENOUGH steps in
# all there would be too little left.
FIRST = 3
ENOUGH = 10

P = ParamSpec("P")
T = TypeVar("T")
Context = contextlib.AbstractContextManager[Any]
Settle = Callable[[], None]


def nothing_to_settle() -> None:
    """For a device that is done when its call returns."""


@dataclass
class Row:
    """A span's sum, with the spans inside it in the order in which they first came.

    seconds: of the span and all inside it, but what was taken out of it.
    """

    seconds: float = 0.0
    calls: int = 0
    parts: dict[str, Row] = field(default_factory=dict)

    @property
    def own(self) -> float:
        """Seconds that no span inside it names."""
        return self.seconds - sum(part.seconds for part in self.parts.values())

    def add(self, other: Row) -> None:
        self.seconds += other.seconds
        self.calls += other.calls
        for name, part in other.parts.items():
            self.parts.setdefault(name, Row()).add(part)

    def to_json(self) -> dict[str, Any]:
        parts = {"parts": {k: v.to_json() for k, v in self.parts.items()}} if self.parts else {}
        return {"seconds": self.seconds, "own": self.own, "calls": self.calls, **parts}


@dataclass
class Section:
    """A part of the command.

    Attributes:
        unit: what its steps are: "step", "batch", "image"; "" without steps.
        seconds: of all of it.
        first: the first steps, where they are set apart.
        steps: the others; where there are no steps, all that was done. `calls` counts them.
        around: between and beside the steps, in seconds.
        beside: what workers and other threads did meanwhile; no part of `seconds`.
    """

    name: str
    unit: str
    seconds: float
    first: Row
    steps: Row
    around: float
    beside: dict[str, Row]

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "unit": self.unit or None,
            "seconds": self.seconds,
            "first": self.first.to_json(),
            "steps": self.steps.to_json(),
            "around": self.around,
            "beside": {k: {"seconds": v.seconds, "calls": v.calls} for k, v in self.beside.items()},
        }


@dataclass
class ProfileReport:
    """A whole command: `ready` + sections + `other` = `seconds`.

    Attributes:
        ready: from its first line to its first section.
        other: between the sections and after them.
        notes: how it was measured, in sentences.
    """

    command: str
    seconds: float
    ready: float
    sections: list[Section]
    other: float
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "command": self.command,
            "seconds": self.seconds,
            "getting ready": self.ready,
            "sections": [section.to_json() for section in self.sections],
            "other": self.other,
            "notes": list(self.notes),
        }


class _Sums:
    """What is kept of a section while it is measured."""

    def __init__(self, unit: str, number: int):
        self.unit = unit
        self.number = number
        self.all = Row()
        self.first = Row()
        self.later = Row()

    def add_step(self, step: Row) -> None:
        (self.first if self.first.calls < FIRST else self.later).add(step)


class _Frame:
    """An open span. `anchor` is the place in the stack of the frame that it is a part of."""

    def __init__(self, profile: Profile, row: Row, anchor: int, sums: _Sums | None = None):
        self.profile = profile
        self.row = row
        self.anchor = anchor
        self.sums = sums
        self.counts = True  # a step that turns out to be none is not counted
        self.is_step = False
        self.began = 0.0
        self.away = 0.0  # seconds inside it that are part of something else

    def __enter__(self) -> _Frame:
        self.profile._begin(self)
        return self

    def __exit__(self, *error: object) -> None:
        self.profile._end(self)


class Profile:
    """Sums of spans, from its making on.

    Args:
        command: whose time it is.
        clock: seconds that never run back.
        settle: called before the clock is read; waits for an asynchronous device.
    """

    def __init__(
        self,
        command: str,
        *,
        clock: Callable[[], float] = time.perf_counter,
        settle: Settle = nothing_to_settle,
    ):
        self.command = command
        self._clock = clock
        self._settle = settle
        self._began = clock()
        self._ready: float | None = None
        self._ended: float | None = None
        self._stack: list[_Frame] = []
        self._sections: dict[str, _Sums] = {}
        self._owner = (os.getpid(), threading.get_ident())
        # Seconds and calls of each name of BESIDE in each section; forked workers share it.
        self._beside = multiprocessing.Array("d", MAX_SECTIONS * len(BESIDE) * 2)

    @property
    def is_started(self) -> bool:
        """Whether a section was entered: before, there is nothing to show."""
        return self._ready is not None

    # -- measuring -------------------------------------------------------------------------

    def section(self, name: str, unit: str) -> Context:
        if not self._is_mine():
            return OFF
        sums = self._sections.setdefault(name, _Sums(unit, len(self._sections)))
        return _Frame(self, sums.all, -1, sums)

    def step(self) -> Context:
        if not self._is_mine() or not self._stack or self._stack[-1].sums is None:
            return OFF
        frame = _Frame(self, Row(), len(self._stack) - 1)
        frame.is_step = True
        return frame

    def span(self, name: str, apart: bool) -> Context:
        if not self._is_mine():
            return _Beside(self, name) if name in BESIDE else OFF
        if not self._stack:
            return OFF
        top = len(self._stack) - 1
        # Out of the innermost span, but not out of its step.
        inner = self._stack[top]
        anchor = inner.anchor if apart and not inner.is_step and inner.sums is None else top
        return _Frame(self, self._stack[anchor].row.parts.setdefault(name, Row()), anchor)

    def _is_mine(self) -> bool:
        return (os.getpid(), threading.get_ident()) == self._owner

    def _begin(self, frame: _Frame) -> None:
        self._settle()
        frame.began = self._clock()
        if self._ready is None:
            self._ready = frame.began - self._began
        self._stack.append(frame)

    def _end(self, frame: _Frame) -> None:
        """Ends a frame and what is open inside it: a generator is closed late, or never."""
        if frame not in self._stack:
            return
        self._settle()
        now = self._clock()
        while True:
            top = self._stack.pop()
            self._sum(top, now)
            if top is frame:
                return

    def _sum(self, frame: _Frame, now: float) -> None:
        seconds = now - frame.began - frame.away
        frame.row.seconds += seconds
        frame.row.calls += 1
        for other in self._stack[frame.anchor + 1 :]:
            other.away += seconds
        if frame.is_step and frame.counts:
            sums = self._stack[frame.anchor].sums
            assert sums is not None
            sums.add_step(frame.row)

    def add_beside(self, name: str, seconds: float) -> None:
        """From a worker: it was forked inside a section, and has a copy of its frame."""
        number = next((f.sums.number for f in reversed(self._stack) if f.sums), MAX_SECTIONS)
        if number < MAX_SECTIONS:
            place = 2 * (number * len(BESIDE) + BESIDE.index(name))
            with self._beside.get_lock():
                self._beside[place] += seconds
                self._beside[place + 1] += 1

    # -- the result ------------------------------------------------------------------------

    def end(self) -> None:
        """The whole ends here, if it has not ended."""
        if self._ended is None:
            if self._stack:
                self._end(self._stack[0])
            self._ended = self._clock()

    def report(self, notes: Iterable[str] = ()) -> ProfileReport:
        """What was measured up to `end`, which this calls."""
        self.end()
        assert self._ended is not None
        whole = self._ended - self._began
        ready = whole if self._ready is None else self._ready
        sections = [self._section(name, sums) for name, sums in self._sections.items()]
        other = whole - ready - sum(section.seconds for section in sections)
        return ProfileReport(self.command, whole, ready, sections, other, tuple(notes))

    def _section(self, name: str, sums: _Sums) -> Section:
        first, later = Row(), Row()
        later.add(sums.later)
        steps = sums.first.calls + sums.later.calls
        if steps == 0:
            later.add(sums.all)
        else:
            (first if steps >= ENOUGH else later).add(sums.first)
        around = sums.all.seconds - first.seconds - later.seconds
        unit = sums.unit if steps else ""
        beside = {}
        for i, part in enumerate(BESIDE if sums.number < MAX_SECTIONS else ()):
            place = 2 * (sums.number * len(BESIDE) + i)
            if self._beside[place + 1]:
                beside[part] = Row(self._beside[place], int(self._beside[place + 1]))
        return Section(name, unit, sums.all.seconds, first, later, around, beside)


class _Beside:
    def __init__(self, profile: Profile, name: str):
        self.profile = profile
        self.name = name

    def __enter__(self) -> None:
        self.began = self.profile._clock()

    def __exit__(self, *error: object) -> None:
        self.profile.add_beside(self.name, self.profile._clock() - self.began)


# -- spans and sections in the code ----------------------------------------------------------------

OFF: Context = contextlib.nullcontext()
_active: Profile | None = None


def active() -> Profile | None:
    """The recording, if there is one."""
    return _active


def section(name: str, unit: str = "") -> Context:
    """A part of the command with a table of its own; `unit` names its steps."""
    return OFF if _active is None else _active.section(name, unit)


def step() -> Context:
    """One step of the section around it."""
    return OFF if _active is None else _active.step()


def span(name: str, *, apart: bool = False) -> Context:
    """A row of the table, part of the span around it; with `apart` a row beside that one."""
    return OFF if _active is None else _active.span(name, apart)


def timed(name: str, *, apart: bool = False) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """A function whose calls are spans."""

    def decorated(function: Callable[P, T]) -> Callable[P, T]:
        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> T:
            if _active is None:
                return function(*args, **kwargs)
            with span(name, apart=apart):
                return function(*args, **kwargs)

        return call

    return decorated


def stepwise(items: Iterable[T]) -> Iterable[T]:
    """The same items; getting one and what is done with it is a step."""
    return items if _active is None else _stepwise(items)


def _stepwise(items: Iterable[T]) -> Iterator[T]:
    iterator: Iterator[T] | None = None
    nothing: Any = object()
    while True:
        with step() as frame:
            with span(WAIT):
                if iterator is None:
                    iterator = iter(items)  # starts the workers
                item = next(iterator, nothing)
            if item is nothing:
                if frame is not None:
                    frame.counts = False
                return
            yield item


@contextlib.contextmanager
def recording(profile: Profile) -> Iterator[Profile]:
    """Spans go to this profile meanwhile.

    SIGTERM raises Interrupted where it would have killed the process, so that what was measured
    can be kept.
    """
    global _active  # noqa: PLW0603 one recording a process, as with logging
    if _active is not None:
        raise ValueError(f"{_active.command} is being recorded already")
    ours = threading.current_thread() is threading.main_thread()
    ours = ours and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    if ours:
        signal.signal(signal.SIGTERM, _stop)
    _active = profile
    try:
        yield profile
    finally:
        profile.end()
        _active = None
        if ours:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _stop(number: int, frame: Any) -> None:
    raise Interrupted("stopped by SIGTERM", exit_code=128 + number)
