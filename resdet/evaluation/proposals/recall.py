"""Recall of proposals: the share of the objects that the best k of each image cover.

Classes do not count. COCO's matching, as pycocotools has it with `useCats = 0`: in order of
objectness each proposal takes the object with the largest overlap among those that are left (the
last of equal ones), at each overlap of 0.50, 0.55 … 0.95 by itself. Crowds and VOC's difficult
objects need not be found. What takes an object does not depend on the proposals after it, so one
pass gives the recall at every k.

    >>> import numpy as np
    >>> objects = np.array([[0.0, 0.0, 10.0, 10.0], [20.0, 0.0, 30.0, 10.0]])
    >>> boxes = np.array([[0.0, 0.0, 10.0, 8.0], [21.0, 0.0, 31.0, 10.0], [0.0, 0.0, 10.0, 10.0]])
    >>> ranks = ranks_of_image(boxes, objects)
    >>> ranks[0].tolist(), ranks[9].tolist()  # at 0.5, and at 0.95 the third box alone
    ([0, 1], [2, -1])

Not for: detections, which have classes (`coco`, `voc`), or the file (`resdet.formats`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from resdet import profile
from resdet.errors import CheckFailed
from resdet.evaluation.coco.matching import OVERLAPS, is_ignored
from resdet.evaluation.inputs.arrays import FloatArray, ImageId, IntArray
from resdet.evaluation.inputs.ground_truth import GroundTruth
from resdet.formats.proposal_file import ProposalFile

COUNTS = (50, 100, 300, 1000)
PROTOCOL = "recall of proposals, classes aside, COCO's matching"
# Where the curve has a point: enough for a line over a logarithmic axis.
CURVE = tuple(sorted({round(10 ** (e / 10)) for e in range(31)} | set(COUNTS)))
_NOT_FOUND = -1


@dataclass(frozen=True)
class ProposalRecall:
    """Recall of the proposals of one set.

    Attributes:
        data_set: its name.
        images: expected, evaluated, missing.
        objects: that are to be found; ignored: crowds and difficult ones.
        proposals: of all images; per_image: the most that one has.
        ranks: (10, objects), at each overlap the place, from 0, of the proposal that takes the
            object; -1 where none does.
    """

    data_set: str
    images: Mapping[str, int]
    objects: int
    ignored: int
    proposals: int
    per_image: int
    ranks: IntArray

    def at(self, count: int) -> FloatArray:
        """(10,) recall by the best `count` proposals of each image, at each of `OVERLAPS`.

        NaN in a set without objects.
        """
        if not self.objects:
            return np.full(len(OVERLAPS), np.nan)
        return np.mean((self.ranks >= 0) & (self.ranks < count), axis=1)

    def average(self, count: int) -> float | None:
        """COCO's AR at `count`: the mean over the overlaps; None in a set without objects."""
        return float(np.mean(self.at(count))) if self.objects else None

    @property
    def numbers(self) -> dict[str, float | None]:
        """AR and recall at overlap 0.5, at each of `COUNTS`; a share of 1."""
        numbers: dict[str, float | None] = {f"AR{k}": self.average(k) for k in COUNTS}
        return numbers | {
            f"R50@{k}": float(self.at(k)[0]) if self.objects else None for k in COUNTS
        }

    def to_json(self) -> dict[str, Any]:
        """The numbers, and the curves over k and over the overlap."""
        curve = [k for k in CURVE if k <= max(self.per_image, 1)] if self.objects else []
        return {
            "protocol": PROTOCOL,
            "data_set": self.data_set,
            "images": dict(self.images),
            "objects": self.objects,
            "ignored": self.ignored,
            "proposals": self.proposals,
            "most_of_an_image": self.per_image,
            **self.numbers,
            "overlaps": [round(float(t), 2) for t in OVERLAPS],
            "by_overlap": {str(k): self.at(k).tolist() for k in COUNTS} if self.objects else {},
            "curve": {
                "proposals": curve,
                "AR": [self.average(k) for k in curve],
                "R50": [float(self.at(k)[0]) for k in curve],
                "R70": [float(self.at(k)[4]) for k in curve],
            },
        }


@profile.timed("recall of proposals")
def recall_of(
    truth: GroundTruth, proposals: ProposalFile, *, image_ids: Iterable[ImageId] | None = None
) -> ProposalRecall:
    """Recall over a set, read image by image.

    Args:
        image_ids: score these images only.

    Raises:
        CheckFailed: the file lacks images of the set, or has others.
        DataError: rows of the file are damaged. ValueError: `image_ids` has one that is not there.
    """
    expected = truth.index.image_ids
    chosen = expected if image_ids is None else tuple(image_ids)
    if strange := set(chosen).difference(expected):
        raise ValueError(f"{truth.index.title} has no image {sorted(strange, key=str)[0]}")
    lacking = [i for i in chosen if i not in proposals]
    strangers = set(proposals.image_ids).difference(expected)
    if lacking or strangers:
        raise CheckFailed(
            f"{proposals.path} has {len(proposals):,} images, {truth.index.title} "
            f"{len(expected):,}: {len(lacking):,} of the set lack proposals"
            f"{_such_as(lacking)}, {len(strangers):,} are not in the set{_such_as(strangers)}. "
            "Give the set that the proposals were made on; to score a part, name its images."
        )
    counts = ~(is_ignored(truth) | truth.difficult)
    corners = truth.boxes.copy()
    corners[:, 2:] += corners[:, :2]
    rows_of = _rows_by_image(truth.image, counts, len(expected))
    place = {image_id: i for i, image_id in enumerate(expected)}
    used = np.isin(truth.image, [place[i] for i in chosen])
    ranks, total, most = [np.zeros((len(OVERLAPS), 0), np.int64)], 0, 0
    for image_id in chosen:
        boxes, _ = proposals.of(image_id)
        total, most = total + len(boxes), max(most, len(boxes))
        ranks.append(ranks_of_image(boxes, corners[rows_of[place[image_id]]]))
    return ProposalRecall(
        data_set=str(truth.info.get("data_set", truth.index.title)),
        images={
            "expected": len(expected),
            "evaluated": len(chosen),
            "missing": len(expected) - len(chosen),
        },
        objects=int((counts & used).sum()),
        ignored=int((~counts & used).sum()),
        proposals=total,
        per_image=most,
        ranks=np.concatenate(ranks, axis=1),
    )


def ranks_of_image(boxes: FloatArray, objects: FloatArray) -> IntArray:
    """(10, G): the place of the proposal that takes each object at each overlap; -1: none.

    Args:
        boxes: (P, 4) x0, y0, x1, y1, the best first. objects: (G, 4), those to be found.
    """
    ranks = np.full((len(OVERLAPS), len(objects)), _NOT_FOUND, dtype=np.int64)
    if not len(boxes) or not len(objects):
        return ranks
    overlaps = overlaps_of(boxes, objects)
    least = np.minimum(OVERLAPS, 1 - 1e-10)  # pycocotools' own
    last = len(objects) - 1
    everywhere = np.arange(len(OVERLAPS))
    for number in np.flatnonzero(overlaps.max(axis=1) >= least[0]):
        row = overlaps[number]
        free = (ranks == _NOT_FOUND) & (row >= least[:, None])
        values = np.where(free, row, -1.0)
        # The last of equal ones, as pycocotools takes.
        taken = last - values[:, ::-1].argmax(axis=1)
        takes = free[everywhere, taken]
        ranks[everywhere[takes], taken[takes]] = number
    return ranks


def overlaps_of(boxes: FloatArray, objects: FloatArray) -> FloatArray:
    """(P, G) intersection over union of corners x0, y0, x1, y1; 0 where a union is empty."""
    boxes, objects = boxes.astype(np.float64), objects.astype(np.float64)
    corner = np.maximum(boxes[:, None, :2], objects[None, :, :2])
    other = np.minimum(boxes[:, None, 2:], objects[None, :, 2:])
    common = np.clip(other - corner, 0, None).prod(axis=2)
    sizes = [(b[:, 2:] - b[:, :2]).prod(axis=1) for b in (boxes, objects)]
    union = sizes[0][:, None] + sizes[1][None, :] - common
    return np.divide(common, union, out=np.zeros_like(common), where=union > 0)


def _rows_by_image(image: IntArray, counts: np.ndarray, images: int) -> list[IntArray]:
    """Rows of the objects that count, by image, in the file's order."""
    rows = np.flatnonzero(counts)
    rows = rows[np.argsort(image[rows], kind="stable")]
    return np.split(rows, np.searchsorted(image[rows], np.arange(1, images)))


def _such_as(ids: Iterable[ImageId]) -> str:
    first = sorted(ids, key=str)[:1]
    return f" (such as {first[0]!r})" if first else ""
