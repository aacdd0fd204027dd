"""What a made folder must hold, and whether it does.

`manifest.json` notes the recipe, the hashes of all pictures, how many files each folder holds,
and one hash over all files. A folder is used again only if its recipe is this one's (compared
by content, not by the folder's name) and every file is there.

Not for: making the folder (`build`).
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import PIL
from PIL import Image

from resdet.data.digits.published import FIRST_JPEG, PUBLISHED, SIZES, VERSION
from resdet.data.digits.worker import Share, Sizes

logger = logging.getLogger(__name__)

MANIFEST = "manifest.json"


def read_manifest(root: Path) -> dict[str, Any] | None:
    """What make() noted about the folder; None if there is nothing readable."""
    try:
        value = json.loads((root / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def what_is_wrong(root: Path, sizes: Sizes = SIZES, *, verify: bool = False) -> str | None:
    """Why the folder cannot be used, in a few words; None if it can.

    Args:
        verify: read and hash every file, instead of counting them.
    """
    noted = read_manifest(root)
    if noted is None:
        return "it is not there yet"
    if noted.get("recipe") != recipe(sizes):
        return "it was made by another version"
    for name, count in noted["folders"].items():
        present = count_files(root / name)
        if present != count:
            return f"{name} holds {present} files instead of {count}"
    if verify and _hash_files(root, noted["folders"]) != noted["files"]:
        return "files were changed since"
    return None


def recipe(sizes: Sizes) -> dict[str, Any]:
    return {"version": VERSION, "sizes": dict(sizes), "published": PUBLISHED}


def write_manifest(root: Path, share: Share, sizes: Sizes) -> dict[str, Any]:
    """Notes what was made; the last file to be written."""
    folders = sorted({name.rpartition("/")[0] for name in share.files} - {""})
    noted = {
        "recipe": recipe(sizes),
        "hashes": {unit: unit_hash(share.digests.get(unit, {})) for unit in sizes},
        "first_jpeg": _first_jpeg(root) if sizes["scenes_train"] else None,
        "differing_sources": share.differing,
        "versions": {"numpy": np.__version__, "pillow": PIL.__version__},
        "folders": {name: count_files(root / name) for name in folders},
        "files": _combined(share.files),
    }
    (root / MANIFEST).write_text(json.dumps(noted, indent=1) + "\n", encoding="utf-8")
    return noted


def unit_hash(digests: Mapping[int, str]) -> str:
    """SHA-256 over the digests of pictures 0, 1, 2, …"""
    return sha256("".join(digests[i] for i in sorted(digests)).encode())


def differences(noted: Mapping[str, Any]) -> list[str]:
    """In what the pictures are not those that every machine should get; empty when they are."""
    reasons = []
    if noted["differing_sources"]:
        reasons.append(f"{', '.join(noted['differing_sources'])} decode to other pixels")
    if noted["recipe"]["sizes"] == SIZES and noted["hashes"] != PUBLISHED:
        units = [unit for unit, value in noted["hashes"].items() if value != PUBLISHED.get(unit)]
        reasons.append(f"{', '.join(units)} have other pixels than the published ones")
    if noted["first_jpeg"] not in (None, FIRST_JPEG):
        reasons.append("JPEG is encoded or decoded to other pixels")
    return reasons


def warn_of_differences(noted: Mapping[str, Any]) -> None:
    reasons = differences(noted)
    if reasons:
        logger.warning(
            "The embedded digits differ on this machine: %s. Everything works, but numbers are "
            "not comparable to RESULTS.md to the last digit.",
            "; ".join(reasons),
        )


def _first_jpeg(root: Path) -> str:
    """Hash of the first train scene as this machine writes and decodes it."""
    with Image.open(root / "voc" / "JPEGImages" / "000001.jpg") as image:
        return sha256(np.asarray(image.convert("RGB")).tobytes())


def count_files(folder: Path) -> int:
    try:
        with os.scandir(folder) as entries:
            return sum(entry.is_file() for entry in entries)
    except OSError:
        return 0


def _hash_files(root: Path, folders: Mapping[str, int]) -> str:
    files = {"SOURCES.md": root / "SOURCES.md"}
    for name in folders:
        files.update({f"{name}/{p.name}": p for p in (root / name).iterdir()})
    present = {name: path for name, path in files.items() if path.is_file()}
    return _combined({name: sha256(path.read_bytes()) for name, path in present.items()})


def _combined(hashes: Mapping[str, str]) -> str:
    return sha256("".join(f"{name} {hashes[name]}\n" for name in sorted(hashes)).encode())


def sha256(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()
