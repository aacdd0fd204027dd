"""Maps of a set of images on disk, one file for each stage, filled from the first image on.

    FOLDER/index.json       what the maps are of, their shapes, how many images are done
    FOLDER/<stage>.npy      (N, C, H, W) float32
    FOLDER/checksums.npy    (N,) CRC-32 of each image's maps

Each row is read where it lies, and its checksum is compared once in a process. What a kill left
half-written is behind the images that are done, and is computed again.

Not for: computing maps (`trunk_maps`).
"""

from __future__ import annotations

import shutil
import time
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from resdet.errors import DataError, RunError
from resdet.file_names import file_name
from resdet.run.folder import read_json, write_json

INDEX, CHECKSUMS = "index.json", "checksums.npy"
# The index is written so often while maps are added; a kill costs at most as much work.
INDEX_SECONDS = 10.0
_SHAPE = {"of": dict, "shapes": {...: [int]}, "images": int, "done": int}

Maps = dict[str, torch.Tensor]


class MapStore:
    """The maps of one set.

    Args:
        folder: made if it is not there.
        about: what the maps are of; a folder of other maps is refused.
        shapes: (C, H, W) of each stage.
        images: N.

    Raises:
        RunError: the folder holds other maps, is damaged, or cannot be written.
        DataError: the disk is too small.
    """

    def __init__(
        self,
        folder: Path,
        about: Mapping[str, Any],
        shapes: Mapping[str, Sequence[int]],
        images: int,
    ):
        self.folder = folder
        self.images = images
        self._head = {
            "of": dict(about),
            "shapes": {name: list(shape) for name, shape in shapes.items()},
            "images": images,
        }
        self._shapes = list(shapes.values())
        self._checked = np.zeros(images, dtype=np.bool_)
        self._written = time.monotonic()
        if (folder / INDEX).exists():
            self.done = self._read_index()
            mode = "r" if self.is_whole else "r+"
        else:
            self.done, mode = 0, "w+"
            self._make_room()
        self._maps = {
            name: self._open(f"{file_name(name)}.npy", mode, np.float32, (images, *shape))
            for name, shape in shapes.items()
        }
        self._checksums = self._open(CHECKSUMS, mode, np.uint32, (images,))
        if mode == "w+":
            self._write_index()

    @staticmethod
    def is_whole_in(folder: Path) -> bool:
        """Whether all maps of some set are there; raises RunError where the index is damaged."""
        if not (folder / INDEX).exists():
            return False
        found = read_json(folder / INDEX, _SHAPE)
        return bool(found["done"] == found["images"])

    @property
    def is_whole(self) -> bool:
        return self.done == self.images

    def add(self, maps: Mapping[str, torch.Tensor]) -> None:
        """The next images' maps, (n, C, H, W) each."""
        count = len(next(iter(maps.values())))
        rows = slice(self.done, self.done + count)
        for name, values in maps.items():
            self._maps[name][rows] = values.numpy()
        for place in range(rows.start, rows.stop):
            self._checksums[place] = self._checksum(place)
        self.done += count
        if self.is_whole or time.monotonic() - self._written > INDEX_SECONDS:
            self.flush()

    def flush(self) -> None:
        """What is done so far stays, whatever comes."""
        for array in (*self._maps.values(), self._checksums):
            array.flush()
        self._write_index()

    def __getitem__(self, place: int) -> Maps:
        """Maps of one image, (C, H, W) each.

        Raises:
            DataError: they are not those that were written.
        """
        if not 0 <= place < self.done:
            raise IndexError(place)
        if not self._checked[place]:
            if int(self._checksums[place]) != self._checksum(place):
                raise DataError(
                    f"{self.folder} is damaged: the maps of image {place} are not those that were "
                    "written. Remove the folder; they are computed again."
                )
            self._checked[place] = True
        return {name: torch.from_numpy(np.array(a[place])) for name, a in self._maps.items()}

    def _checksum(self, place: int) -> int:
        checksum = 0
        for array in self._maps.values():
            checksum = zlib.crc32(np.ascontiguousarray(array[place]).data, checksum)
        return checksum

    def _read_index(self) -> int:
        found = read_json(self.folder / INDEX, _SHAPE)
        done = int(found.pop("done"))
        if found != self._head or not 0 <= done <= self.images:
            raise RunError(
                f"{self.folder} holds maps of something else, or is damaged. Remove it, or name "
                "another folder in ENGINE.TRUNK_CACHE."
            )
        return done

    def _write_index(self) -> None:
        self._written = time.monotonic()
        write_json(self.folder / INDEX, {**self._head, "done": self.done})

    def _make_room(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(self.folder).free
        except OSError as error:
            raise RunError(
                f"{self.folder} cannot be written: {error.strerror}. Name another folder in "
                "ENGINE.TRUNK_CACHE."
            ) from None
        need = bytes_of(self._shapes, self.images)
        if need > free:
            raise DataError(
                f"The maps of {self.images:,} images take {need / 1e9:.1f} GB, and {self.folder} "
                f"has {free / 1e9:.1f} GB free. Name another folder in ENGINE.TRUNK_CACHE, take "
                "fewer images, or smaller ones: INPUT.SQUARE_PAD, INPUT.MIN_SIZE_TEST and the "
                "other three sizes."
            )

    def _open(self, name: str, mode: Any, dtype: Any, shape: tuple[int, ...]) -> Any:
        path = self.folder / name
        try:
            if mode == "w+":
                return np.lib.format.open_memmap(path, mode, dtype, shape)
            array = np.lib.format.open_memmap(path, mode)
        except (OSError, ValueError) as error:
            raise RunError(
                f"{path} cannot be used: {error}. Remove {self.folder}; its maps are computed "
                "again."
            ) from None
        if array.shape != shape or array.dtype != dtype:
            raise RunError(
                f"{path} is damaged: it holds {array.dtype} {array.shape}, expected "
                f"{np.dtype(dtype)} {shape}. Remove {self.folder}; its maps are computed again."
            )
        return array


def bytes_of(shapes: Iterable[Sequence[int]], images: int) -> int:
    """Of float32 maps of these shapes, and their checksums."""
    return images * (4 * sum(int(np.prod(shape)) for shape in shapes) + 4)
