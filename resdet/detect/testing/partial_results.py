"""Finished images of an evaluation, kept in files while it runs, so that a stop loses none of them.

They lie in results/<data set>/parts (`run.layout`). A resumed evaluation reads the parts and
detects on the rest. A part of other weights, another config or another set is never mixed in.

Not for: when a part is written (`resdet.run.finished_parts`), what a result is (`inference`), or
checkpoints of a training (`resdet.engine`).
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import yaml
from detectron2.utils import comm
from torch import nn

from resdet.config import flatten
from resdet.data.records import DetectionSet
from resdet.errors import RunError, first_few
from resdet.run import layout, shapes
from resdet.run.finished_parts import FinishedParts, fingerprint_in, whole_parts
from resdet.run.folder import read_json, write_json
from resdet.weights.transfer import COUNTER

if TYPE_CHECKING:
    from typing_extensions import Self

logger = logging.getLogger("resdet.detect.testing.partial_results")

# At most so many images or seconds of one process are lost by a kill.
PART_IMAGES = 200
PART_SECONDS = 60.0
# Keys that change no detection; what a set is read with is in its hash.
FREE = ("OUTPUT_DIR", "SOLVER.", "DATASETS.", "DATALOADER.", "EVAL.", "TEST.EVAL_PERIOD",
        "TEST.EVAL_IMAGES", "TEST.BEST_METRIC", "TEST.EARLY_STOP", "TEST.VALIDATION_LOSS",
        "TEST.EXPECTED_RESULTS", "ENGINE.WORKERS", "ENGINE.WORKER_TIMEOUT", "ENGINE.DISK_WAIT",
        "ENGINE.KEEP_MEMORY", "ENGINE.KEEP_CHECKPOINTS", "ENGINE.FUSED_OPTIMIZER",
        "ENGINE.TRUNK_CACHE",
        "MODEL.WEIGHTS")  # fmt: skip
# Of a fingerprint, what is of the set.
OF_SET = ("data set", "its hash")


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
    of_set = dict(zip(OF_SET, (data.name, data.hash), strict=True))
    result = {"weights": weights, **of_set, **config}
    return dict(json.loads(json.dumps(result)))


class Parts(FinishedParts):
    """The finished images of one set, named by their ids.

    Attributes:
        earlier: what was there at the start; on the main process alone.
    """

    COMMAND = "the same command with --resume"

    def __init__(self, folder: Path, data: DetectionSet, done: Sequence[Any], earlier: Finished):
        super().__init__(folder, data.name, len(data.records), done, comm.get_world_size())
        self.earlier = earlier
        self._place = {record["image_id"]: n for n, record in enumerate(data.records)}
        self._new = Finished()

    @classmethod
    def open(
        cls, folder: Path, data: DetectionSet, fingerprint: Mapping[str, Any], policy: Policy
    ) -> Self:
        """The parts in a folder, read by the main process and told to the others.

        Raises:
            RunError: as `take_up`.
        """
        goes_on = take_up(folder, fingerprint, policy)
        earlier = read_finished(folder) if goes_on and comm.is_main_process() else Finished()
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
        self._after_add(PART_IMAGES, PART_SECONDS)

    def _unwritten(self) -> int:
        return len(self._new.images)

    def _next_part(self) -> Path:
        return self.folder / layout.part_name(self._place[self._new.images[0]])

    def _write_part(self, path: Path, seconds: float) -> None:
        # Processes work side by side: the main one's seconds are those of all.
        self._new.seconds = seconds if comm.is_main_process() else 0.0
        write_json(path, vars(self._new), indent=None)
        self._new = Finished()


def take_up(folder: Path, fingerprint: Mapping[str, Any], policy: Policy) -> bool:
    """Whether the finished images in a folder are gone on from; else the main process removes them.

    Every process calls it; the folder then has this fingerprint.

    Raises:
        RunError: they are of something else, and the policy refuses that; states in what.
    """
    before = comm.all_gather(fingerprint_in(folder) if comm.is_main_process() else None)[0]
    differences = [] if before is None else _differences(before, fingerprint)
    if differences and policy.resuming and policy.refuses_others:
        raise RunError(
            f"{folder} holds images finished with something else:\n{first_few(differences)}\n"
            "Use the old values, or leave out --resume to begin anew."
        )
    goes_on = policy.resuming and before is not None and not differences
    if comm.is_main_process():
        if not goes_on and folder.exists():
            logger.warning("%s: finished images of an earlier attempt are removed", folder)
            shutil.rmtree(folder)
        write_json(folder / layout.FINGERPRINT, dict(fingerprint))
    return goes_on


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    return [
        f"{key} is {now.get(key)!r}, the finished images had {before.get(key)!r}"
        for key in sorted({*before, *now})
        if before.get(key) != now.get(key)
    ]


def read_finished(folder: Path) -> Finished:
    """What is in all whole parts of the folder."""
    result = Finished()
    for part in whole_parts(folder, layout.PART_FILES, _part_in):
        result.images += part["images"]
        result.results += part["results"]
        result.seconds += part["seconds"]
    return result


def _part_in(path: Path) -> dict[str, Any] | None:
    try:
        return dict(read_json(path, shapes.PART))
    except RunError:
        return None
