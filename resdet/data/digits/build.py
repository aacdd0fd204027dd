"""Makes the embedded set once, whole or not at all, with any number of processes.

It is painted into a sibling folder and renamed when done; a lock file keeps a second process
waiting.

Not for: what the pictures look like (`painter`), or what a made folder must hold (`manifest`).
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from resdet.data.cache import cache_folder
from resdet.data.digits.manifest import (
    MANIFEST,
    read_manifest,
    sha256,
    warn_of_differences,
    what_is_wrong,
    write_manifest,
)
from resdet.data.digits.material import credits_text
from resdet.data.digits.processes import Progress, default_workers, paint
from resdet.data.digits.published import SIZES, VERSION
from resdet.data.digits.sources import locate
from resdet.data.digits.splits import SPLITS
from resdet.data.digits.worker import Share, Sizes
from resdet.data.digits.writer import CLASSES, write_coco, write_image_sets
from resdet.errors import DataError

logger = logging.getLogger(__name__)

MEGABYTES_NEEDED = 400


def make(
    folder: Path | str | None = None,
    *,
    progress: Progress | None = None,
    workers: int | None = None,
    verify: bool = False,
    sizes: Sizes = SIZES,
) -> Path:
    """The folder of the embedded set, made now (40 s of one core) unless it is there and whole.

    Args:
        folder: where; `cache_folder()` / "digits-<version>" without it.
        progress: called with (pictures painted, of how many) now and then.
        workers: processes; without it as many as there are cores, up to 4. The result is the
            same with any number; 1 paints in this process.
        verify: compare every file's SHA-256 with the manifest (seconds), not only the number
            of files.
        sizes: pictures per unit as in `SIZES`, for tests. Other sizes have no published hash.

    Raises:
        DataError: a wheel is missing, the folder cannot be written or holds something else.
    """
    root = Path(folder) if folder else cache_folder() / f"digits-{VERSION}"
    root = root.expanduser().absolute()
    if what_is_wrong(root, sizes, verify=verify) is None:
        return root
    locate()
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        with _locked(root):
            wrong = what_is_wrong(root, sizes, verify=verify)
            if wrong is not None:
                _refuse_foreign(root)
                logger.info("Making the embedded digits in %s: %s.", root, wrong)
                _rebuild(root, sizes, workers or default_workers(), progress)
    except OSError as error:
        raise DataError(
            f"{root} cannot be written: {error.strerror or error}. "
            f"Set RESDET_CACHE to a folder on a disk with {MEGABYTES_NEEDED} MB to spare."
        ) from None
    return root


@contextlib.contextmanager
def _locked(root: Path) -> Iterator[None]:
    """Holds `<root>.lock`; the system lets go of it when this process ends, however it does."""
    with open(root.with_name(f"{root.name}.lock"), "w", encoding="utf-8") as f:
        try:
            fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logger.info("Waiting for another process that makes %s.", root)
            fcntl.flock(f, fcntl.LOCK_EX)
        yield


def _refuse_foreign(root: Path) -> None:
    """Only what make() made is ever replaced."""
    if not root.exists() or read_manifest(root) is not None:
        return
    if not root.is_dir() or any(root.iterdir()):
        raise DataError(
            f"{root} holds something that resdet did not make (no {MANIFEST}), so it is left "
            "alone. Move it away, or name another folder."
        )


def _rebuild(root: Path, sizes: Sizes, workers: int, progress: Progress | None) -> None:
    for leftover in root.parent.glob(f"{root.name}.*.tmp"):
        shutil.rmtree(leftover)  # of a process that was killed: the lock is ours
    free = shutil.disk_usage(root.parent).free >> 20
    if free < MEGABYTES_NEEDED and sizes == SIZES:
        raise DataError(
            f"{root.parent} has {free} MB free, the embedded digits need {MEGABYTES_NEEDED}. "
            "Set RESDET_CACHE to a folder on another disk."
        )
    temporary = root.with_name(f"{root.name}.{os.getpid()}.tmp")
    try:
        _make_folders(temporary)
        share = paint(temporary, sizes, workers=workers, progress=progress)
        _write_lists(temporary, share)
        noted = write_manifest(temporary, share, sizes)
        if root.exists():
            shutil.rmtree(root)
        temporary.rename(root)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    warn_of_differences(noted)


def _make_folders(root: Path) -> None:
    crops = (f"crops/{split}/{name}" for split in SPLITS for name in CLASSES)
    scenes = ("voc/JPEGImages", "voc/Annotations", "voc/ImageSets/Main", "coco/annotations")
    for name in (*crops, *scenes):
        (root / name).mkdir(parents=True)


def _write_lists(root: Path, share: Share) -> None:
    """What needs all scenes at once: VOC's lists, COCO's JSON; and the sources."""
    by_index = {split: share.scenes.get(split, {}) for split in SPLITS}
    scenes = {split: [facts[i] for i in sorted(facts)] for split, facts in by_index.items()}
    written = write_image_sets(root, scenes)
    written += [write_coco(root, split, scenes[split]) for split in SPLITS]
    written.append(root / "SOURCES.md")
    written[-1].write_text(credits_text(), encoding="utf-8")
    for path in written:
        share.files[path.relative_to(root).as_posix()] = sha256(path.read_bytes())
