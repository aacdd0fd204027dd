"""Finished images of an evaluation, kept in files while it runs, so that a stop loses none of them.

They lie in results/<data set>/parts (`run.layout`). A part is written every so many images or
seconds, under a temporary name that is then renamed. A resumed evaluation reads the parts
and detects on the rest, by as many processes as there are now. A part of other weights, another
config or another set is never mixed in.

Not for: what a result is (`inference`), or checkpoints of a training (`resdet.engine`).
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
import yaml
from detectron2.utils import comm
from torch import nn

from resdet.config import flatten
from resdet.data.records import DetectionSet
from resdet.engine.checkpoint import Checkpoints
from resdet.errors import Interrupted, RunError, TrainingStopped, first_few
from resdet.run import layout, shapes
from resdet.run.folder import read_json, write_json
from resdet.weights.transfer import COUNTER

logger = logging.getLogger("resdet.detect.partial_results")

# At most so many images or seconds of one process are lost by a kill.
PART_IMAGES = 200
PART_SECONDS = 60.0
# Keys that change no detection; what a set is read with is in its hash.
FREE = ("OUTPUT_DIR", "SOLVER.", "DATASETS.", "DATALOADER.", "EVAL.", "TEST.EVAL_PERIOD",
        "TEST.EVAL_IMAGES", "TEST.BEST_METRIC", "ENGINE.WORKER_TIMEOUT", "ENGINE.DISK_WAIT",
        "ENGINE.KEEP_CHECKPOINTS", "MODEL.WEIGHTS")  # fmt: skip


@dataclass(frozen=True)
class Policy:
    """What an evaluation does with parts that it finds.

    resuming: goes on from them; else they are removed.
    refuses_others: parts of something else are refused; else they are removed, as after a
        training that went on.
    """

    resuming: bool
    refuses_others: bool


@dataclass
class Finished:
    """Finished images: their ids, all their results, and the seconds they took."""

    images: list[Any] = field(default_factory=list)
    results: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0


def weights_digest(model: nn.Module) -> str:
    """SHA-256 over every tensor of the model with its name, type and shape, and the kinds of norms.

    But for the steps that live norms have counted: no file of weights brings these back, and
    nothing that is detected depends on them.
    """
    digest = hashlib.sha256()
    for name, module in model.named_modules():
        if hasattr(module, "running_mean"):  # live or frozen, which rounds otherwise
            digest.update(f"{name} {type(module).__name__}\n".encode())
    for name, tensor in model.state_dict().items():
        if name.endswith(COUNTER):
            continue
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        raw = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        digest.update(raw.numpy().data)
    return digest.hexdigest()


def fingerprint_of(cfg: Any, weights: str, data: DetectionSet) -> dict[str, Any]:
    """All that decides what is detected: `weights_digest`, the config, the set."""
    keys = flatten(yaml.safe_load(cfg.dump()))
    config = {key: value for key, value in keys if not key.startswith(FREE)}
    result = {"weights": weights, "data set": data.name, "its hash": data.hash, **config}
    return dict(json.loads(json.dumps(result)))


class Parts:
    """The finished images of one set; a context in which signals end the work after an image.

    Attributes:
        earlier: what was there at the start; on the main process alone.
        done: ids of the images that need not be visited, the same on every process, and those
            that this process has added.
    """

    def __init__(self, folder: Path, data: DetectionSet, done: Sequence[Any], earlier: Finished):
        self.folder = folder
        self.name = data.name
        self.done = set(done)
        self.earlier = earlier
        self._place = {record["image_id"]: n for n, record in enumerate(data.records)}
        self._new = Finished()
        self._written = time.monotonic()
        self._signal: int | None = None
        self._previous: dict[int, Any] = {}

    @classmethod
    def open(
        cls, folder: Path, data: DetectionSet, fingerprint: Mapping[str, Any], policy: Policy
    ) -> Parts:
        """The parts in a folder, read by the main process and told to the others.

        Raises:
            RunError: they are of something else, and the policy refuses that; states in what.
        """
        before = comm.all_gather(_fingerprint_in(folder) if comm.is_main_process() else None)[0]
        differences = [] if before is None else _differences(before, fingerprint)
        if differences and policy.resuming and policy.refuses_others:
            raise RunError(
                f"{folder} holds images finished with something else:\n{first_few(differences)}\n"
                "Use the old values, or leave out --resume to begin anew."
            )
        earlier = Finished()
        if comm.is_main_process():
            if policy.resuming and before is not None and not differences:
                earlier = _read(folder)
            elif folder.exists():
                logger.warning("%s: finished images of an earlier attempt are removed", folder)
                shutil.rmtree(folder)
            write_json(folder / layout.FINGERPRINT, dict(fingerprint))
        # No part is written before the folder is read: this waits for the main process.
        done = comm.all_gather(earlier.images)[0]
        if policy.resuming:
            logger.info(
                "%s: %d of %d images are there already", data.name, len(done), len(data.records)
            )
        return cls(folder, data, done, earlier)

    def left(self, records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """The records whose images are not yet visited."""
        return [record for record in records if record["image_id"] not in self.done]

    def add(self, image_id: Any, results: Sequence[dict[str, Any]]) -> None:
        """One more finished image.

        Raises:
            Interrupted: a signal came; everything so far is written.
            TrainingStopped: a part could not be written (full disk).
        """
        self.done.add(image_id)
        self._new.images.append(image_id)
        self._new.results += results
        due = time.monotonic() - self._written >= PART_SECONDS
        if due or len(self._new.images) >= PART_IMAGES or self._signal is not None:
            self.write()
        self._stop_if_asked()

    def write(self) -> None:
        """Writes what was added since the last part; nothing where there is nothing."""
        new, now = self._new, time.monotonic()
        if not new.images:
            return
        path = self.folder / layout.part_name(self._place[new.images[0]])
        # Processes work side by side: the main one's seconds are those of all.
        seconds = now - self._written if comm.is_main_process() else 0.0
        try:
            write_json(
                path,
                {"images": new.images, "results": new.results, "seconds": seconds},
                indent=None,
            )
        except OSError as error:
            raise TrainingStopped(
                f"{path} could not be written: {error.strerror}. Free space and run the same "
                "command with --resume."
            ) from None
        self._new, self._written = Finished(), now

    # -- signals ---------------------------------------------------------------------------

    def __enter__(self) -> Parts:
        for number in Checkpoints.SIGNALS:
            self._previous[number] = signal.signal(number, self._note)
        self._written = time.monotonic()
        return self

    def _note(self, number: int, frame: Any) -> None:
        """The first signal ends the work after the image; a second one at once."""
        self._signal = number
        signal.signal(number, self._previous.get(number) or signal.SIG_DFL)

    def _stop_if_asked(self) -> None:
        if self._signal is None:
            return
        number = signal.Signals(self._signal)
        least = "" if comm.get_world_size() == 1 else "at least "
        raise Interrupted(
            f"stopped by {number.name}: {least}{len(self.done):,} of {len(self._place):,} images "
            f"of {self.name} are kept in {self.folder}. Go on with the same command and --resume.",
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
            self._stop_if_asked()


def _fingerprint_in(folder: Path) -> dict[str, Any] | None:
    try:
        return dict(read_json(folder / layout.FINGERPRINT, shapes.FILES[layout.FINGERPRINT]))
    except RunError:
        return None


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    return [
        f"{key} is {now.get(key)!r}, the finished images had {before.get(key)!r}"
        for key in sorted({*before, *now})
        if before.get(key) != now.get(key)
    ]


def _read(folder: Path) -> Finished:
    """Every whole part in the folder; a damaged one is removed, and its images run again."""
    result = Finished()
    for leftover in folder.glob("*.tmp"):
        leftover.unlink(missing_ok=True)
    for path in sorted(folder.glob(layout.PART_FILES)):
        try:
            part = read_json(path, shapes.PART)
            images, results, seconds = part["images"], part["results"], part["seconds"]
        except RunError:
            logger.warning("%s is damaged; removed, its images run again", path)
            path.unlink()
            continue
        result.images += images
        result.results += results
        result.seconds += seconds
    return result
