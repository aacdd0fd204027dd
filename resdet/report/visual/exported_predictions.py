"""A run's objects and boxes in the layouts that other viewers read: COCO's and FiftyOne's.

COCO: `images`, `categories` and `annotations`, a score in each annotation of a prediction, which
FiftyOne's `COCODetectionDataset` and `add_coco_labels` and supervision's `from_coco` read.
FiftyOne's `FiftyOneImageDetectionDataset`: boxes by the file's path without its suffix, as x, y,
width, height in fractions of the image. Both by their documented schemas; the boxes themselves are
the run's.

Not for: results that a server takes (`resdet.submission`), or pictures of no data set
(`resdet detect`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

from resdet import __version__
from resdet.errors import RunError
from resdet.evaluation.inputs.masks import compressed, mask_area
from resdet.report.scores import SetScores

Boxes = Callable[[Any], list[dict[str, Any]]]


def predictions_of(scores: SetScores, threshold: float) -> Boxes:
    """Of an image id, the run's detections with at least this score, in COCO's words."""
    return lambda image_id: scores.detections_of(image_id, threshold=threshold)


def coco_layout(scores: SetScores, boxes_of: Boxes, what: str) -> dict[str, Any]:
    """All evaluated images with these boxes, as one COCO file.

    Image ids that are text become numbers from 1, and `set_id` of each image has the text.

    Args:
        boxes_of: `predictions_of`, or the set's own objects (`SetScores.truth_of`).
        what: "predictions" or "ground truth".
    """
    numbers = _numbers(scores)
    images = {image["id"]: image for image in scores.truth["images"]}
    annotations: list[dict[str, Any]] = []
    for image_id, number in numbers.items():
        for box in boxes_of(image_id):
            entry: dict[str, Any] = {"id": len(annotations) + 1, "image_id": number}
            entry["area"] = _area_of(box, images[image_id])
            kept = ("category_id", "bbox", "score", "area", "iscrowd", "difficult", "segmentation")
            entry |= {key: box[key] for key in kept if key in box}
            annotations.append({**entry, "iscrowd": entry.get("iscrowd", 0)})
    return {
        "info": {
            "description": f"{what}, {scores.data_set}",
            "version": __version__,
            "folder": str(scores.image_folder) if scores.image_folder else None,
        },
        "licenses": [],
        "images": [
            {
                "id": number,
                "file_name": images[image_id]["file_name"],
                "width": images[image_id]["width"],
                "height": images[image_id]["height"],
                **({} if number == image_id else {"set_id": image_id}),
            }
            for image_id, number in numbers.items()
        ],
        "categories": [{"id": i, "name": n} for i, n in sorted(scores.category_names.items())],
        "annotations": annotations,
    }


def _area_of(box: Mapping[str, Any], image: Mapping[str, Any]) -> float:
    """Of the mask where a detection has one; an object's own area replaces it."""
    if "segmentation" in box and "score" in box:
        return mask_area(compressed(box["segmentation"], image["height"], image["width"]))
    width, height = box["bbox"][2:]
    return float(width * height)


def fiftyone_layout(scores: SetScores, boxes_of: Boxes) -> dict[str, Any]:
    """The same as labels.json of FiftyOne's `FiftyOneImageDetectionDataset`.

    Raises:
        RunError: two images have one path but for the suffix, by which FiftyOne tells them.
    """
    images = {image["id"]: image for image in scores.truth["images"]}
    # As FiftyOne has it: of an image in a folder below the images' the folder is in the name.
    names = {
        i: PurePosixPath(images[i]["file_name"]).with_suffix("").as_posix()
        for i in _numbers(scores)
    }
    repeated = [name for name, times in Counter(names.values()).items() if times > 1]
    if repeated:
        raise RunError(
            f"{scores.data_set} has several images called {repeated[0]}, and FiftyOne's own layout "
            "tells images by this name. Take --to coco."
        )
    classes = [name for _, name in sorted(scores.category_names.items())]
    place = {category_id: n for n, category_id in enumerate(sorted(scores.category_names))}
    return {
        "classes": classes,
        "labels": {
            name: list(_relative(boxes_of(image_id), images[image_id], place))
            for image_id, name in names.items()
        },
    }


def _relative(
    boxes: list[dict[str, Any]], image: Mapping[str, Any], place: Mapping[int, int]
) -> Iterator[dict[str, Any]]:
    width, height = image["width"], image["height"]
    for box in boxes:
        x, y, box_width, box_height = box["bbox"]
        fractions = [x / width, y / height, box_width / width, box_height / height]
        entry = {"label": place[box["category_id"]], "bounding_box": fractions}
        if "score" in box:
            entry["confidence"] = box["score"]
        flags = {key: bool(box[key]) for key in ("iscrowd", "difficult") if box.get(key)}
        yield {**entry, **({"attributes": flags} if flags else {})}


def _numbers(scores: SetScores) -> dict[Any, int]:
    """Each image's id in a COCO file, which are numbers."""
    ids = list(dict.fromkeys(scores.evaluated))
    if all(isinstance(i, int) for i in ids):
        return {i: i for i in ids}
    return {image_id: number for number, image_id in enumerate(ids, 1)}
