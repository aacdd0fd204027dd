"""The detector of a finished run as one ONNX file, compared with Detectron2's own results.

The file takes one image of any size, pixels in [0, 255], and gives boxes, scores and classes.
After writing, onnxruntime runs it on the run's sample pictures, as the run reads and resizes
them, and on noise; Detectron2's detector runs on the same, and where one detection differs no
file is left.

Not for: how the graph is built (`detector_graph`), or reading and resizing images for it.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from resdet.detect.from_run import built_detector
from resdet.detect.loading import Mapper
from resdet.detect.onnx.detector_graph import DetectorGraph, set_to_float32, translations
from resdet.detect.paper.tester import Improvements
from resdet.errors import CheckFailed, RunError
from resdet.run import layout
from resdet.run.folder import Run
from resdet.weights import Card, Input
from resdet.weights.onnx.onnx_file import (
    OPSET,
    about,
    checked,
    convert,
    input_facts,
    require_packages,
)

NAME = "detector.onnx"
OUTPUTS = ("boxes", "scores", "classes")
BOX_TOLERANCE = 0.1  # pixels of the image as the detector sees it
SCORE_TOLERANCE = 1e-4
PICTURES = 6
# Height and width of the noise: odd, wide and tall.
NOISE = ((161, 243), (250, 130))


@dataclass(frozen=True)
class ExportedDetector:
    """One ONNX file and how it was checked.

    Attributes:
        images: (H, W) of the images that both were run on; the first `pictures` of them are
            sample pictures of the run, the others noise.
        detections: number that were compared, over all images.
        box_difference: the largest |onnxruntime - Detectron2| of a coordinate, in pixels.
        score_difference: the same of a score.
        bytes: of the file.
        seconds: for export and check.
    """

    path: str
    kind: str
    net: str
    opset: int
    normalised_input: bool
    classes: int
    images: tuple[tuple[int, int], ...]
    pictures: int
    detections: int
    box_difference: float
    score_difference: float
    bytes: int
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        pixels = "normalised pixels" if self.normalised_input else "pixels in [0, 255]"
        return (
            f"{self.path}: detector around {self.net}, {self.classes} classes, "
            f"{self.bytes / 1e6:.1f} MB, opset {self.opset}\n"
            f"  image: {pixels}, float32, (1, 3, H, W), any H and W\n"
            "  gives: boxes (D, 4) as x0, y0, x1, y1 in pixels of that image, scores (D), "
            "classes (D)\n"
            f"  onnxruntime against Detectron2 on {self.pictures} pictures and "
            f"{len(self.images) - self.pictures} of noise: {self.detections} detections, the same "
            f"ones; boxes differ by {self.box_difference:.1e} px, scores by "
            f"{self.score_difference:.1e} at most"
        )


def export_detector(
    folder: Path | str,
    path: Path | str,
    *,
    normalised_input: bool = False,
    score_threshold: float | None = None,
) -> ExportedDetector:
    """Writes the detector of a run folder; a `path` without ".onnx" is a folder for detector.onnx.

    Args:
        normalised_input: `image` is (pixel - mean) / std already, and the graph leaves it out.
        score_threshold: what a detection must exceed; by default as in the run, in [0, 1).

    Raises:
        UserError: a package is missing, the run is not finished, or its detector has a part that
            is not known. WeightsError: torch.export or onnxruntime refuses.
        CheckFailed: results differ, or nothing was detected and so nothing compared.
    """
    require_packages()
    began = time.monotonic()
    run = Run.open(folder)
    # Faster parts of a training compute the same, by code that is not exported.
    detector = built_detector(run.path, ["MODEL.DEVICE", "cpu", "ENGINE.FAST_TRAINING", "off"])
    model: Any = detector.model
    cfg = detector.cfg
    _refuse_improvements(run, cfg)
    if score_threshold is not None:
        model.roi_heads.box_predictor.test_score_thresh = score_threshold
    images, pictures = check_images(run, Mapper.of(cfg, detector.reader, is_train=False))
    given = Input(
        cfg.INPUT.FORMAT,
        tuple(cfg.MODEL.PIXEL_MEAN),
        tuple(cfg.MODEL.PIXEL_STD),
        exif=cfg.INPUT.EXIF,
    )
    name = cfg.MODEL.NET.NAME or cfg.MODEL.BACKBONE.NAME
    path = Path(path) if str(path).endswith(".onnx") else Path(path) / NAME
    entries = about(
        _card_of(run),
        kind="detector",
        input={
            **input_facts(given, normalised=normalised_input),
            "min_size": cfg.INPUT.MIN_SIZE_TEST,
            "max_size": cfg.INPUT.MAX_SIZE_TEST,
        },
        classes=list(detector.classes),
        run=run.info["id"],
    )
    comparison = write_detector(
        model, path, images, entries=entries, what=name, normalised_input=normalised_input
    )
    return ExportedDetector(
        path=str(path),
        kind="detector",
        net=name,
        opset=OPSET,
        normalised_input=normalised_input,
        classes=cfg.MODEL.ROI_HEADS.NUM_CLASSES,
        images=tuple((int(x.shape[-2]), int(x.shape[-1])) for x in images),
        pictures=pictures,
        detections=comparison.detections,
        box_difference=comparison.box,
        score_difference=comparison.score,
        bytes=path.stat().st_size,
        seconds=time.monotonic() - began,
    )


def _refuse_improvements(run: Run, cfg: Any) -> None:
    """Raises RunError where the run's detections are not those of one pass, which a file has."""
    if improvements := Improvements.of_config(cfg):
        off = " ".join(f"{key} {value}" for key, value in improvements.off.items())
        raise RunError(
            f"{run.path} is tested with {', '.join(improvements.off)}, and an ONNX file has one "
            "pass over one image. Score the run without, and export it then: train_det --config … "
            f"--output {run.path} --resume {off}"
        )


def _card_of(run: Run) -> Card | None:
    path = run.path / layout.CARD
    if not path.exists():
        return None
    return Card.read(path)


def check_images(run: Run, mapper: Mapper) -> tuple[list[torch.Tensor], int]:
    """Images (3, H, W), float32 in [0, 255], to compare on, and how many of them are pictures."""
    files = [
        p for name in run.detected_sets() for p in (run.results(name) / layout.SAMPLES).glob("*")
    ]
    picks = np.unique(np.linspace(0, len(files) - 1, min(PICTURES, len(files))).round())
    images = [
        mapper({"file_name": str(sorted(files)[i])})["image"].float()
        for i in picks.astype(int).tolist()
    ]
    generator = torch.Generator().manual_seed(0)
    noise = [torch.randint(0, 256, (3, *size), generator=generator).float() for size in NOISE]
    return images + noise, len(images)


@dataclass(frozen=True)
class ExportDifference:
    """A comparison: detections in all, largest difference of a box and of a score."""

    detections: int
    box: float
    score: float


def write_detector(
    model: nn.Module,
    path: Path,
    images: Sequence[torch.Tensor],
    *,
    entries: dict[str, str],
    what: str,
    normalised_input: bool = False,
) -> ExportDifference:
    """Writes a Detectron2 model as ONNX and compares the two on images (3, H, W) in [0, 255].

    The model computes in float32 from then on (`set_to_float32`). Raises what `export_detector`
    raises.
    """
    require_packages()
    graph = DetectorGraph(model, normalises=not normalised_input).eval()
    # The graph has the model's own layers: both compute in float32, whatever the run's precision.
    set_to_float32(model)
    mean, std = graph.model.pixel_mean, graph.model.pixel_std
    program = convert(
        graph,
        torch.zeros(1, 3, 160, 224),
        outputs=OUTPUTS,
        dynamic={2: "height", 3: "width"},
        what=f"the detector around {what}",
        translations=translations(),
    )
    with checked(path, program, entries) as session:
        differences = []
        for image in images:
            with torch.no_grad():
                expected = graph.model([{"image": image}])[0]["instances"]
            pixels = (image - mean) / std if normalised_input else image
            outputs = session.run(list(OUTPUTS), {"image": pixels[None].numpy()})
            differences.append(
                difference(
                    (outputs[0], outputs[1], outputs[2]),
                    (
                        expected.pred_boxes.tensor.numpy(),
                        expected.scores.numpy(),
                        expected.pred_classes.numpy(),
                    ),
                    where=f"{path} was not kept: on an image of {image.shape[1]} x "
                    f"{image.shape[2]} pixels (height x width)",
                )
            )
        total = sum(d.detections for d in differences)
        if total == 0:
            heads: Any = model.roi_heads
            above = heads.box_predictor.test_score_thresh
            way = "Train it further."
            if above > 0:
                way = (
                    f"Give --score-threshold {0.01 if above > 0.01 else 0.0}, or, where the run "
                    "has no sample pictures, score it first: train_det --eval-only."
                )
            raise CheckFailed(
                f"{path} was not kept: the detector finds nothing on the {len(images)} images of "
                f"the check with a score above {above:g}, so nothing could be compared. {way}"
            )
    return ExportDifference(
        total, max(d.box for d in differences), max(d.score for d in differences)
    )


Detections = tuple[np.ndarray, np.ndarray, np.ndarray]


def difference(output: Detections, expected: Detections, *, where: str) -> ExportDifference:
    """How far two results of one image are apart; equal scores may come in another order.

    Args:
        output, expected: boxes (D, 4), scores (D), classes (D).
        where: beginning of the error's sentence.

    Raises:
        CheckFailed: the number differs, or a detection has no partner of its class within
            `BOX_TOLERANCE` and `SCORE_TOLERANCE`; states which and how near the next one is.
    """
    if len(output[1]) != len(expected[1]):
        raise CheckFailed(
            f"{where} onnxruntime gives {len(output[1])} detections, Detectron2 "
            f"{len(expected[1])}. Report it with the versions that `resdet doctor` prints."
        )
    free = np.ones(len(output[1]), dtype=bool)
    worst_box = worst_score = 0.0
    for box, score, label in zip(*expected, strict=True):
        boxes = np.abs(output[0] - box).max(axis=1, initial=0.0)
        scores = np.abs(output[1] - score)
        apart = np.maximum(boxes / BOX_TOLERANCE, scores / SCORE_TOLERANCE)
        apart[~free | (output[2] != label)] = np.inf
        nearest = int(apart.argmin())
        if not apart[nearest] <= 1:
            near = (
                f"the nearest differs by {boxes[nearest]:.2g} px and {scores[nearest]:.2g}"
                if np.isfinite(apart[nearest])
                else "no detection of that class is left"
            )
            raise CheckFailed(
                f"{where} onnxruntime lacks the detection of class {label} with score "
                f"{score:.4f} at {box.round(1).tolist()}: {near} (limits {BOX_TOLERANCE} px, "
                f"{SCORE_TOLERANCE:g}). Report it with the versions that `resdet doctor` prints."
            )
        free[nearest] = False
        worst_box = max(worst_box, float(boxes[nearest]))
        worst_score = max(worst_score, float(scores[nearest]))
    return ExportDifference(len(output[1]), worst_box, worst_score)
