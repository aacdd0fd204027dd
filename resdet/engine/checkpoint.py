"""Atomic checkpoints: written aside, verified, renamed; the newest whole one is loaded.

A checkpoint is a torch file of tensors, numbers and text, so it loads under torch's strict rule.
It holds model, optimizer, schedule and the number of steps done. Sample order and random numbers
need no state: they follow from seed and step (`resdet.data.order`, `resdet.engine.loop`).

Not for: weights that go elsewhere (`resdet.weights`).
"""

from __future__ import annotations

import logging
import re
import zipfile
from pathlib import Path
from typing import Any

import torch

from resdet.errors import RunError, TrainingStopped
from resdet.run import layout
from resdet.run.folder import atomic_path, write_text

logger = logging.getLogger("resdet.engine.checkpoint")

NAME = re.compile(layout.CHECKPOINT_NAME)


def save(folder: Path, state: dict[str, Any], *, keep: int) -> Path:
    """Writes `state` (with "iteration" = steps done) and removes older ones beyond `keep`.

    Raises:
        TrainingStopped: the disk is full; the last good checkpoint is named and untouched.
    """
    path = folder / layout.checkpoint_name(state["iteration"])
    failed = ""
    try:
        with atomic_path(path) as temporary:
            torch.save(state, temporary)
            if broken := _broken_member(temporary):
                raise OSError(f"{broken} fails its checksum right after writing")
        write_text(folder / layout.NEWEST_CHECKPOINT, path.name + "\n")
    except (OSError, RuntimeError) as error:
        failed = str(error)
    # Outside of the handler: the error keeps torch's writer, and its open file keeps the space.
    if failed:
        last = newest(folder)
        raise TrainingStopped(
            f"checkpoint {path} could not be written: {failed}. Last good: "
            f"{last.name if last else 'none'}. Free space and run the same command with --resume."
        )
    for old in _numbered(folder)[: -max(keep, 2)]:
        old.unlink()
    return path


def newest(folder: Path) -> Path | None:
    """The newest whole checkpoint. One that does not verify is renamed to .bad, with a warning.

    Raises:
        RunError: the newest may not be read, whole or not.
    """
    for leftover in folder.glob("*.tmp"):
        leftover.unlink(missing_ok=True)
    for path in reversed(_numbered(folder)):
        if _is_whole(path):
            return path
        bad = path.with_suffix(".bad")
        path.rename(bad)
        logger.warning(
            "%s is damaged; set aside as %s, going back to the one before", path, bad.name
        )
    return None


def load(path: Path) -> dict[str, Any]:
    """Raises RunError where the file holds more than tensors, numbers and text."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise RunError(f"{path} is not a checkpoint of resdet: {error}") from None
    return dict(state)


def _numbered(folder: Path) -> list[Path]:
    paths = [p for p in folder.glob(layout.CHECKPOINT_FILES) if NAME.fullmatch(p.name)]
    return sorted(paths, key=lambda p: int(NAME.fullmatch(p.name)[1]))  # type: ignore[index]


def _is_whole(path: Path) -> bool:
    try:
        with open(path, "rb"):
            pass
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror}. Make it readable.") from None
    try:
        if not zipfile.is_zipfile(path) or _broken_member(path) is not None:
            return False
        return isinstance(torch.load(path, map_location="cpu", weights_only=True, mmap=True), dict)
    except Exception:  # zip, pickle and torch each have errors of their own for damage
        return False


def _broken_member(path: Path) -> str | None:
    with zipfile.ZipFile(path) as archive:
        return archive.testzip()
