"""The files in wheels that the embedded set is made of: found by path, checked by hash.

1,797 handwritten digits of 8x8 and 18 photographs lie in scikit-learn, scikit-image and
matplotlib. They are read as files; no function of those packages is called, since many of
theirs fetch from the net on first use.

What counts is the decoded array: its SHA-256 is compared with the one known here. JPEG leaves
the decoder some freedom, and another decoder than libjpeg-turbo may give other pixels. That is
reported (`Sources.differing`), since numbers are then not comparable; it stops nothing.

Not for: how the material is divided among the splits (`splits`).
"""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from resdet.data.digits.material import DIGITS, INSTALL, PHOTOS, PIP_NAMES, SourceFile
from resdet.errors import DataError


@dataclass(frozen=True)
class Sources:
    """All material, decoded.

    Attributes:
        digits: 1797 x 8 x 8 uint8, values 0 to 16.
        labels: 1797 uint8.
        photos: H x W x 3 uint8 RGB, in the order of `PHOTOS`.
        differing: names of files that this machine decodes to other pixels.
    """

    digits: np.ndarray
    labels: np.ndarray
    photos: tuple[np.ndarray, ...]
    differing: tuple[str, ...]


def locate() -> dict[str, Path]:
    """Path of every source file by its name. Cheap: nothing is opened, no package imported.

    Raises:
        DataError: a package or a file is not there; names all that lack, and what to type.
    """
    paths, missing = {}, []
    for source in (DIGITS, *PHOTOS):
        folder = _package_folder(source.package)
        if folder is not None and (folder / source.path).is_file():
            paths[source.name] = folder / source.path
        else:
            what = "not installed" if folder is None else f"not in {folder}"
            missing.append(f"  {source.path} of {PIP_NAMES[source.package]}: {what}")
    if missing:
        raise DataError(
            "The embedded digits are made from files in three packages; "
            f"{len(missing)} of {1 + len(PHOTOS)} are missing:\n"
            + "\n".join(missing)
            + f"\nType: {INSTALL}"
        )
    return paths


def read() -> Sources:
    """Everything, decoded and checked.

    Raises:
        DataError: a file is missing, or is another one than the set was made from.
    """
    paths = locate()
    differing: list[str] = []
    table = _checked(DIGITS, paths, differing)
    photos = tuple(_checked(photo, paths, differing) for photo in PHOTOS)
    return Sources(table[:, :64].reshape(-1, 8, 8), table[:, 64], photos, tuple(differing))


def _package_folder(package: str) -> Path | None:
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return None
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0])


def _checked(source: SourceFile, paths: dict[str, Path], differing: list[str]) -> np.ndarray:
    path = paths[source.name]
    raw = path.read_bytes()
    is_same_file = _hash16(raw) == source.file_hash
    try:
        array = _read_digits(raw) if source is DIGITS else _read_photo(path)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path} cannot be read: {error}.\n{_install_again(source)}") from None
    if _hash16(array.tobytes()) != source.array_hash:
        if not is_same_file:
            raise DataError(
                f"{path} is another file than the embedded digits are made from (SHA-256 "
                f"{_hash16(raw)}…, expected {source.file_hash}…).\n{_install_again(source)}"
            )
        differing.append(source.name)
    return array


def _install_again(source: SourceFile) -> str:
    return f"Type: pip install --force-reinstall {PIP_NAMES[source.package]}, or {INSTALL}"


def _hash16(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()[:16]


def _read_digits(raw: bytes) -> np.ndarray:
    rows = gzip.decompress(raw).split()
    table = np.array([row.split(b",") for row in rows]).astype(np.float64)
    if table.ndim != 2 or table.shape[1] != 65:
        raise ValueError(f"a table of shape {table.shape}, expected (1797, 65)")
    return table.astype(np.uint8)


def _read_photo(path: Path) -> np.ndarray:
    # convert copies grey to three equal channels; no photo here has alpha or a palette.
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))
