"""Tar shards written by Python's `tarfile`, member by member, as any tool would leave them.

Not for: shards from folders (`resdet.data.shards.making`).
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

Members = Iterable[tuple[str, bytes]]


def jpeg(seed: int = 0, size: tuple[int, int] = (24, 20), mode: str = "RGB", **save) -> bytes:
    """A JPEG of smooth noise."""
    noise = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    stream = io.BytesIO()
    picture = Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC).convert(mode)
    picture.save(stream, **{"format": "JPEG", **save})
    return stream.getvalue()


def write_shard(path: Path, members: Members, tar_format: int = tarfile.USTAR_FORMAT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=tar_format) as tar:
        for name, content in members:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return path


def sample(
    key: str, label: int | str, seed: int = 0, suffix: str = "jpg"
) -> list[tuple[str, bytes]]:
    """Image and label of one key."""
    return [(f"{key}.{suffix}", jpeg(seed)), (f"{key}.cls", str(label).encode())]
