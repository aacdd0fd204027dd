"""Boxes of a set of images on disk, written in parts, so that a stop loses few of them.

    FOLDER/about.json          what the boxes are of: model, set, settings
    FOLDER/part_0000200.npz    of images from place 200 on: counts (n,) int64, rows (m, W) float32
    FOLDER/rows.npy, offsets.npy   all of them, once every image is done; the parts are gone then

A part is renamed when it is whole, and is never unpickled. Rows of image i are rows[offsets[i] :
offsets[i + 1]], read from the disk as they are asked for.

Not for: what a row means (`loc_testing`).
"""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from resdet.errors import RunError
from resdet.run.folder import atomic_path, read_json, write_json

ABOUT, ROWS, OFFSETS = "about.json", "rows.npy", "offsets.npy"
PARTS = "part_*.npz"
# Images of a part: some seconds of work on a GPU, a minute or two on a CPU.
PART_IMAGES = 100


class ProposalStore:
    """The boxes of `images` images in a folder.

    Args:
        about: what they are of; boxes of something else are removed.
        width: numbers of a row.
    """

    def __init__(self, folder: Path, images: int, width: int, about: Mapping[str, Any]):
        self.folder = folder
        self.images = images
        self.width = width
        if folder.exists() and self._about() != about:
            shutil.rmtree(folder)
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / ABOUT, dict(about))
        self._pending: list[np.ndarray] = []
        self.done = self.images if self.is_whole else self._written()
        self._start = self.done
        if self.done == self.images and not self.is_whole:
            self._merge()  # stopped between the last part and this

    def _about(self) -> Any:
        try:
            return read_json(self.folder / ABOUT)
        except RunError:
            return None

    @property
    def is_whole(self) -> bool:
        """Whether all images are there, in one file."""
        return (self.folder / OFFSETS).exists()

    def _parts(self) -> list[Path]:
        return sorted(self.folder.glob(PARTS))

    def _written(self) -> int:
        """Images in the parts that follow each other without a gap; what is behind one goes."""
        done = 0
        for path in self._parts():
            counts = self._read(path)[0] if int(path.stem.split("_")[1]) == done else None
            if counts is None:
                path.unlink()
                continue
            done += len(counts)
        return done

    def _read(self, path: Path) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Counts and rows of a part; None, None where it is damaged."""
        try:
            with np.load(path, allow_pickle=False) as file:
                counts, rows = file["counts"], file["rows"]
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None, None
        fits = counts.ndim == 1 and rows.shape == (counts.sum(), self.width)
        return (counts, rows) if fits else (None, None)

    def add(self, rows: np.ndarray) -> None:
        """The rows (m, W) of the next image; m may be 0."""
        self._pending.append(np.asarray(rows, dtype=np.float32).reshape(-1, self.width))
        self.done += 1
        if len(self._pending) >= PART_IMAGES or self.done == self.images:
            self.write()
        if self.done == self.images:
            self._merge()

    def write(self) -> None:
        """Writes what is not on disk yet."""
        if not self._pending:
            return
        path = self.folder / f"part_{self._start:07d}.npz"
        counts = np.array([len(rows) for rows in self._pending], dtype=np.int64)
        with atomic_path(path) as temporary, open(temporary, "wb") as file:
            np.savez(file, counts=counts, rows=np.concatenate(self._pending))
        self._start, self._pending = self.done, []

    def _merge(self) -> None:
        counts: list[np.ndarray] = []
        for path in self._parts():
            part, _ = self._read(path)
            if part is None:
                raise RunError(f"{path} is damaged. Remove it, and go on with --resume.")
            counts.append(part)
        offsets = np.concatenate([[0], *([np.cumsum(np.concatenate(counts))] if counts else [])])
        header = {
            "descr": np.lib.format.dtype_to_descr(np.dtype(np.float32)),
            "fortran_order": False,
            "shape": (int(offsets[-1]), self.width),
        }
        with atomic_path(self.folder / ROWS) as temporary, open(temporary, "wb") as file:
            np.lib.format.write_array_header_1_0(file, header)
            for path in self._parts():
                rows = self._read(path)[1]
                assert rows is not None
                file.write(np.ascontiguousarray(rows, dtype=np.float32).tobytes())
        with atomic_path(self.folder / OFFSETS) as temporary, open(temporary, "wb") as file:
            np.save(file, np.asarray(offsets, dtype=np.int64))
        for path in self._parts():
            path.unlink()

    def rows(self) -> StoredRows:
        """All rows, of a whole store.

        Raises:
            RunError: a file is missing or damaged.
        """
        try:
            offsets = np.load(self.folder / OFFSETS, allow_pickle=False)
            # A file without a row cannot be mapped.
            rows = np.load(
                self.folder / ROWS, mmap_mode="r" if offsets[-1] else None, allow_pickle=False
            )
        except (OSError, ValueError, IndexError, EOFError) as error:
            raise RunError(
                f"{self.folder} holds no whole boxes ({error}). Remove it, and go on with --resume."
            ) from None
        if len(offsets) != self.images + 1 or rows.shape != (offsets[-1], self.width):
            raise RunError(
                f"{self.folder} holds boxes of {len(offsets) - 1:,} images, {self.images:,} are "
                "expected. Remove it, and go on with --resume."
            )
        return StoredRows(rows, offsets)


class StoredRows(Sequence[np.ndarray]):
    """The rows of each image, in the order of the set."""

    def __init__(self, rows: np.ndarray, offsets: np.ndarray):
        self._rows = rows
        self._offsets = offsets

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def __getitem__(self, place: int) -> np.ndarray:  # type: ignore[override]
        return np.asarray(self._rows[self._offsets[place] : self._offsets[place + 1]])
