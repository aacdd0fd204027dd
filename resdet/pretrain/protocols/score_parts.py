"""Finished images of a test protocol: their numbers and log-probabilities, in parts of .npz.

Nothing in them is pickled. Parts of another net, set or protocol are removed.

Not for: when a part is written (`resdet.run.finished_parts`), or the finished file
(`resdet.evaluation.classification.score_files`).
"""

from __future__ import annotations

import functools
import logging
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.utils import comm

from resdet.atomic import atomic_path
from resdet.errors import CheckFailed
from resdet.run import layout
from resdet.run.finished_parts import FinishedParts, fingerprint_in, whole_parts
from resdet.run.folder import write_json

logger = logging.getLogger("resdet.pretrain")

# At most so many images or seconds of one process are lost by a kill.
PART_IMAGES = 2000
PART_SECONDS = 60.0


class ScoreParts(FinishedParts):
    """The finished images of one set, named by their numbers."""

    def __init__(self, folder: Path, name: str, images: int, classes: int, done: list[int]):
        super().__init__(folder, name, images, done, comm.get_world_size())
        self.classes = classes
        self._numbers: list[int] = []
        self._rows: list[np.ndarray] = []

    @classmethod
    def open(
        cls, folder: Path, fingerprint: Mapping[str, Any], *, name: str, images: int, classes: int
    ) -> ScoreParts:
        """The parts in a folder, read by the main process and told to the others."""
        done: list[int] = []
        if comm.is_main_process():
            if fingerprint_in(folder) == fingerprint:
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
        self._after_add(PART_IMAGES, PART_SECONDS)

    def _unwritten(self) -> int:
        return len(self._numbers)

    def _next_part(self) -> Path:
        return self.folder / layout.score_part_name(self._numbers[0])

    def _write_part(self, path: Path, seconds: float) -> None:
        with atomic_path(path) as temporary, open(temporary, "wb") as file:
            np.savez(
                file,
                numbers=np.array(self._numbers, dtype=np.int64),
                log_probabilities=np.concatenate(self._rows),
            )
        self._numbers, self._rows = [], []

    def gathered(self) -> np.ndarray:
        """(N, K) of all parts, by the main process after all others have written theirs.

        Raises:
            CheckFailed: an image was seen twice or never; no number then.
        """
        table = np.full((self.images, self.classes), np.nan, dtype=np.float32)
        seen = np.zeros(self.images, dtype=np.int64)
        for path in sorted(self.folder.glob(layout.SCORE_PART_FILES)):
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


def _numbers_in(folder: Path, images: int, classes: int) -> list[int]:
    read = functools.partial(_read, images=images, classes=classes)
    parts = whole_parts(folder, layout.SCORE_PART_FILES, read)
    return [number for numbers, _ in parts for number in numbers.tolist()]


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
