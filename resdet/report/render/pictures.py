"""The same pictures with each detector's boxes, so that a number can be looked at.

Drawn with Pillow on the samples that a run keeps (results/<set>/samples.json), enlarged where
they are small. A box is right when it covers a free object of its class with IoU of at least 0.5,
taken by falling score; boxes on difficult or crowd objects are left out, as in the score.

Not for: choosing good examples; the images are spread over the set.
"""

from __future__ import annotations

import base64
import io
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from PIL import Image, ImageOps

from resdet.bounded_files import open_file
from resdet.report.render.box_drawing import DrawnBox, draw_boxes, short_score
from resdet.report.scores import SetScores

# Those that data sets are read in; some others of Pillow's run programs.
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "JPEG2000")
SCORE_THRESHOLD = 0.5
IOU_THRESHOLD = 0.5
PICTURES_CAPTION = (
    f"Detections with a score of at least {SCORE_THRESHOLD:g}; right means IoU of at least "
    f"{IOU_THRESHOLD:g} with a free object of the class. The pictures are spread evenly over the "
    "set; they were not chosen by result."
)
MAX_SAMPLES = 8
SIDE = 400
MAX_BYTES = 2_000_000
QUALITIES = (85, 72, 55, 40)


@dataclass(frozen=True)
class Panel:
    """One run's boxes on one picture: a JPEG, and in words what is drawn."""

    jpeg: bytes
    width: int
    height: int
    num_right: int
    num_wrong: int
    num_missed: int

    @property
    def data_uri(self) -> str:
        return "data:image/jpeg;base64," + base64.b64encode(self.jpeg).decode("ascii")

    @property
    def words(self) -> str:
        return f"{self.num_right} right, {self.num_wrong} wrong, {self.num_missed} missed"


@dataclass(frozen=True)
class ImageSample:
    """One picture of the set with a panel per run, in the order of the runs."""

    image_id: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Drawing:
    picture: Image.Image
    kinds: list[str]

    def panel(self, quality: int) -> Panel:
        with io.BytesIO() as file:
            self.picture.save(file, "JPEG", quality=quality)
            jpeg = file.getvalue()
        counts = (self.kinds.count(kind) for kind in ("right", "wrong", "missed"))
        return Panel(jpeg, *self.picture.size, *counts)


def samples(
    scores: Sequence[SetScores], *, limit: int = MAX_SAMPLES, max_bytes: int = MAX_BYTES
) -> list[ImageSample]:
    """Of the pictures that the first run keeps `limit`, evenly spread, as small as the page allows.

    An image that cannot be opened is left out; a report never fails for a picture.
    """
    drawn = _drawn(scores, limit)

    def made(count: int, quality: int) -> list[ImageSample]:
        return [encoded(image_id, drawings, quality) for image_id, drawings in drawn[:count]]

    return fitting(made, len(drawn), max_bytes, lambda shown: shown)


Made = TypeVar("Made")


def fitting(
    made: Callable[[int, int], list[Made]],
    most: int,
    max_bytes: int,
    samples_of: Callable[[list[Made]], Iterable[ImageSample]],
) -> list[Made]:
    """The first that is small enough: in falling quality, then with fewer pictures; else none.

    Args:
        made: of a number of pictures and a JPEG quality.
        most: pictures to begin with.
        samples_of: what of it counts.
    """
    tries = [(most, quality) for quality in QUALITIES]
    tries += [(fewer, QUALITIES[-1]) for fewer in range(most - 1, 0, -1)]
    for count, quality in tries:
        samples = made(count, quality)
        if sum(len(p.jpeg) for s in samples_of(samples) for p in s.panels) <= max_bytes:
            return samples
    return []


def encoded(image_id: Any, drawings: Sequence[Drawing], quality: int) -> ImageSample:
    return ImageSample(str(image_id), tuple(d.panel(quality) for d in drawings))


def _drawn(scores: Sequence[SetScores], limit: int) -> list[tuple[Any, list[Drawing]]]:
    kept = list(scores[0].samples) or list(scores[0].evaluated if scores[0].image_folder else ())
    picks = sorted({round(i) for i in np.linspace(0, len(kept) - 1, min(limit, len(kept)))})
    drawn = [(kept[i], draw_sample(scores, kept[i])) for i in picks]
    return [(image_id, drawings) for image_id, drawings in drawn if drawings is not None]


def draw_sample(scores: Sequence[SetScores], image_id: Any) -> list[Drawing] | None:
    """One image with the boxes of each run; None where no file of it can be opened."""
    photo = photo_of(scores, image_id)
    return None if photo is None else [_draw(photo, s, image_id) for s in scores]


def photo_of(scores: Sequence[SetScores], image_id: Any) -> Image.Image | None:
    """One image of the set, upright, in RGB; None where no file of it can be opened."""
    paths = [path for s in scores if (path := s.picture_of(image_id)) is not None]
    for path in dict.fromkeys(paths):
        try:
            with open_file(path) as raw, Image.open(raw, formats=FORMATS) as file:
                upright = ImageOps.exif_transpose(file) if scores[0].exif == "apply" else file
                photo = upright.convert("RGB")
        except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError):
            continue  # Pillow's for broken files; for some formats it has no error of its own
        if _has_shape_of(photo, scores[0].size_of(image_id)):
            return photo
    return None


def _has_shape_of(photo: Image.Image, size: tuple[int, int] | None) -> bool:
    """Another image under the same name, or one that was turned, would hold the boxes wrongly."""
    if size is None:
        return True
    return abs(photo.width / photo.height - size[0] / size[1]) < 0.02 * size[0] / size[1]


def judged_boxes(
    truth: Sequence[Mapping[str, Any]],
    detections: Sequence[Mapping[str, Any]],
    names: Mapping[int, str],
    *,
    threshold: float = SCORE_THRESHOLD,
) -> list[DrawnBox]:
    """What is drawn on one image: detections from the threshold up, then missed objects.

    Args:
        truth: COCO annotations of the image, with "difficult" where VOC has it.
        detections: COCO results of the image.
        names: category id to class name.
        threshold: the lowest score that is drawn.
    """
    boxes = []
    verdicts = judged(truth, [d for d in detections if d["score"] >= threshold])
    for detection, verdict, _ in verdicts:
        if verdict != "ignored":
            name = names.get(detection["category_id"], "?")
            text = f"{name} {short_score(detection['score'])}"
            mask = detection.get("segmentation")
            boxes.append(DrawnBox(corners_of(detection["bbox"]), text, verdict, mask=mask))
    hit = {place for _, verdict, place in verdicts if verdict == "right"}
    for i, item in enumerate(truth):
        if i not in hit and not is_ignored(item):
            boxes.append(DrawnBox(corners_of(item["bbox"]), "", "missed"))
    return boxes


def judged(
    truth: Sequence[Mapping[str, Any]], detections: Sequence[Mapping[str, Any]]
) -> list[tuple[Mapping[str, Any], str, int]]:
    """Each detection by falling score with "right", "wrong" or "ignored", and the place in `truth`
    of the object that it covers best, -1 for none.

    As in COCO's score, what else would be wrong and lies by half in a crowd is ignored.
    """
    verdicts = []
    taken: set[int] = set()
    by_class: dict[int, list[int]] = defaultdict(list)
    for i, item in enumerate(truth):
        by_class[item["category_id"]].append(i)
    for detection in sorted(detections, key=lambda d: -d["score"]):
        every = by_class.get(detection["category_id"], [])
        places = [i for i in every if not truth[i].get("iscrowd")]
        ious = [iou(detection["bbox"], truth[i]["bbox"]) for i in places]
        best = int(np.argmax(ious)) if ious else -1
        place = places[best] if best >= 0 and ious[best] >= IOU_THRESHOLD else -1
        if place >= 0 and is_ignored(truth[place]):
            verdicts.append((detection, "ignored", place))
            continue
        right = place >= 0 and place not in taken
        crowd = next((i for i in every if i not in places and _lies_in(detection, truth[i])), None)
        if right:
            taken.add(place)
        elif crowd is not None:
            verdicts.append((detection, "ignored", crowd))
            continue
        verdicts.append((detection, "right" if right else "wrong", place))
    return verdicts


def _lies_in(detection: Mapping[str, Any], crowd: Mapping[str, Any]) -> bool:
    box = detection["bbox"]
    return _intersection(box, crowd["bbox"]) >= IOU_THRESHOLD * box[2] * box[3] > 0


def _intersection(a: Sequence[float], b: Sequence[float]) -> float:
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    return max(0.0, width) * max(0.0, height)


def iou(a: Sequence[float], b: Sequence[float]) -> float:
    """Intersection over union of two boxes (x, y, width, height)."""
    overlap = _intersection(a, b)
    union = a[2] * a[3] + b[2] * b[3] - overlap
    return overlap / union if union > 0 else 0.0


def is_ignored(item: Mapping[str, Any]) -> bool:
    """Whether an object counts neither way: difficult, or a crowd."""
    return bool(item.get("difficult") or item.get("iscrowd"))


def corners_of(bbox: Sequence[float]) -> tuple[float, float, float, float]:
    """(x0, y0, x1, y1) of (x, y, width, height)."""
    x, y, width, height = bbox
    return x, y, x + width, y + height


def _draw(photo: Image.Image, scores: SetScores, image_id: Any) -> Drawing:
    detections = scores.detections_of(image_id, threshold=SCORE_THRESHOLD)
    boxes = judged_boxes(scores.truth_of(image_id), detections, scores.category_names)
    width, height = scores.size_of(image_id) or photo.size
    scale = SIDE / max(photo.size)
    size = (max(1, round(photo.width * scale)), max(1, round(photo.height * scale)))
    enlarged = photo.resize(size, Image.Resampling.BICUBIC)
    # Samples may be stored smaller than the image that the boxes are measured in.
    draw_boxes(enlarged, boxes, (size[0] / width, size[1] / height))
    return Drawing(enlarged, [b.kind for b in boxes])
