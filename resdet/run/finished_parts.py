"""Finished images of a long pass over a set, kept in files while it runs, so that a stop loses few.

    <folder>/fingerprint.json    all that decides the results, so that none of others are mixed in
    <folder>/part_0000123.json   results of some images; .npz for scores of classifiers

A part is written every so many images or seconds by each process, under a temporary name that is
then renamed. A later attempt reads the parts and does the rest, by as many processes as there are
then. A damaged part is removed, and its images run again.

Not for: what a part holds (`detect.testing.partial_results`, `pretrain.protocols.score_parts`).
"""

from __future__ import annotations

import abc
import logging
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from resdet.errors import Interrupted, RunError, TrainingStopped
from resdet.run import layout, shapes
from resdet.run.folder import read_json
from resdet.stop_signals import StopSignals

if TYPE_CHECKING:
    from typing_extensions import Self

logger = logging.getLogger("resdet.run.finished_parts")

Part = TypeVar("Part")


class FinishedParts(abc.ABC):
    """The finished images of one set; a context in which signals end the work after some.

    Args:
        name, images: of the set.
        done: what names the images that are in the folder already.
        processes: how many share the work.

    Attributes:
        done: images that need not be visited: those, and what this process has added.
    """

    # What goes on from the parts.
    COMMAND = "the same command"

    def __init__(self, folder: Path, name: str, images: int, done: Iterable[Any], processes: int):
        self.folder = folder
        self.name = name
        self.images = images
        self.done = set(done)
        self._processes = processes
        self._written = time.monotonic()
        self._signals = StopSignals()

    @property
    def share_left(self) -> float:
        """Of the images, those that are to be visited; in [0, 1]."""
        return 1 - len(self.done) / self.images if self.images else 0.0

    @abc.abstractmethod
    def _unwritten(self) -> int:
        """How many images were added since the last part."""

    @abc.abstractmethod
    def _next_part(self) -> Path:
        """The part that these images make."""

    @abc.abstractmethod
    def _write_part(self, path: Path, seconds: float) -> None:
        """Writes and forgets them; `seconds` went by since the last part. May raise OSError."""

    def write(self) -> None:
        """Writes what was added since the last part; nothing where there is nothing.

        Raises:
            TrainingStopped: it could not be written (full disk).
        """
        if not self._unwritten():
            return
        path, now = self._next_part(), time.monotonic()
        try:
            self._write_part(path, now - self._written)
        except OSError as error:
            raise TrainingStopped(
                f"{path} could not be written: {error.strerror}. Free space and run "
                f"{self.COMMAND}: it goes on from the parts that are there."
            ) from None
        self._written = now

    def _after_add(self, images: int, seconds: float) -> None:
        """Writes a part after so many images or seconds, or at a signal, which ends the work."""
        due = time.monotonic() - self._written >= seconds
        if due or self._unwritten() >= images or self._signals.received is not None:
            self.write()
        self._stop_if_asked()

    def _stop_if_asked(self) -> None:
        if self._signals.received is None:
            return
        number = signal.Signals(self._signals.received)
        least = "" if self._processes == 1 else "at least "
        raise Interrupted(
            f"stopped by {number.name}: {least}{len(self.done):,} of {self.images:,} images of "
            f"{self.name} are kept in {self.folder}. Go on with {self.COMMAND}.",
            exit_code=128 + number,
        )

    def __enter__(self) -> Self:
        self._signals.install()
        self._written = time.monotonic()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._signals.restore()
        self.write()
        # A worker or another process that the same signal ended shows as a RuntimeError here.
        if kind is None or issubclass(kind, RuntimeError):
            self._stop_if_asked()


def fingerprint_in(folder: Path) -> dict[str, Any] | None:
    """What the parts in a folder are of; None where that is not known."""
    try:
        return dict(read_json(folder / layout.FINGERPRINT, shapes.FILES[layout.FINGERPRINT]))
    except RunError:
        return None


def whole_parts(folder: Path, pattern: str, read: Callable[[Path], Part | None]) -> Iterator[Part]:
    """Each whole part in a folder, in the order of names; damaged ones are removed.

    Args:
        read: gives None for a damaged part.
    """
    for leftover in folder.glob("*.tmp"):
        leftover.unlink(missing_ok=True)
    for path in sorted(folder.glob(pattern)):
        part = read(path)
        if part is None:
            logger.warning("%s is damaged; removed, its images run again", path)
            path.unlink()
        else:
            yield part
