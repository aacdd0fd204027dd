"""A localiser over a set: proposals of training images to a file, boxes of test images.

Several processes share the images. What is finished is kept in parts, so that a stop loses few.

Not for: what is done with one image (`loc_testing`), or result files (`loc_results`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from detectron2.utils import comm

from resdet import profile
from resdet.data.records import DetectionSet
from resdet.detect.alternating.proposal_making import ProposalParts, put_together
from resdet.detect.localization.loc_testing import LocTester
from resdet.detect.testing.inference import in_order_of, with_progress
from resdet.detect.testing.partial_results import Parts
from resdet.engine.evaluation import evaluating
from resdet.formats.proposal_file import ProposalFile


def make_loc_proposals(
    tester: LocTester, data: DetectionSet, path: Path, parts: ProposalParts
) -> None:
    """Writes the best proposals of every image, for its class, to `path`; removes the parts.

    Raises:
        CheckFailed: an image was visited twice or never; no file then.
        Interrupted, TrainingStopped: what is finished is kept in parts.
    """
    with _visiting(tester, data, parts, "proposing") as records:
        for record in records:
            (found,) = tester.proposals(record, [record["label"]])
            boxes, scores = (values.cpu().numpy() for values in (found.boxes, found.scores))
            parts.add(record["image_id"], boxes, scores)
    comm.synchronize()
    if comm.is_main_process():
        with profile.section("writing proposals"):
            put_together(path, parts.folder, data)
    comm.synchronize()


def localized(
    tester: LocTester, data: DetectionSet, classes: Mapping[Any, Sequence[int]], parts: Parts
) -> list[dict[str, Any]]:
    """The best box of each class on each image by each net, in the order of the set.

    Args:
        classes: those that are asked for, by the image's id.

    Returns:
        As `LocTester.boxes`, with "image_id"; of all processes, and on the main one alone.

    Raises:
        CheckFailed: an image was visited twice or never.
        Interrupted, TrainingStopped: what is finished is kept in parts.
    """
    results: list[dict[str, Any]] = []
    visited: list[Any] = []
    with _visiting(tester, data, parts, "detecting") as records:
        for record in records:
            image_id = record["image_id"]
            boxes = tester.boxes(record, classes[image_id])
            mine = [{"image_id": image_id, **box} for box in boxes]
            results += mine
            visited.append(image_id)
            parts.add(image_id, mine)
    gathered = comm.gather((results, visited))
    if not comm.is_main_process():
        return []
    gathered = [(parts.earlier.results, parts.earlier.images), *gathered]
    every = [[item for part in column for item in part] for column in zip(*gathered, strict=True)]
    return in_order_of(data, every[0], every[1])[0]


@contextlib.contextmanager
def _visiting(
    tester: LocTester, data: DetectionSet, parts: Parts | ProposalParts, section: str
) -> Iterator[Iterator[dict[str, Any]]]:
    """This process's share of the records that are not in the parts, both nets in evaluation mode;
    all that was added is written at the end.

    Args:
        section: its name with --profile.
    """
    left = parts.left(data.records)[comm.get_rank() :: comm.get_world_size()]
    steps = with_progress(profile.stepwise([record] for record in left), len(left), data.name)
    nets = (tester.rpn, *([tester.rcnn] if tester.rcnn is not None else []))
    with contextlib.ExitStack() as stack:
        stack.enter_context(profile.section(section, "image"))
        for net in nets:
            stack.enter_context(evaluating(net))
        stack.enter_context(parts)
        yield (record for (record,) in steps)
        parts.write()


class ProposedRecords(Sequence[dict[str, Any]]):
    """Records of a training set with the proposals of each; images without one are left out.

    Raises:
        DataError: the file is of another set, or, as a record is asked for, damaged.
    """

    def __init__(self, data: DetectionSet, file: ProposalFile):
        file.require_set(data.name, data.hash, "train_loc")
        self._records = data.records
        self._file = file
        self._places = [place for place, number in enumerate(file.counts) if number]

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> dict[str, Any]:  # type: ignore[override]
        record = self._records[self._places[index]]
        return {**record, "proposals": self._file.of(record["image_id"])[0]}
