"""Files of proposals as the input of Fast R-CNN: which boxes belong to which image.

The keys are Detectron2's (MODEL.LOAD_PROPOSALS, DATASETS.PROPOSAL_FILES_TRAIN and _TEST); the files
are ours, for its are pickles.

Not for: making them (`proposal_making`), or how boxes follow an image that is resized
(`resdet.detect.loading`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from resdet.data.records import DetectionSet
from resdet.errors import ConfigError, DataError
from resdet.formats.proposal_file import ProposalFile

KEYS = {True: "DATASETS.PROPOSAL_FILES_TRAIN", False: "DATASETS.PROPOSAL_FILES_TEST"}


class ProposalSource:
    """Boxes and objectness by image, out of one file for each set.

    Args:
        files: of sets that share no image id.
        most: proposals of an image that are used, the best ones.
    """

    def __init__(self, files: Sequence[ProposalFile], most: int):
        self.files = tuple(files)
        self.most = most

    def of(self, image_id: Any) -> tuple[np.ndarray, np.ndarray]:
        """Boxes (P, 4) in pixels of the original image and objectness (P,), the best first.

        Raises:
            DataError: no file has this image, or its rows are damaged.
        """
        for file in self.files:
            if image_id in file:
                return file.of(image_id)
        names = ", ".join(str(file.path) for file in self.files) or "no file"
        raise DataError(f"image {image_id!r} has no proposals ({names}). Make them of this set.")


def loads_proposals(cfg: Any) -> bool:
    """Whether this config is of Fast R-CNN alone, whose proposals come from files."""
    return bool(cfg.MODEL.LOAD_PROPOSALS)


def open_sources(
    cfg: Any, sets: Sequence[DetectionSet], *, is_train: bool
) -> ProposalSource | None:
    """The proposals of these sets; None for a detector that makes its own.

    Raises:
        ConfigError: another number of files than of sets, or two sets with an image id in common.
        DataError: a file is missing, damaged, of another kind or of another set.
    """
    if not loads_proposals(cfg):
        return None
    key = KEYS[is_train]
    data = cfg.DATASETS
    paths = data.PROPOSAL_FILES_TRAIN if is_train else data.PROPOSAL_FILES_TEST
    if len(paths) != len(sets):
        raise ConfigError(
            f"{key} has {len(paths)} files, for {len(sets)} sets "
            f"({', '.join(s.name for s in sets)}): with MODEL.LOAD_PROPOSALS True give one file "
            "for each, in the same order."
        )
    files = [ProposalFile(path) for path in paths]
    owner: dict[Any, str] = {}
    for file, one in zip(files, sets, strict=True):
        file.require_set(one.name, one.hash, key)
        _require_images(file, one)
        for image_id in file.image_ids if len(files) > 1 else ():
            if (other := owner.setdefault(image_id, one.name)) != one.name:
                raise ConfigError(
                    f"{other} and {one.name} both have an image {image_id!r}, and proposals are "
                    "found by the id. Train on one of them, or give their images other ids."
                )
    most = data.PRECOMPUTED_PROPOSAL_TOPK_TRAIN if is_train else data.PRECOMPUTED_PROPOSAL_TOPK_TEST
    return ProposalSource(files, most)


def _require_images(file: ProposalFile, data: DetectionSet) -> None:
    lacking = [r["image_id"] for r in data.records if r["image_id"] not in file]
    if lacking:
        raise DataError(
            f"{file.path} has no proposals of {len(lacking):,} of the {len(data):,} images of "
            f"{data.name} (such as {lacking[0]!r}). Make them of the whole set."
        )
