"""Records to batches for the detector: the strict reader, Detectron2's transforms, our order.

Not for: what a record may hold (`resdet.data` has checked it before).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from detectron2.data import transforms as T
from detectron2.data.detection_utils import (
    annotations_to_instances,
    build_augmentation,
    filter_empty_instances,
    transform_instance_annotations,
    transform_proposals,
)
from detectron2.structures import BoxMode

from resdet import profile
from resdet.data.images.reader import ImageReader
from resdet.data.order import Sample, SampleOrder, seed_global_generators
from resdet.data.records import all_crowd
from resdet.data.serialized import Chosen, SerializedList
from resdet.engine.data_workers import Loader
from resdet.errors import ConfigError, DataError

if TYPE_CHECKING:
    from resdet.detect.alternating.proposal_source import ProposalSource


class Mapper:
    """A record to what the model takes, as Detectron2's `DatasetMapper` with our reader.

    Args:
        augmentations: Detectron2's, applied to image and boxes.
        image_format: "RGB" or "BGR", the order that the net was trained on.
        reader: gives RGB, uint8.
        is_train: with instances; else only the image.
        mask_format: Detectron2's INPUT.MASK_FORMAT, how masks reach the model; "": boxes alone.
        proposals: with the boxes of this source, for Fast R-CNN alone.
    """

    def __init__(
        self,
        augmentations: Sequence[T.Augmentation],
        *,
        image_format: str,
        reader: ImageReader,
        is_train: bool,
        mask_format: str = "",
        proposals: ProposalSource | None = None,
    ):
        self.augmentations = T.AugmentationList(list(augmentations))
        self.image_format = image_format
        self.reader = reader
        self.is_train = is_train
        self.mask_format = mask_format
        self.proposals = proposals

    @classmethod
    def of(
        cls,
        cfg: Any,
        reader: ImageReader,
        is_train: bool,
        proposals: ProposalSource | None = None,
        *,
        at_test_size: bool = False,
    ) -> Mapper:
        """As the config has it.

        Args:
            at_test_size: with instances, too, as the test resizes, without flips.
        """
        return cls(
            build_augmentation(cfg, is_train and not at_test_size),
            image_format=cfg.INPUT.FORMAT,
            reader=reader,
            is_train=is_train,
            mask_format=cfg.INPUT.MASK_FORMAT if cfg.MODEL.MASK_ON else "",
            proposals=proposals,
        )

    def __call__(self, record: dict[str, Any]) -> dict[str, Any]:
        annotations = record.get("annotations", ())
        record = {k: v for k, v in record.items() if k != "annotations"}
        with profile.span(profile.DECODE):
            image = self.reader.read(record["file_name"])
        return self.of_image(record, image, annotations)

    def of_image(
        self,
        record: dict[str, Any],
        image: np.ndarray,
        annotations: Sequence[dict[str, Any]] = (),
    ) -> dict[str, Any]:
        """The same of an image that was read before, (H, W, 3) uint8 RGB."""
        with profile.span(profile.AUGMENT):
            return self._mapped(dict(record), image, annotations)

    def _mapped(
        self, record: dict[str, Any], image: np.ndarray, annotations: Sequence[dict[str, Any]]
    ) -> dict[str, Any]:
        if self.image_format == "BGR":
            image = image[:, :, ::-1]
        given = T.AugInput(image)
        try:
            transforms = self.augmentations(given)
        except ValueError as error:
            if "must be > 0" not in str(error):  # Pillow's, of a size
                raise
            height, width = image.shape[:2]
            raise DataError(
                f"{record.get('file_name', 'a picture')} is {width}x{height} pixels: of its "
                "shorter side nothing is left at the size that the detector takes. Leave it out."
            ) from None
        record["image"] = torch.as_tensor(np.ascontiguousarray(given.image.transpose(2, 0, 1)))
        size = given.image.shape[:2]
        if self.proposals is not None:
            boxes, objectness = self.proposals.of(record["image_id"])
            record["proposal_boxes"] = boxes
            record["proposal_objectness_logits"] = objectness
            record["proposal_bbox_mode"] = BoxMode.XYXY_ABS
            # In float32 throughout, as Detectron2's own mapper.
            transform_proposals(record, size, transforms, proposal_topk=self.proposals.most)
        if not self.is_train:
            return record
        objects = [
            transform_instance_annotations(
                copy.deepcopy(a) if self.mask_format else _box_only(a), transforms, size
            )
            for a in annotations
            if not a.get("iscrowd", 0)
        ]
        instances = annotations_to_instances(objects, size, self.mask_format or "polygon")
        record["instances"] = filter_empty_instances(instances)
        return record


def _box_only(annotation: dict[str, Any]) -> dict[str, Any]:
    """A copy without masks: this detector has boxes alone."""
    return copy.deepcopy({k: v for k, v in annotation.items() if k != "segmentation"})


class Records(torch.utils.data.Dataset):
    """Records by `Sample`, each mapped with the random numbers of its own (epoch, index)."""

    def __init__(
        self,
        records: Sequence[dict[str, Any]],
        mapper: Callable[[dict[str, Any]], dict[str, Any]],
        seed: int,
    ):
        self.records = records
        self.mapper = mapper
        self.seed = seed

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, sample: Sample) -> dict[str, Any]:
        seed_global_generators(self.seed, sample)
        return self.mapper(self.records[sample.index])


def identity(batch: list[Any]) -> list[Any]:
    return batch


def train_batches(
    records: Sequence[dict[str, Any]],
    mapper: Callable[[dict[str, Any]], dict[str, Any]],
    *,
    batch_size: int,
    seed: int,
    start: int,
    num_workers: int,
    rank: int = 0,
    world_size: int = 1,
    group_by_shape: bool = True,
) -> Iterator[list[dict[str, Any]]]:
    """Endless batches from number `start` on; each process takes its share of every batch.

    Args:
        batch_size: images of all processes together.
        group_by_shape: wide and tall images go into different batches, as in Detectron2.
    """
    groups = [int(r["width"] > r["height"]) for r in records] if group_by_shape else None
    order = SampleOrder(len(records), seed, groups)
    mine = (batch[rank::world_size] for batch in order.batches(batch_size, start))
    loader = Loader(
        Records(records, mapper, seed),
        num_workers,
        batch_size // world_size,
        batch_sampler=mine,
        collate_fn=identity,
    )
    return iter(loader)


def training_records(
    records: Iterable[dict[str, Any]],
    *,
    drop_difficult: bool,
    filter_empty: bool,
    left_out: dict[str, list[Any]] | None = None,
) -> tuple[Sequence[dict[str, Any]], dict[str, int]]:
    """The records that train; how many were left out and why, and their objects (F15, F44).

    Those of a serialised list are not copied where none of them changes.

    The counts are of images, but for `difficult_dropped`, `objects` (that are no crowd),
    `crowds`, and `run_lengths`, the objects whose mask is no polygon.

    Args:
        left_out: gets the ids of the images that are left out, by reason.
    """
    names = (
        "difficult_dropped", "without_objects", "crowd_only", "objects", "crowds", "run_lengths"
    )  # fmt: skip
    counts = dict.fromkeys(names, 0)
    ids = {} if left_out is None else left_out
    kept = _kept(records, drop_difficult, filter_empty, counts, ids)
    if isinstance(records, SerializedList) and not drop_difficult:
        return Chosen(records, (place for place, _ in kept)), counts
    return SerializedList(record for _, record in kept), counts


def _kept(
    records: Iterable[dict[str, Any]],
    drop_difficult: bool,
    filter_empty: bool,
    counts: dict[str, int],
    left_out: dict[str, list[Any]],
) -> Iterator[tuple[int, dict[str, Any]]]:
    for place, record in enumerate(records):
        annotations = record["annotations"]
        if drop_difficult:
            used = [a for a in annotations if not a.get("difficult", 0)]
            counts["difficult_dropped"] += len(annotations) - len(used)
            annotations = used
        crowds = sum(a.get("iscrowd", 0) for a in annotations)
        counts["crowds"] += crowds
        counts["objects"] += len(annotations) - crowds
        counts["run_lengths"] += sum(
            isinstance(a.get("segmentation"), dict) and not a.get("iscrowd", 0) for a in annotations
        )
        if filter_empty and all(a.get("iscrowd", 0) for a in annotations):
            reason = "crowd_only" if annotations else "without_objects"
            counts[reason] += 1
            left_out.setdefault(reason, []).append(record["image_id"])
            continue
        yield place, {**record, "annotations": annotations}


def no_object(images: int, counts: Mapping[str, int]) -> str:
    """Why a set has nothing to train on, and what helps."""
    head = f"{images:,} images and 0 objects to train on"
    if counts["crowds"]:
        return f"{head}: {all_crowd(counts['crowds'])}."
    if counts["difficult_dropped"]:
        return (
            f"{head}: all {counts['difficult_dropped']:,} are difficult. Set "
            "DATASETS.VOC_DIFFICULT keep."
        )
    return f"{head}. Is it the right annotation file? Name a set whose images have objects."


def refuse_run_lengths(cfg: Any, names: str, counts: Mapping[str, int]) -> None:
    """Raises ConfigError for masks that are no polygons, where they are read as polygons.

    Args:
        counts: of `training_records`.
    """
    if counts["run_lengths"] and cfg.MODEL.MASK_ON and cfg.INPUT.MASK_FORMAT == "polygon":
        raise ConfigError(
            f"{names}: the masks of {counts['run_lengths']:,} of {counts['objects']:,} objects "
            "are run lengths, and INPUT.MASK_FORMAT is polygon. Set INPUT.MASK_FORMAT bitmask, "
            "which takes both."
        )


# Share of images without objects above which FILTER_EMPTY_ANNOTATIONS must be stated (F44).
MOST_LEFT_OUT = 0.2


def too_many_empty(names: str, images: int, counts: Mapping[str, int]) -> str:
    """That many images would be left out, and what decides it (F44)."""
    empty, crowds = counts["without_objects"], counts["crowd_only"]
    return (
        f"{names}: {empty + crowds:,} of {images:,} images would not train: {empty:,} without "
        f"objects, {crowds:,} with crowd only. Train on them as images of background: "
        "DATALOADER.FILTER_EMPTY_ANNOTATIONS False; or leave them out: "
        "DATALOADER.FILTER_EMPTY_ANNOTATIONS True."
    )
