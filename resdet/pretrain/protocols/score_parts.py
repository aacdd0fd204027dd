"""Finished images of a test protocol, kept in files while it runs, so that a stop loses few.

    <folder>/fingerprint.json   net, set and protocol that the parts are of
    <folder>/part_0000123.npz   numbers of images and their log-probabilities, never pickled

A part is written every so many images or seconds by each process, under a temporary name that is
then renamed. The same command reads them and does the rest, with as many processes as there are
then. A damaged part is removed, and its images run again.

Not for: the finished file (`resdet.evaluation.classification.score_files`).
"""

from __future__ import annotations

import logging
import shutil
import signal
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from detectron2.utils import comm

from resdet.atomic import atomic_path
from resdet.engine.checkpoint import Checkpoints
from resdet.errors import CheckFailed, Interrupted, RunError, TrainingStopped
from resdet.run import layout
from resdet.run.folder import read_json, write_json

logger = logging.getLogger("resdet.pretrain")

# At most so many images or seconds of one process are lost by a kill.
PART_IMAGES = 2000
PART_SECONDS = 60.0
FILES = "part_*.npz"


class ScoreParts:
    """The finished images of one set; a context in which signals end the work after a batch.

    Attributes:
        done: numbers of the images that need not be visited; the same on every process at first.
    """

    def __init__(self, folder: Path, name: str, images: int, classes: int, done: list[int]):
        self.folder = folder
        self.name = name
        self.images = images
        self.classes = classes
        self.done = set(done)
        self._numbers: list[int] = []
        self._rows: list[np.ndarray] = []
        self._written = time.monotonic()
        self._signal: int | None = None
        self._previous: dict[int, Any] = {}

    @classmethod
    def open(
        cls, folder: Path, fingerprint: Mapping[str, Any], *, name: str, images: int, classes: int
    ) -> ScoreParts:
        """The parts in a folder, read by the main process and told to the others."""
        done: list[int] = []
        if comm.is_main_process():
            if _stated_in(folder) == fingerprint:
                done = _numbers_in(folder, images, classes)
            elif folder.exists():
                logger.warning("%s: finished images of something else are removed", folder)
                shutil.rmtree(folder)
            write_json(folder / layout.FINGERPRINT, dict(fingerprint))
        # No part is written before the folder is read: this waits for the main process.
        done = comm.all_gather(done)[0]
        if done:
            logger.info("%s: %d of %d images are there already", name, len(done), images)
        return cls(folder, name, images, classes, done)

    def left(self) -> list[int]:
        """Numbers of the images that are not yet visited, in order."""
        return [number for number in range(self.images) if number not in self.done]

    def add(self, numbers: list[int], rows: np.ndarray) -> None:
        """Finished images with their (n, K) log-probabilities.

        Raises:
            Interrupted: a signal came; everything so far is written.
            TrainingStopped: a part could not be written (full disk).
        """
        self._numbers += numbers
        self._rows.append(rows)
        self.done.update(numbers)
        due = time.monotonic() - self._written >= PART_SECONDS
        if due or len(self._numbers) >= PART_IMAGES or self._signal is not None:
            self.write()
        self.stop_if_asked()

    def write(self) -> None:
        """Writes what was added since the last part; nothing where there is nothing."""
        if not self._numbers:
            return
        path = self.folder / f"part_{self._numbers[0]:07d}.npz"
        try:
            with atomic_path(path) as temporary, open(temporary, "wb") as file:
                np.savez(
                    file,
                    numbers=np.array(self._numbers, dtype=np.int64),
                    log_probabilities=np.concatenate(self._rows),
                )
        except OSError as error:
            raise TrainingStopped(
                f"{path} could not be written: {error.strerror}. Free space and run the same "
                "command again: it goes on from the parts that are there."
            ) from None
        self._numbers, self._rows, self._written = [], [], time.monotonic()

    def gathered(self) -> np.ndarray:
        """(N, K) of all parts, by the main process after all others have written theirs.

        Raises:
            CheckFailed: an image was seen twice or never; no number then.
        """
        table = np.full((self.images, self.classes), np.nan, dtype=np.float32)
        seen = np.zeros(self.images, dtype=np.int64)
        for path in sorted(self.folder.glob(FILES)):
            part = _read(path, self.images, self.classes)
            if part is not None:
                np.add.at(seen, part[0], 1)
                table[part[0]] = part[1]
        if (seen != 1).any():
            raise CheckFailed(
                f"{self.name}: expected {self.images} images, saw {int((seen > 0).sum())}, "
                f"{int((seen > 1).sum())} twice ({self.folder}). No error rate is given; run the "
                "same command again. Processes on several machines need a folder that all share."
            )
        return table

    def remove(self) -> None:
        """What is in the finished file need not stay."""
        shutil.rmtree(self.folder, ignore_errors=True)

    # -- signals ---------------------------------------------------------------------------

    def __enter__(self) -> ScoreParts:
        for number in Checkpoints.SIGNALS:
            self._previous[number] = signal.signal(number, self._note)
        self._written = time.monotonic()
        return self

    def _note(self, number: int, frame: Any) -> None:
        """The first signal ends the work after the batch; a second one at once."""
        self._signal = number
        signal.signal(number, self._previous.get(number) or signal.SIG_DFL)

    def stop_if_asked(self) -> None:
        if self._signal is None:
            return
        number = signal.Signals(self._signal)
        least = "" if comm.get_world_size() == 1 else "at least "
        raise Interrupted(
            f"stopped by {number.name}: {least}{len(self.done):,} of {self.images:,} images of "
            f"{self.name} are kept in {self.folder}. Go on with the same command.",
            exit_code=128 + number,
        )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self.write()
        # A worker or another process that the same signal ended shows as a RuntimeError here.
        if kind is None or issubclass(kind, RuntimeError):
            self.stop_if_asked()


def _stated_in(folder: Path) -> Any:
    try:
        return read_json(folder / layout.FINGERPRINT)
    except RunError:
        return None


def _numbers_in(folder: Path, images: int, classes: int) -> list[int]:
    done: list[int] = []
    for leftover in folder.glob("*.tmp"):
        leftover.unlink(missing_ok=True)
    for path in sorted(folder.glob(FILES)):
        part = _read(path, images, classes)
        if part is None:
            logger.warning("%s is damaged; removed, its images run again", path)
            path.unlink()
            continue
        done += part[0].tolist()
    return done


def _read(path: Path, images: int, classes: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Numbers and rows of a part; None where it is damaged (the zip has a checksum of each)."""
    try:
        with np.load(path, allow_pickle=False) as file:
            numbers, rows = file["numbers"], file["log_probabilities"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, NotImplementedError):
        return None
    fits = (
        numbers.dtype == np.int64
        and rows.dtype == np.float32
        and numbers.ndim == 1
        and rows.shape == (len(numbers), classes)
        and len(numbers) > 0
        and 0 <= numbers.min() <= numbers.max() < images
    )
    return (numbers, rows) if fits else None
