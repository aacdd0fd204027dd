"""A detector over many pictures: the ones that cannot be read are named, the others go on.

Not for: which files (`image_files`), the file that is written (`picture_results`), or drawing.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml

from resdet.config import flatten
from resdet.data.images.reader import ImageReader
from resdet.detect.from_run import BuiltDetector
from resdet.detect.loading import Mapper, identity
from resdet.detect.paper.image_views import PyramidMapper
from resdet.detect.pictures.finished_pictures import FinishedPictures, stamp_of
from resdet.detect.pictures.loaded_detector import BoxesOfPicture, PictureDetector, record_of
from resdet.detect.testing.inference import with_progress
from resdet.detect.testing.partial_results import FREE, weights_digest
from resdet.engine.data_workers import Loader, num_workers
from resdet.errors import DataError
from resdet.evaluation.inputs.masks import mask_area


class _Pictures(torch.utils.data.Dataset):
    """Each path read and mapped, or why it is not."""

    def __init__(self, paths: Sequence[Path], reader: ImageReader, mapper: Mapper | PyramidMapper):
        self.paths = paths
        self.reader = reader
        self.mapper = mapper

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> dict[str, Any]:
        path = self.paths[index]
        size, modified = stamp_of(path)
        about = {"path": str(path), "bytes": size, "modified": modified}
        self.reader.counts.clear()
        try:
            image = self.reader.read(path)
            given = self.mapper.of_image(record_of(image, str(path)), image)
        except DataError as error:
            return {**about, "refused": str(error), "fixed": []}
        return {**about, "refused": "", "fixed": sorted(self.reader.counts), "given": given}


def detect_pictures(
    detector: PictureDetector,
    paths: Sequence[Path],
    category_ids: Sequence[int],
    *,
    score: float = 0.0,
    top: int | None = None,
    finished: FinishedPictures | None = None,
    finish: Callable[[Path, BoxesOfPicture], None] | None = None,
) -> list[dict[str, Any]]:
    """An entry for each path, in their order: path, size, what was fixed, detections or refusal.

    Args:
        score, top: as `PictureDetector` takes them.
        finished: those of earlier attempts, which are not visited again, and where new ones go.
        finish: is called with each picture that was read, before it counts as finished.

    Raises:
        Interrupted, TrainingStopped: what `finished` holds is kept.
    """
    left = [p for p in paths if finished is None or str(p) not in finished.done]
    built = detector.built
    loader = Loader(
        _Pictures(left, built.reader, built.mapper),
        num_workers(built.cfg, images=len(left)),
        1,
        batch_size=1,
        collate_fn=identity,
    )
    entries = {} if finished is None else finished.entries
    with finished or contextlib.nullcontext():
        for (item,) in with_progress(loader, len(left), "pictures"):
            given = item.pop("given", None)
            found = None
            if given is not None:
                found = detector.of_input(given).best(score=score, top=top)
                if finish is not None:
                    finish(Path(item["path"]), found)
            entry = {**item, **_of_boxes(found, category_ids)}
            if finished is None:
                entries[entry["path"]] = entry
            else:
                finished.add(entry)
    return [entries[str(path)] for path in paths]


def fingerprint_of_pictures(
    built: BuiltDetector, *, score: float, top: int | None, drawn: str
) -> dict[str, Any]:
    """All that decides what is detected and left behind: weights, config, what is kept, drawn."""
    keys = flatten(yaml.safe_load(built.cfg.dump()))
    config = {key: value for key, value in keys if not key.startswith(FREE)}
    asked: Mapping[str, Any] = {"score": score, "top": top, "drawn": drawn}
    tested = [built.model, *(member.model for member in built.members)]
    weights = {"weights": "+".join(map(weights_digest, tested)), "classes": built.classes}
    return dict(json.loads(json.dumps({**weights, **asked, **config})))


def _of_boxes(found: BoxesOfPicture | None, category_ids: Sequence[int]) -> dict[str, Any]:
    if found is None:
        return {"width": 0, "height": 0, "detections": []}
    return {
        "width": found.width,
        "height": found.height,
        "detections": list(_detections(found, category_ids)),
    }


def _detections(found: BoxesOfPicture, category_ids: Sequence[int]) -> Iterator[dict[str, Any]]:
    boxes = found.boxes.astype("float64")
    boxes[:, 2:] -= boxes[:, :2]
    scores = found.scores.astype("float64").tolist()
    masks = found.segmentations or [None] * len(found)
    for box, score, label, mask in zip(
        boxes.tolist(), scores, found.labels.tolist(), masks, strict=True
    ):
        entry = {"category_id": int(category_ids[label]), "bbox": box, "score": score}
        yield {**entry, "segmentation": mask, "area": mask_area(mask)} if mask else entry
