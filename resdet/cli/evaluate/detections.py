"""`resdet evaluate voc`, `coco` and `explain`: result files of any tool to numbers.

Not for: computing them (`resdet.evaluation`).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from resdet.cli.arguments import accept, image_ids
from resdet.errors import ConfigError
from resdet.evaluation.analysis.explain import explain, explain_table
from resdet.evaluation.coco import coco_evaluation as coco
from resdet.evaluation.inputs.detections import TASKS
from resdet.evaluation.inputs.findings import Finding, accepted_counts
from resdet.evaluation.inputs.result_folder import evaluated_beside
from resdet.evaluation.voc import voc_evaluation as voc
from resdet.printable import counted, show, show_json
from resdet.text_table import ruled


def add_arguments(metrics: Any) -> None:
    """`voc`, `coco` and `explain` among the metrics; docs/commands.md promises them."""
    voc_parser = metrics.add_parser(
        "voc", help="score comp4_det_*_<class>.txt files", allow_abbrev=False
    )
    add = voc_parser.add_argument
    add("detections", type=Path, metavar="DETECTIONS_DIR", help="folder of the files")
    add("--root", type=Path, required=True, help="such as VOC2007: Annotations, ImageSets in it")
    add("--split", required=True, help="name of a list in ImageSets/Main, such as test")
    add("--ap", choices=voc.AP_RULES, required=True, help="11-point: VOC 2007; area: later")
    add("--iou", type=float, default=0.5, help="overlap of a right detection (0.5)")
    add("--style", choices=voc.STYLES, default="d2", help="d2: overlap > iou; devkit: >= (d2)")
    add("--json", action="store_true", help="one JSON object on standard output")
    coco_parser = metrics.add_parser("coco", help="COCO's twelve numbers", allow_abbrev=False)
    add = coco_parser.add_argument
    add(
        "results",
        type=Path,
        metavar="RESULTS.json",
        help="list of detections, COCO's format; or what detect --output wrote",
    )
    add("--gt", type=Path, required=True, metavar="INSTANCES.json", help="annotations of the set")
    add("--task", choices=TASKS, required=True, help="boxes or masks")
    add(
        "--engine", choices=coco.ENGINES, default="official",
        help="official: pycocotools; fast: for development, cross-checked on a sample of images",
    )  # fmt: skip
    add("--json", action="store_true", help="one JSON object on standard output")
    explain_parser = metrics.add_parser(
        "explain", help="AP50 under every rule in use: why evaluators differ", allow_abbrev=False
    )
    add = explain_parser.add_argument
    add(
        "results",
        type=Path,
        metavar="RESULTS.json",
        help="list of boxes, COCO's format; or what detect --output wrote",
    )
    add("--gt", type=Path, required=True, metavar="INSTANCES.json", help="annotations of the set")
    add("--json", action="store_true", help="one JSON object on standard output")
    image_ids(coco_parser)
    image_ids(explain_parser)
    for each in (voc_parser, coco_parser, explain_parser):
        accept(each)


def run(args: argparse.Namespace) -> int:
    """Scores, prints, returns 0; errors are raised for the caller's page."""
    return {"voc": _run_voc, "coco": _run_coco, "explain": _run_explain}[args.metric](args)


def _run_voc(args: argparse.Namespace) -> int:
    if not 0 < args.iou <= 1:
        raise ConfigError(f"--iou is {args.iou:g}. Give an overlap above 0 and at most 1.")
    accepted = accepted_counts(args.accept)
    truth = voc.read_devkit_ground_truth(args.root, args.split, accepted=accepted)
    detections = voc.read_detections(
        args.detections, truth.classes, evaluated=evaluated_beside(args.detections)
    )
    result = voc.evaluate(
        truth, detections, ap=args.ap, iou=args.iou, style=args.style,
        accepted=accepted,
    )  # fmt: skip
    repaired = [f"Repaired in reading: {n:,} x {what}." for what, n in truth.repairs.items()]
    _print_notes(result.warnings, [*result.notes, *truth.notes, *repaired])
    _print(result, voc_table, args)
    return 0


def _run_coco(args: argparse.Namespace) -> int:
    result = coco.evaluate(
        args.gt, args.results, task=args.task, evaluated_ids=evaluated_beside(args.results),
        engine=args.engine, accepted=accepted_counts(args.accept), image_ids=args.image_ids,
    )  # fmt: skip
    _print_notes(result.warnings, result.notes)
    _print(result, coco_table, args)
    return 0


def _run_explain(args: argparse.Namespace) -> int:
    result = explain(
        args.gt, args.results, evaluated_ids=evaluated_beside(args.results),
        accepted=accepted_counts(args.accept), image_ids=args.image_ids,
    )  # fmt: skip
    _print_notes(result.warnings, result.notes)
    _print(result, explain_table, args)
    return 0


def _print(result: Any, table: Callable[[Any], str], args: argparse.Namespace) -> None:
    if args.json:
        show_json(result.to_json())
    else:
        show(table(result))


def _print_notes(warnings: Sequence[Finding], notes: Sequence[str]) -> None:
    for item in warnings:
        show("Warning: " + "\n".join(item.lines()), error=True)
    for note in notes:
        show(f"Note: {note}", error=True)


def percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def _count(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def voc_table(result: voc.VocResult) -> str:
    """AP per class and their mean, in percent, for people."""
    scores = result.classes.values()
    rows = [
        [name, percent(s.ap), *map(_count, (s.positives, s.difficult, s.detections))]
        for name, s in result.classes.items()
    ]
    sums = (
        sum(s.positives for s in scores),
        sum(s.difficult for s in scores),
        sum(s.detections or 0 for s in scores),
    )
    mean = f"mean of {len(result.scored)} of {len(rows)} classes"
    rows.append([mean, percent(result.mean_ap), *map(_count, sums)])
    sign = ">" if result.style == "d2" else ">="
    head = f"AP{100 * result.iou:g} (VOC, {result.ap_rule}), overlap {sign} {result.iou:g}"
    return "\n".join(
        [
            f"{head}, on {_on_images(result.images)}",
            "",
            *ruled(("class", "AP", "objects", "difficult", "detections"), rows),
        ]
    )


def coco_table(result: coco.CocoResult) -> str:
    """The twelve numbers and AP per category, in percent, for people."""
    numbers = [(name, percent(value)) for name, value in result.numbers.items()]
    categories = [(name, percent(value)) for name, value in result.per_category.items()]
    return "\n".join(
        [
            f"{result.protocol} ({result.engine}), on {_on_images(result.images)}",
            "",
            *ruled(("", "%"), numbers),
            "",
            *ruled(("category", "AP"), categories),
        ]
    )


def _on_images(images: Mapping[str, int]) -> str:
    return f"{images['evaluated']:,} of {counted(images['expected'], 'image')}"
