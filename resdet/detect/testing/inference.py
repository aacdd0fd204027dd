"""A detector over a data set, and its result folder: files first, numbers from the files.

Writes what `resdet.run` documents under results/<data set>/. Boxes and scores are written at full
precision (`docs/faults.md` F51, F59), with the ids that were evaluated (F85).

Not for: the numbers themselves (`resdet.evaluation`).
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.utils import comm
from PIL import Image
from torch import nn

from resdet import profile
from resdet.data.images.reader import ImageReader
from resdet.data.records import DetectionSet
from resdet.detect.loading import identity
from resdet.detect.testing.partial_results import Parts
from resdet.engine.data_workers import Loader
from resdet.engine.evaluation import evaluating
from resdet.errors import CheckFailed
from resdet.evaluation.ilsvrc.ilsvrc_files import DetResults, write_det_results
from resdet.evaluation.inputs.masks import run_lengths
from resdet.evaluation.voc.detection_files import write_detections
from resdet.evaluation.voc.voc_arrays import detections_from_boxes
from resdet.file_names import file_name
from resdet.run import layout
from resdet.run.folder import atomic_path, write_json

logger = logging.getLogger("resdet.detect.testing.inference")

# A record to an input of the model.
RecordMapper = Callable[[dict[str, Any]], dict[str, Any]]

SAMPLE_SIDE = 640  # longer side of a sample picture, in pixels


def detect(
    model: nn.Module,
    data: DetectionSet,
    mapper: RecordMapper,
    *,
    num_workers: int = 0,
    batch_size: int = 1,
    parts: Parts | None = None,
) -> tuple[list[dict[str, Any]], list[Any], float]:
    """COCO-style results with official category ids, the ids evaluated, and seconds.

    Each image is visited once, by one process; boxes are [x, y, width, height] in pixels of
    the original image.

    Args:
        batch_size: images that pass through the model at once (TEST.IMS_PER_BATCH); smaller ones
            are padded to the largest, which may change boxes near their right and lower borders.
        parts: finished images, which are not visited again, and where new ones are kept.

    Raises:
        CheckFailed: an image was visited twice or never; no results then (F41).
        Interrupted, TrainingStopped: only with `partial_results`, which hold what is finished.
    """
    rank, world = comm.get_rank(), comm.get_world_size()
    records = data.records if parts is None else parts.left(data.records)
    mine = records[rank::world]
    loader = Loader(
        MappedRecords(mine, mapper),
        num_workers,
        batch_size,
        batch_size=batch_size,
        collate_fn=identity,
    )
    results: list[dict[str, Any]] = []
    visited: list[Any] = []
    start = time.monotonic()
    with (
        profile.section("detecting", "image"),
        evaluating(model),
        torch.no_grad(),
        parts or contextlib.nullcontext(),
    ):
        for batch in with_progress(profile.stepwise(loader), len(mine), data.name):
            with profile.span("forward"):
                outputs = [output["instances"].to("cpu") for output in model(batch)]
            with profile.span("keeping boxes"):
                for given, instances in zip(batch, outputs, strict=True):
                    detections = to_coco(instances, given["image_id"], data.category_ids)
                    results += detections
                    visited.append(given["image_id"])
                    if parts is not None:
                        parts.add(given["image_id"], detections)
        seconds = time.monotonic() - start
        if parts is not None:
            parts.write()
        gathered = comm.gather((results, visited))
    if comm.is_main_process():
        if parts is not None:
            gathered = [(parts.earlier.results, parts.earlier.images), *gathered]
            seconds += parts.earlier.seconds
        results = [r for part, _ in gathered for r in part]
        visited = [i for _, part in gathered for i in part]
        results, visited = in_order_of(data, results, visited)
    return results, visited, seconds


def in_order_of(
    data: DetectionSet, results: list[dict[str, Any]], visited: list[Any]
) -> tuple[list[dict[str, Any]], list[Any]]:
    """Results and images in the order of the set; within an image in that of the model.

    Raises:
        CheckFailed: an image was visited twice or never.
    """
    expected = [r["image_id"] for r in data.records]
    if sorted(map(str, visited)) != sorted(map(str, expected)):
        missing = set(expected) - set(visited)
        raise CheckFailed(
            f"{data.name}: expected {len(expected)} images, visited {len(visited)}, "
            f"{len(visited) - len(set(visited))} twice, {len(missing)} missing. "
            "No number is given."
        )
    place = {image_id: n for n, image_id in enumerate(expected)}
    return sorted(results, key=lambda r: place[r["image_id"]]), expected


class MappedRecords(torch.utils.data.Dataset):
    """Records in their order, each mapped."""

    def __init__(self, records: Sequence[dict[str, Any]], mapper: RecordMapper):
        self.records = records
        self.mapper = mapper

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.mapper(self.records[index])


def with_progress(loader: Any, total: int, name: str) -> Iterator[Any]:
    """The loader of batches, with a line with ETA at most every ten seconds.

    Args:
        total: images in all batches.
    """
    start = last_line = time.monotonic()
    done = 0
    for batch in loader:
        yield batch
        done += len(batch)
        now = time.monotonic()
        if now - last_line > 10 or (done == total and total > 0):
            last_line = now
            eta = (now - start) / done * (total - done)
            logger.info(
                "%s: %d of %d images, %.3f s an image, eta %.0f s",
                name,
                done,
                total,
                (now - start) / done,
                eta,
            )


def to_coco(instances: Any, image_id: Any, category_ids: Sequence[int]) -> list[dict[str, Any]]:
    boxes = instances.pred_boxes.tensor.numpy().astype(np.float64)
    boxes[:, 2:] -= boxes[:, :2]
    results: list[dict[str, Any]] = [
        {
            "image_id": image_id,
            "category_id": int(category_ids[int(c)]),
            "bbox": box,
            "score": score,
        }
        for box, score, c in zip(
            boxes.tolist(),
            instances.scores.numpy().astype(np.float64).tolist(),
            instances.pred_classes.tolist(),
            strict=True,
        )
    ]
    if instances.has("pred_masks"):
        with profile.span("run lengths"):
            for result, mask in zip(results, instances.pred_masks.numpy(), strict=True):
                result["segmentation"] = run_lengths(mask)
    return results


def write_results(
    folder: Path,
    data: DetectionSet,
    results: list[dict[str, Any]],
    visited: list[Any],
    seconds: float,
    *,
    num_samples: int,
    reader: ImageReader,
) -> None:
    """The result folder that `resdet.evaluation.evaluate_folder` and the report read."""
    write_json(folder / layout.COCO_RESULTS, results, indent=None)
    if "voc" in data.evaluators:
        _write_voc(folder, data, results, visited)
    if "ilsvrc" in data.evaluators:
        _write_ilsvrc(folder, data, results)
    write_set(folder, data, visited, seconds, num_samples=num_samples, reader=reader)


def write_set(
    folder: Path,
    data: DetectionSet,
    visited: list[Any],
    seconds: float,
    *,
    num_samples: int,
    reader: ImageReader,
) -> None:
    """What a result folder has beside its results: the ground truth, the images, a few pictures.

    A set without annotations leaves image_info.json.gz in the place of the ground truth.
    """
    about = ground_truth(data)
    name, other = layout.GROUND_TRUTH, layout.IMAGE_INFO
    if not data.annotated:
        name, other = other, name
        del about["annotations"]
    write_json(folder / name, about, indent=None)
    (folder / other).unlink(missing_ok=True)
    _write_samples(folder, data, num_samples, reader)
    expected = [r["image_id"] for r in data.records]
    folders = {str(Path(r["file_name"]).resolve().parent) for r in data.records}
    write_json(
        folder / layout.IMAGES,
        {
            "data_set": data.name,
            "hash": data.hash,
            # So that a report can show any of the images, as long as they stay there.
            "image_folder": folders.pop() if len(folders) == 1 else None,
            "exif": reader.options.exif,
            "expected": expected,
            "evaluated": visited,
            "seconds": seconds,
            **_result_indices(data),
        },
        indent=None,
    )


def _result_indices(data: DetectionSet) -> dict[str, list[int]]:
    """The index that ILSVRC's result files have for each image; of its sets alone."""
    if "ilsvrc" not in data.evaluators:
        return {}
    return {"result_indices": [record["result_index"] for record in data.records]}


def _not_scored(data: DetectionSet) -> list[list[int]]:
    """[image from 1 in the order of the set, id of a class]: what ILSVRC's blacklist leaves out."""
    return [[n, k] for n, r in enumerate(data.records, 1) for k in r.get("not_scored", ())]


def _write_ilsvrc(folder: Path, data: DetectionSet, results: list[dict[str, Any]]) -> None:
    """ILSVRC DET's file: boxes in the numbers of the annotations, which the records keep."""
    index = {record["image_id"]: record["result_index"] for record in data.records}
    boxes = np.array([r["bbox"] for r in results], dtype=np.float64).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    found = DetResults(
        np.array([index[r["image_id"]] for r in results], dtype=np.int64),
        np.array([r["category_id"] for r in results], dtype=np.int64),
        np.array([r["score"] for r in results], dtype=np.float64),
        boxes,
    )
    # Of a list like val2 indices are those of val.
    most = max(index.values(), default=0)
    write_det_results(folder / layout.ILSVRC_RESULTS, found, most, len(data.classes))


def ground_truth(data: DetectionSet) -> dict[str, Any]:
    """The set as COCO JSON with official ids, `difficult` kept."""
    annotations: list[dict[str, Any]] = []
    for record in data.records:
        for a in record.get("annotations", ()):
            x0, y0, x1, y1 = a["bbox"]
            entry = {
                "id": len(annotations) + 1,
                "image_id": record["image_id"],
                "category_id": data.category_ids[a["category_id"]],
                "bbox": [x0, y0, x1 - x0, y1 - y0],
                "area": a.get("area", (x1 - x0) * (y1 - y0)),
                "iscrowd": a.get("iscrowd", 0),
                "difficult": a.get("difficult", 0),
            }
            if (a.get("iscrowd", 0) or data.has_masks) and "segmentation" in a:
                entry["segmentation"] = a["segmentation"]
            if "members" in a:
                corners = (m["bbox"] for m in a["members"])
                entry["members"] = [[x0, y0, x1 - x0, y1 - y0] for x0, y0, x1, y1 in corners]
            annotations.append(entry)
    return {
        "info": {
            "data_set": data.name,
            "evaluators": list(data.evaluators),
            "voc_year": data.voc_year,
            "hash": data.hash,
            # Results are then scored by their masks, too.
            **({"masks": True, "mask_hash": data.mask_hash} if data.has_masks else {}),
            "sources": data.sources,
            "notes": list(data.notes),
            **({"not_scored": _not_scored(data)} if "ilsvrc" in data.evaluators else {}),
        },
        "images": [
            {
                "id": r["image_id"],
                "file_name": Path(r["file_name"]).name,
                "width": r["width"],
                "height": r["height"],
            }
            for r in data.records
        ],
        "categories": [
            {"id": i, "name": n} for i, n in zip(data.category_ids, data.classes, strict=True)
        ],
        "annotations": annotations,
    }


def _write_voc(
    folder: Path, data: DetectionSet, results: list[dict[str, Any]], visited: list[Any]
) -> None:
    place = {category_id: i for i, category_id in enumerate(data.category_ids)}
    boxes = np.array([r["bbox"] for r in results], dtype=np.float64).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    detections = detections_from_boxes(
        data.classes,
        [r["image_id"] for r in results],
        [place[r["category_id"]] for r in results],
        boxes,
        [r["score"] for r in results],
        evaluated=visited,
    )
    write_detections(folder, detections)


def _write_samples(folder: Path, data: DetectionSet, count: int, reader: ImageReader) -> None:
    """Pictures evenly spread over the set, so that every run on it keeps the same ones."""
    entries = []
    picks = np.unique(np.linspace(0, len(data.records) - 1, min(count, len(data.records))).round())
    for index in picks.astype(int).tolist() if count else []:
        record = data.records[index]
        image = Image.fromarray(reader.read(record["file_name"]))
        image.thumbnail((SAMPLE_SIDE, SAMPLE_SIDE))
        name = f"{layout.SAMPLES}/{file_name(str(record['image_id']))}.jpg"
        with atomic_path(folder / name) as temporary:
            image.save(temporary, "JPEG", quality=90)
        entries.append({"image_id": record["image_id"], "file": name})
    write_json(folder / layout.SAMPLES_INDEX, entries)
