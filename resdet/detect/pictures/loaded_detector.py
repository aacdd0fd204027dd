"""A detector for Python and notebooks: pictures in, boxes with scores and class names out.

    detector = resdet.load_detector("runs/voc07_r50")
    for detections in detector(["a.jpg", PIL.Image.open("b.png"), array]):
        print(detections.names, detections.scores, detections.boxes)

The boxes of a file are those that the run itself has for it (`train_det --eval-only`), to the bit:
same reader, same preprocessing, same form of the model, one image at a time.

Not for: folders of pictures (`picture_folder`), or which detector it is (`detect.from_run`).
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from PIL import Image

from resdet.detect.from_run import BuiltDetector, built_detector
from resdet.errors import ConfigError
from resdet.evaluation.inputs.masks import mask_pixels, run_lengths

COLOR_ORDERS = ("RGB", "BGR")
# One picture: a path, an image of Pillow's, or an array.
OnePicture = str | Path | Image.Image | np.ndarray


@dataclass(frozen=True)
class BoxesOfPicture:
    """What was detected on one picture, in falling order of scores.

    Attributes:
        boxes: (D, 4) float32, (x0, y0, x1, y1) in pixels of the picture as it is shown, EXIF's
            rotation done; x1 and y1 are edges, so a width is x1 - x0.
        scores: (D,) float32, 0 to 1.
        labels: (D,) int64, places in the detector's `classes`.
        names: D class names.
        width, height: of the picture as it is shown.
        segmentations: D masks as COCO's compressed run lengths; None of a detector without masks.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    names: tuple[str, ...]
    width: int
    height: int
    segmentations: tuple[dict[str, Any], ...] | None = None

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def masks(self) -> np.ndarray | None:
        """(D, height, width) bool, made anew at each call; None for a detector of boxes alone."""
        if self.segmentations is None:
            return None
        masks = np.zeros((len(self), self.height, self.width), dtype=bool)
        for place, segmentation in enumerate(self.segmentations):
            masks[place] = mask_pixels(segmentation, self.height, self.width)
        return masks

    def best(self, *, score: float = 0.0, top: int | None = None) -> BoxesOfPicture:
        """Those with at least this score, at most so many."""
        # Stable: detections with one score stay in the order of the model.
        order = np.argsort(-self.scores, kind="stable")
        kept = order[self.scores[order] >= score][:top]
        names = tuple(self.names[i] for i in kept)
        masks = self.segmentations
        return BoxesOfPicture(
            self.boxes[kept],
            self.scores[kept],
            self.labels[kept],
            names,
            self.width,
            self.height,
            None if masks is None else tuple(masks[i] for i in kept),
        )


class PictureDetector:
    """A detector that takes pictures; call it with one, or with a list of them.

    Attributes:
        built: the detector with its config, run, reader and mapper.
        classes: names, in the order of labels.
    """

    def __init__(self, built: BuiltDetector):
        self.built = built
        self.classes = built.classes
        self._model = built.for_detecting.eval()

    @property
    def score_threshold(self) -> float:
        """Nothing below it is detected (MODEL.ROI_HEADS.SCORE_THRESH_TEST)."""
        return float(self.built.cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST)

    @property
    def most(self) -> int:
        """No picture gets more detections (TEST.DETECTIONS_PER_IMAGE)."""
        return int(self.built.cfg.TEST.DETECTIONS_PER_IMAGE)

    @overload
    def __call__(
        self, pictures: OnePicture, *, score: float = 0.0, top: int | None = None, order: str = ""
    ) -> BoxesOfPicture: ...

    @overload
    def __call__(
        self,
        pictures: list[Any] | tuple[Any, ...],
        *,
        score: float = 0.0,
        top: int | None = None,
        order: str = "",
    ) -> list[BoxesOfPicture]: ...

    def __call__(
        self,
        pictures: OnePicture | list[Any] | tuple[Any, ...],
        *,
        score: float = 0.0,
        top: int | None = None,
        order: str = "",
    ) -> BoxesOfPicture | list[BoxesOfPicture]:
        """The boxes of each picture.

        Args:
            pictures: one or several: a path; an image of Pillow's, of any mode that the reader
                takes from files; an array (H, W, 3) or grey (H, W), uint8.
            score: at least this; the run's own threshold holds below it.
            top: at most so many of each picture, those with the highest scores.
            order: "RGB" or "BGR" (OpenCV's), of arrays with three channels, which do not tell.

        Raises:
            DataError: a picture that the strict reader refuses; names it and what accepts it.
            TypeError, ValueError: an array of another shape, type, or without its `order`; a
                score outside 0 to 1; something that is no picture.
        """
        _refuse_score(score)
        if isinstance(pictures, str | Path | Image.Image | np.ndarray):
            return self._detected(pictures, "the picture", order).best(score=score, top=top)
        if isinstance(pictures, _BYTES) or not isinstance(pictures, Iterable):
            raise TypeError(
                f"a {type(pictures).__name__} was given, expected a path, a PIL.Image or an array, "
                f"or a list of such{_OF_BYTES if isinstance(pictures, _BYTES) else ''}"
            )
        return [
            self._detected(picture, f"picture {number}", order).best(score=score, top=top)
            for number, picture in enumerate(pictures)
        ]

    def _detected(self, picture: OnePicture, name: str, order: str) -> BoxesOfPicture:
        reader = self.built.reader
        shown = name
        if isinstance(picture, str | Path):
            shown, image = str(picture), reader.read(picture)
        elif isinstance(picture, Image.Image):
            shown = str(getattr(picture, "filename", "") or name)
            image = reader.read_picture(picture, shown)
        elif isinstance(picture, np.ndarray):
            image = rgb_of(picture, name, order)
        else:
            raise TypeError(
                f"{name} is a {type(picture).__name__}, expected a path, a PIL.Image or an array"
            )
        return self.of_input(self.built.mapper.of_image(record_of(image, shown), image))

    def of_input(self, given: dict[str, Any]) -> BoxesOfPicture:
        """The boxes of what the mapper has made of a picture, with its width and height."""
        with torch.no_grad():
            (output,) = self._model([given])
        found = output["instances"].to("cpu")
        labels = found.pred_classes.numpy()
        return BoxesOfPicture(
            found.pred_boxes.tensor.numpy(),
            found.scores.numpy(),
            labels,
            tuple(self.classes[label] for label in labels.tolist()),
            given["width"],
            given["height"],
            tuple(map(run_lengths, found.pred_masks.numpy())) if found.has("pred_masks") else None,
        )


def load_detector(
    run: Path | str,
    *,
    best: bool = False,
    device: str = "auto",
    config: Path | str | None = None,
    keys: Sequence[str] | Mapping[str, Any] = (),
    classes: Sequence[str] = (),
) -> PictureDetector:
    """The detector of a run folder, or of a weight file, for pictures.

    Args:
        run: a folder that train_det wrote; its model_final.pth or model_best.pth; or, with
            `config`, any file with a detector of ours or of Detectron2's.
        best: the best model that the run kept, not its last.
        device: "cpu", "cuda", "cuda:1"; "auto" takes a GPU where there is one.
        config: a file or the name of a preset, for a weight file outside of a run.
        keys: KEY VALUE pairs that shall differ from the run, such as
            ("INPUT.SIXTEEN_BIT", "high_byte") or {"INPUT.SIXTEEN_BIT": "high_byte"}; values as they
            would be typed.
        classes: names, in the order of the predictor, of a file that has none.

    Raises:
        RunError, ConfigError, WeightsError: as `resdet.detect.from_run.built_detector`.
    """
    keys = tuple(chain(*keys.items())) if isinstance(keys, Mapping) else tuple(keys)
    if len(keys) % 2:
        raise ConfigError(
            f"keys has {len(keys)} entries, the last {keys[-1]!r}: expected pairs, such as "
            '("INPUT.SIXTEEN_BIT", "high_byte").'
        )
    if "MODEL.DEVICE" in keys[::2]:
        raise ConfigError("MODEL.DEVICE is among the keys: give the argument device.")
    opts = [*(str(key) for key in keys), "MODEL.DEVICE", device]
    built = built_detector(run, opts, best=best, config_file=config, classes=classes)
    return PictureDetector(built)


# Values of a wrong call, and what makes a picture of them.
_BYTES = (bytes, bytearray, memoryview, io.IOBase)
_OF_BYTES = "; of an open file or its bytes: PIL.Image.open(file) or PIL.Image.open(io.BytesIO(b))"


def _refuse_score(score: float) -> None:
    if isinstance(score, bool) or not isinstance(score, int | float | np.number):
        raise TypeError(f"score is {score!r}, expected a number from 0 to 1")
    if not 0 <= score <= 1:
        raise ValueError(f"score is {score}, expected 0 to 1")


def record_of(image: np.ndarray, name: str) -> dict[str, Any]:
    """What the model must know of a picture, the size that boxes shall be in; and its name."""
    return {"height": image.shape[0], "width": image.shape[1], "file_name": name}


def rgb_of(array: np.ndarray, name: str, order: str) -> np.ndarray:
    """An array of a caller's as (H, W, 3) uint8 RGB; raises TypeError and ValueError."""
    if array.dtype != np.uint8:
        raise TypeError(f"{name} has type {array.dtype}, expected uint8, values 0 to 255")
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim == 2 and array.size:
        return np.repeat(array[:, :, None], 3, axis=2)
    if array.ndim != 3 or array.shape[2] != 3 or not array.size:
        raise ValueError(
            f"{name} has shape {array.shape}, expected (H, W, 3), or (H, W) for grey"
            f"{_on_shape(array.shape)}"
        )
    if order not in COLOR_ORDERS:
        raise ValueError(
            f"{name} is an array of colours: order is {order!r}, expected 'RGB', or 'BGR' as "
            "OpenCV reads"
        )
    return np.ascontiguousarray(array if order == "RGB" else array[:, :, ::-1])


def _on_shape(shape: tuple[int, ...]) -> str:
    if 0 in shape:
        return "; it has no pixel"
    if len(shape) == 3 and shape[2] == 4:
        return "; drop the alpha channel before"
    if len(shape) == 3 and shape[0] in (1, 3, 4):
        return "; put the channels last: array.transpose(1, 2, 0)"
    return "; give several pictures as a list" if len(shape) == 4 else ""
