"""An RPN over a set: proposals of each image, kept in parts while it runs, then one file.

Each part is a file of proposals itself; at the end they are put together in the order of the set,
one image at a time, so that the memory does not grow with the set.

Not for: the format (`resdet.formats.proposal_file`), or what proposals are worth.
"""

from __future__ import annotations

import contextlib
import logging
import math
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.utils import comm
from torch import nn

from resdet import profile
from resdet.data.records import DetectionSet
from resdet.detect.alternating.proposal_room import require_room
from resdet.detect.loading import Mapper, identity
from resdet.detect.testing.inference import MappedRecords, with_progress
from resdet.detect.testing.partial_results import PART_IMAGES, PART_SECONDS, Policy, take_up
from resdet.engine.data_workers import Loader
from resdet.engine.evaluation import evaluating
from resdet.errors import CheckFailed, DataError
from resdet.formats.proposal_file import ProposalFile, write_proposals
from resdet.run import layout
from resdet.run.finished_parts import FinishedParts, whole_parts

logger = logging.getLogger("resdet.detect.alternating")

_SECONDS = "seconds"


class ProposalParts(FinishedParts):
    """The finished images of one set, as files of proposals in a folder.

    Attributes:
        earlier: what was there at the start; on the main process alone.
    """

    COMMAND = "the same command with --resume"

    def __init__(self, folder: Path, data: DetectionSet, weights: str, earlier: list[ProposalFile]):
        # No part is written before the folder is read: this waits for the main process.
        done = comm.all_gather([i for part in earlier for i in part.image_ids])[0]
        super().__init__(folder, data.name, len(data.records), done, comm.get_world_size())
        self.earlier = earlier
        self._data, self._weights = data, weights
        self._place = {record["image_id"]: n for n, record in enumerate(data.records)}
        self._new: list[tuple[Any, np.ndarray, np.ndarray]] = []

    @classmethod
    def open(
        cls,
        folder: Path,
        data: DetectionSet,
        weights: str,
        fingerprint: Mapping[str, Any],
        policy: Policy,
    ) -> ProposalParts:
        """The parts in a folder; raises RunError as `partial_results.take_up`."""
        goes_on = take_up(folder, fingerprint, policy)
        earlier = parts_in(folder) if goes_on and comm.is_main_process() else []
        return cls(folder, data, weights, earlier)

    def left(self, records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """The records whose images are not yet visited."""
        return [record for record in records if record["image_id"] not in self.done]

    def add(self, image_id: Any, boxes: np.ndarray, objectness: np.ndarray) -> None:
        """One more finished image; raises Interrupted and TrainingStopped as `partial_results`."""
        self.done.add(image_id)
        self._new.append((image_id, boxes, objectness))
        self._after_add(PART_IMAGES, PART_SECONDS)

    def _unwritten(self) -> int:
        return len(self._new)

    def _next_part(self) -> Path:
        return self.folder / layout.proposal_part_name(self._place[self._new[0][0]])

    def _write_part(self, path: Path, seconds: float) -> None:
        # Processes work side by side: the main one's seconds are those of all.
        mine = seconds if comm.is_main_process() else 0.0
        write_proposals(
            path, self._new, data_set=self._data.name, data_set_hash=self._data.hash,
            weights=self._weights, **{_SECONDS: repr(mine)},
        )  # fmt: skip
        self._new = []


def parts_in(folder: Path) -> list[ProposalFile]:
    """The parts of a folder that are whole."""
    return list(whole_parts(folder, layout.PROPOSAL_PART_FILES, _part_in))


def _part_in(path: Path) -> ProposalFile | None:
    try:
        part = ProposalFile(path)
        part.require_whole()
        return part if math.isfinite(float(part.metadata.get(_SECONDS, "nan"))) else None
    except (DataError, ValueError):
        return None


def are_made(path: Path, refuse_others: Callable[[ProposalFile], None], *, is_used: bool) -> bool:
    """Whether proposals are there, and whole where they will be used; else they are made again.

    Args:
        refuse_others: raises DataError for a file of another set or of other weights.
    """
    if not path.exists():
        return False
    try:
        file = ProposalFile(path)
        refuse_others(file)
        if is_used:
            file.require_whole()
        return True
    except DataError as error:
        logger.warning("%s They are made again.", error)
        return False


def make_proposals(
    model: nn.Module,
    data: DetectionSet,
    mapper: Mapper,
    path: Path,
    parts: ProposalParts,
    *,
    most_bytes: int,
    num_workers: int = 0,
    batch_size: int = 1,
) -> float:
    """Writes the proposals of every image to `path`; returns the seconds that it took.

    Several processes share the images; each image is visited once, by one of them. The parts are
    removed once the file is there.

    Args:
        model: an RPN alone (Detectron2's `ProposalNetwork`).
        most_bytes: of the file (`proposal_room.proposal_bytes`).
        batch_size: images that pass through the model at once.

    Raises:
        CheckFailed: an image was visited twice or never; no file then.
        Interrupted, TrainingStopped: what is finished is kept in parts.
    """
    require_room(path.parent, most_bytes, parts.folder, parts.share_left)
    mine = parts.left(data.records)[comm.get_rank() :: comm.get_world_size()]
    loader = Loader(
        MappedRecords(mine, mapper), num_workers, batch_size, batch_size=batch_size,
        collate_fn=identity,
    )  # fmt: skip
    with profile.section("proposing", "image"), evaluating(model), torch.no_grad(), parts:
        for batch in with_progress(profile.stepwise(loader), len(mine), data.name):
            with profile.span("forward"):
                outputs = [output["proposals"].to("cpu") for output in model(batch)]
            for given, found in zip(batch, outputs, strict=True):
                parts.add(
                    given["image_id"],
                    found.proposal_boxes.tensor.numpy(),
                    found.objectness_logits.numpy(),
                )
        parts.write()
    comm.synchronize()
    seconds = 0.0
    if comm.is_main_process():
        with profile.section("writing proposals"):
            seconds = put_together(path, parts.folder, data)
    comm.synchronize()
    return seconds


def put_together(path: Path, folder: Path, data: DetectionSet) -> float:
    """One file out of all parts, in the order of the set, and no parts; returns their seconds.

    Raises:
        CheckFailed: an image is in two parts or in none.
    """
    files = parts_in(folder)
    place = {}
    visited = 0
    for part in files:
        visited += len(part)
        place.update(dict.fromkeys(part.image_ids, part))
    expected = [record["image_id"] for record in data.records]
    missing = [i for i in expected if i not in place]
    if missing or visited != len(expected):
        raise CheckFailed(
            f"{data.name}: expected {len(expected)} images, visited {visited}, "
            f"{visited - len(place)} twice, {len(missing)} missing. No proposals are given."
        )
    write_proposals(
        path,
        ((i, *place[i].of(i)) for i in expected),
        data_set=data.name,
        data_set_hash=data.hash,
        weights=files[0].weights if files else "",
    )
    shutil.rmtree(folder)
    return sum(float(part.metadata[_SECONDS]) for part in files)


@contextlib.contextmanager
def as_many_as_in_training(model: Any, cfg: Any) -> Iterator[None]:
    """The RPN keeps as many proposals, before and after NMS, as for training: Fast R-CNN's input.

    Args:
        model: with Detectron2's `RPN` as its `proposal_generator`.
    """
    rpn = model.proposal_generator
    counts = (rpn.pre_nms_topk, rpn.post_nms_topk)
    before = [topk[False] for topk in counts]
    stated = (cfg.MODEL.RPN.PRE_NMS_TOPK_TRAIN, cfg.MODEL.RPN.POST_NMS_TOPK_TRAIN)
    for topk, value in zip(counts, stated, strict=True):
        topk[False] = value
    try:
        yield
    finally:
        for topk, value in zip(counts, before, strict=True):
            topk[False] = value
