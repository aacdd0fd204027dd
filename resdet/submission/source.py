"""What a run folder holds of a data set: detections to pack, and what they are checked against.

Not for: packing (`coco_package`, `voc_package`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resdet.errors import RunError, first_few
from resdet.evaluation.inputs.arrays import ImageId
from resdet.evaluation.inputs.ground_truth import (
    GroundTruth,
    SetIndex,
    read_ground_truth,
    read_index,
)
from resdet.run import shapes
from resdet.run.folder import Run, read_json
from resdet.run.layout import GROUND_TRUTH, IMAGE_INFO, IMAGES


@dataclass(frozen=True)
class Source:
    """One result folder of a run.

    Attributes:
        truth: the objects to be found; None for a set without annotations.
        info: what the run wrote about the set, such as voc_year.
        evaluated: ids of the images that the detector saw.
    """

    data_set: str
    folder: Path
    index: SetIndex
    truth: GroundTruth | None
    info: Mapping[str, Any]
    evaluated: Sequence[ImageId]


def read_source(run: Run, data_set: str) -> Source:
    """The result folder of a data set.

    Raises:
        RunError: it is not there, or not whole.
        DataError: its ground truth is faulty.
    """
    folder = run.results(data_set)
    images = read_json(folder / IMAGES, shapes.IMAGE_LIST)
    if (folder / GROUND_TRUTH).is_file():
        truth = read_ground_truth(folder / GROUND_TRUTH)
        return Source(data_set, folder, truth.index, truth, truth.info, images["evaluated"])
    if not (folder / IMAGE_INFO).is_file():
        raise RunError(
            f"{folder} has neither {GROUND_TRUTH} nor {IMAGE_INFO}: it is not whole. Detect again: "
            "train_det --eval-only."
        )
    info = read_json(folder / IMAGE_INFO, {"info?": dict}).get("info") or {}
    index = read_index(folder / IMAGE_INFO)
    return Source(data_set, folder, index, None, info, images["evaluated"])


def choose_set(run: Run, asked: str | None, fits: Callable[[str], bool], known: str) -> str:
    """The data set asked for, or the only one of the run that fits.

    Args:
        known: a sentence on what fits, for the page where nothing does.

    Raises:
        RunError: the run has no results on it, or on none or several that fit; lists them.
    """
    there = run.detected_sets()
    if asked is not None:
        if asked not in there:
            raise RunError(
                f"{run.path} has no results on {asked}; it has them on {_listed(there)}. Detect "
                f"first: train_det --eval-only … DATASETS.TEST \"('{asked}',)\""
            )
        return asked
    fitting = [name for name in there if fits(name)]
    if not fitting:
        raise RunError(
            f"{run.path} has results on {_listed(there)}: nothing for this server. {known}"
        )
    if len(fitting) > 1:
        raise RunError(
            f"{run.path} has results on several sets for this server. Name one with --set.\n"
            f"{first_few(fitting)}"
        )
    return fitting[0]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "no data set"
