"""`resdet visualize`, where it needs the detector: proposals, and --explain of one image.

Not for: pages from result files (`visualize`), or the stages themselves (`detect.pictures.stages`).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from resdet.cli.pictures.drawn_detections import corners_of, drawn_detections
from resdet.cli.pictures.visualize import named, read_runs
from resdet.cli.training import training_command
from resdet.detect.from_run import BuiltDetector, built_detector
from resdet.detect.pictures.stages import DetectionStages, proposals_of, stages_of
from resdet.engine.metric_writers import start_log
from resdet.errors import RunError
from resdet.printable import show, show_json
from resdet.report.render.box_drawing import DrawnBox
from resdet.report.scores import SetScores
from resdet.report.visual.image_panels import Canvas, VisualImage, VisualPanel, proposal_panel
from resdet.report.visual.visual_page import PAGE, visual_html, write_visual
from resdet.text_table import ruled

# Proposals on the page of one image, where --proposals does not say.
SHOWN_PROPOSALS = 100
SIDE = 720
LEGEND = (
    "Dotted: regions. Solid green: objects that a proposal covers with an IoU of at least 0.5; "
    "dashed: objects that none covers. Other colours: classes."
)
HEAD = ("detection", "score", "from", "votes", "moved by, px", "x0, y0, x1, y1")


class ProposalsOfRuns:
    """The best proposals of each run for the images of a set.

    Raises:
        RunError, ConfigError: as `built_detector`.
    """

    def __init__(self, args: argparse.Namespace, folders: Sequence[Path], scores: SetScores):
        start_log()
        self.number = args.proposals
        self.scores = scores
        self.built = [built_detector(folder, args.opts) for folder in folders]
        training_command.prepare_process(self.built[0].cfg)

    def __call__(self, image_id: Any) -> list[list[list[float]] | None]:
        """Of each run; raises RunError where the set's own image is not at hand."""
        if self.scores.picture_of(image_id) is None:
            return [None for _ in self.built]  # it will not be shown either
        path = source_of(self.scores, image_id)
        return [
            proposals_of(built, built.reader.read(path), self.number).tolist()
            for built in self.built
        ]


def source_of(scores: SetScores, image_id: Any) -> Path:
    """The set's own file, as a run's sample pictures are smaller copies."""
    path = scores.source_of(image_id)
    if path is None:
        raise RunError(
            f"the image {image_id} of {scores.data_set} is not where it was. A detector needs the "
            "set's own images: --image-folder DIR"
        )
    return path


def explain(args: argparse.Namespace, output: Path) -> int:
    """The page of one image; returns 0."""
    start_log()
    path, truth, names, image_id = _image(args)
    built = built_detector(args.runs[0], args.opts, best=args.best)
    training_command.prepare_process(built.cfg)
    image = built.reader.read(path)
    stages = stages_of(built, image)
    panels = _panels(args, built, image, stages, truth, names)
    notes = sentences_of(built, stages, args.score)
    shown = [n for n, score in enumerate(stages.final.scores.tolist()) if score >= args.score]
    rows = [_row(stages, place) for place in shown]
    headline = f"{image_id} through {args.runs[0].name}"
    html = visual_html(
        [VisualImage(image_id, tuple(panels))], headline=headline, notes=notes,
        table=[HEAD, *rows] if rows else (),
        legend=LEGEND,
        rule=f"The path of one image, from proposals to final boxes with a score of at least "
        f"{args.score:g}.",
    )  # fmt: skip
    paths = write_visual(output, [VisualImage(image_id, tuple(panels))], html)
    if args.json:
        show_json(_as_json(built, stages, notes, rows, paths))
        return 0
    show("\n".join([headline, *(f"  {p.title}: {p.words}" for p in panels)]))
    show("\n".join(["", *notes]))
    if rows:
        show("\n".join(["", *ruled(HEAD, rows, left=(0, 2))]))
    show(f"\npage: {output / PAGE}\npicture: {paths[1]}")
    return 0


def _image(args: argparse.Namespace) -> tuple[Path, list[Any], dict[int, str], Any]:
    """File, objects, class names and id of the image that is named by file or by id."""
    path = Path(args.explain)
    if path.is_file():
        return path, [], {}, path.name
    try:
        _, (scores, *_) = read_runs(args.runs, args.data_set, args.image_folder)
        (image_id,) = named([args.explain], scores).image_ids
    except RunError as error:
        raise RunError(f"{args.explain} is no file, and by its id: {error}") from None
    return (
        source_of(scores, image_id), scores.truth_of(image_id), scores.category_names, image_id,
    )  # fmt: skip


def _panels(
    args: argparse.Namespace,
    built: BuiltDetector,
    image: np.ndarray,
    stages: DetectionStages,
    truth: Sequence[Any],
    names: dict[int, str],
) -> list[VisualPanel]:
    canvas = Canvas(Image.fromarray(image), stages.size, SIDE)
    best = stages.best_proposals(args.proposals or SHOWN_PROPOSALS).tolist()
    panels = [proposal_panel(canvas, "1. proposals", truth, best)]
    strong = stages.predicted_scores >= args.score
    panels.append(
        canvas.panel(
            "2. predicted", f"{strong.sum()} boxes before NMS, {len(strong)} of any score",
            _plain(built, stages.predicted[strong], stages.predicted_labels[strong]),
        )
    )  # fmt: skip
    if stages.refined is not None:
        boxes = [DrawnBox(corners_of(b), "", "proposal") for b in stages.refined.tolist()]
        panels.append(
            canvas.panel("3. refined", f"{len(boxes)} regions of the second round", boxes)
        )
    shown = stages.final.scores >= args.score
    kept = _plain(built, stages.kept[shown], stages.final.labels[shown]) if stages.is_whole else []
    if stages.votes is not None and stages.is_whole:
        panels.append(canvas.panel("4. kept by NMS", f"{shown.sum()} boxes, before votes", kept))
    final = stages.final.best(score=args.score)
    panels.append(canvas.panel("final", f"{len(final)} boxes", drawn_detections(final)))
    return panels


def _plain(built: BuiltDetector, boxes: np.ndarray, labels: np.ndarray) -> list[DrawnBox]:
    return [
        DrawnBox(corners_of(box), built.classes[label], "plain", label)
        for box, label in zip(boxes.tolist(), labels.tolist(), strict=True)
    ]


def sentences_of(built: BuiltDetector, stages: DetectionStages, score: float) -> list[str]:
    """What each stage did, and plainly which are off."""
    cfg = built.cfg
    texts = [
        f"The picture is {stages.size[0]}x{stages.size[1]}; the detector is given "
        f"{stages.seen[0]}x{stages.seen[1]} (INPUT.MIN_SIZE_TEST {cfg.INPUT.MIN_SIZE_TEST}, "
        f"MAX_SIZE_TEST {cfg.INPUT.MAX_SIZE_TEST}).",
        f"{len(stages.proposals)} proposals (MODEL.RPN.POST_NMS_TOPK_TEST "
        f"{cfg.MODEL.RPN.POST_NMS_TOPK_TEST}).",
        *_improvements(built, stages),
        f"Predictions with a score above {cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST} go to NMS at an "
        f"IoU of {cfg.MODEL.ROI_HEADS.NMS_THRESH_TEST}; the best {cfg.TEST.DETECTIONS_PER_IMAGE} "
        f"stay. {len(stages.final)} boxes of any score are final.",
    ]
    if stages.refined is None:
        texts.append(
            "Box refinement and voting are off (TEST.BOX_REFINEMENT): regions are pooled once, and "
            "boxes stay where NMS leaves them."
        )
    else:
        texts.append(
            f"TEST.BOX_REFINEMENT is on: {len(stages.refined)} regions are pooled again from the "
            "regressed boxes, both rounds go through NMS together, and what it keeps moves to "
            "the weighted mean of the boxes that overlap it."
        )
    if stages.is_whole:
        texts.append("These stages give the detector's own final boxes, to the bit.")
    else:
        texts.append(
            "The final boxes are the detector's own, and these stages do not lead to them: its "
            "arithmetic rounds otherwise in one pass."
        )
    return texts


def _improvements(built: BuiltDetector, stages: DetectionStages) -> list[str]:
    """What is pooled and classified otherwise than in one pass of one detector."""
    texts = []
    if built.cfg.TEST.ENSEMBLE:
        texts.append(
            f"TEST.ENSEMBLE is on: {len(stages.proposed)} detectors propose "
            f"{' + '.join(map(str, stages.proposed))} regions that differ, and each is classified "
            "by all of them; scores and boxes are their means."
        )
    if built.cfg.TEST.SCALES:
        sizes = ", ".join(f"{width}x{height}" for width, height in stages.levels)
        texts.append(
            f"TEST.SCALES is on: regions are pooled from two adjacent ones of {sizes}, and the "
            "larger value of each feature stays."
        )
    if built.cfg.MODEL.REGION_HEADS.CONTEXT:
        texts.append(
            "MODEL.REGION_HEADS.CONTEXT is on: the feature of the whole image stands behind that "
            "of each region."
        )
    return texts


def _row(stages: DetectionStages, place: int) -> list[str]:
    found = stages.final
    box = ", ".join(f"{v:.1f}" for v in found.boxes[place].tolist())
    path = ["?", "?", "?"]
    if stages.is_whole:
        votes = "off" if stages.votes is None else str(int(stages.votes[place]))
        path = [stages.origin(place), votes, f"{stages.moved(place):.2f}"]
    return [found.names[place], f"{found.scores[place]:.3f}", *path, box]


def _as_json(
    built: BuiltDetector,
    stages: DetectionStages,
    notes: Sequence[str],
    rows: Sequence[Sequence[str]],
    paths: Sequence[Path],
) -> dict[str, Any]:
    return {
        "detector": str(built.file),
        "size": list(stages.size),
        "seen": list(stages.seen),
        "levels": [list(size) for size in stages.levels],
        "proposed": list(stages.proposed),
        "proposals": stages.proposals.tolist(),
        "refined": None if stages.refined is None else stages.refined.tolist(),
        "is_whole": stages.is_whole,
        "detections": [dict(zip(HEAD, row, strict=True)) for row in rows],
        "notes": list(notes),
        "page": str(paths[0]),
        "picture": str(paths[1]),
    }
