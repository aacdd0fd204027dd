"""`resdet evaluate ilsvrc`: result files of ILSVRC's DET, LOC and CLS to numbers.

Not for: computing them (`resdet.evaluation.ilsvrc`), or scoring nets (`classifiers`).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resdet.errors import CheckFailed, ConfigError, DataError, first_few
from resdet.evaluation.ilsvrc import ilsvrc_metrics
from resdet.evaluation.ilsvrc.cls_files import check_cls_results, cls_errors, read_cls_results
from resdet.evaluation.ilsvrc.ilsvrc_files import read_det_results, read_loc_results
from resdet.evaluation.ilsvrc.ilsvrc_metrics import DetResult, LocResult
from resdet.evaluation.ilsvrc.ilsvrc_truth import read_cls_labels, read_det_set, read_loc_set
from resdet.evaluation.inputs.arrays import ImageId
from resdet.evaluation.inputs.findings import Finding, refuse_if_any
from resdet.evaluation.inputs.result_folder import evaluated_beside
from resdet.printable import show, show_json
from resdet.text_table import ruled

TRACKS = ("det", "loc", "cls")


@dataclass(frozen=True)
class ClsResult:
    """Images wrong at the first guess and at five, of all."""

    wrong: tuple[int, int]
    images: Mapping[str, int]
    warnings: tuple[Finding, ...] = ()

    @property
    def errors(self) -> tuple[float, float]:
        """In [0, 1]: top-1, top-5."""
        first, fifth = (n / self.images["expected"] for n in self.wrong)
        return first, fifth

    def to_json(self) -> dict[str, Any]:
        first, fifth = self.errors
        return {
            "protocol": "ILSVRC CLS",
            "top1_error": first,
            "top5_error": fifth,
            "images": dict(self.images),
        }


Result = DetResult | LocResult | ClsResult


def add_arguments(metrics: Any) -> None:
    """`ilsvrc` among the metrics; docs/commands.md promises it."""
    parser = metrics.add_parser(
        "ilsvrc", help="ImageNet's DET, LOC and CLS from result files", allow_abbrev=False
    )
    add = parser.add_argument
    add("track", choices=TRACKS,
        help="det: mAP; loc: box errors; cls: top-1 and top-5 error")  # fmt: skip
    add("results", type=Path, metavar="FILE", help="a result file of that track")
    add("--root", type=Path, required=True, metavar="ILSVRC",
        help="the folder that has Annotations, ImageSets and devkit")  # fmt: skip
    add("--split", metavar="LIST", help="a list in ImageSets, such as val2 (val)")
    add("--all-pairs", action="store_true",
        help="the development kit's blacklist is not used: all is scored")  # fmt: skip
    add("--json", action="store_true", help="one JSON object on standard output")


def run(args: argparse.Namespace) -> int:
    """Scores, prints, returns 0; errors are raised for the caller's page."""
    ways: dict[str, Callable[[argparse.Namespace], tuple[Result, list[str]]]] = {
        "det": _det, "loc": _loc, "cls": _cls
    }  # fmt: skip
    result, lines = ways[args.track](args)
    for item in result.warnings:
        show("Warning: " + "\n".join(item.lines()), error=True)
    if args.json:
        show_json(result.to_json())
    else:
        show("\n".join(lines))
    return 0


def _det(args: argparse.Namespace) -> tuple[DetResult, list[str]]:
    data = read_det_set(args.root, args.split or "val", blacklist=not args.all_pairs)
    # A run's results list the images that were visited; of a file alone that is not known.
    _refuse_unvisited(args.results, data.images.ids)
    results = data.placed(read_det_results(args.results))
    result = ilsvrc_metrics.evaluate_det(data.truth, results, blacklist=data.blacklist)
    for note in result.notes:
        show(f"Note: {note}", error=True)
    kit = data.synsets
    names = [f"{name} ({wnid})" for name, wnid in zip(kit.names, kit.wnids, strict=True)]
    return result, det_table(result, names)


def _refuse_unvisited(path: Path, ids: Sequence[str]) -> None:
    visited: Sequence[ImageId] | None = evaluated_beside(path)
    missing = sorted(set(ids) - set(map(str, visited))) if visited is not None else []
    if missing:
        raise CheckFailed(
            f"{path}: {len(missing):,} of {len(ids):,} images were not detected on, by the list "
            f"beside it.\n{first_few(missing, 5)}\nIs --split the list that was detected on?"
        )


def det_table(result: DetResult, names: Sequence[str]) -> list[str]:
    """AP of each class and their mean, in percent, for people.

    Args:
        names: of the classes, in the order of their ids.
    """
    rows = []
    for name, (label, score) in zip(names, result.classes.items(), strict=True):
        counts = f"{score.positives:,}", f"{score.detections:,}"
        rows.append([f"{label:>3} {name}", _percent(score.ap), *counts])
    scored = sum(s.ap is not None for s in result.classes.values())
    positives = sum(s.positives for s in result.classes.values())
    detections = sum(s.detections for s in result.classes.values())
    mean = f"mean of {scored} of {len(result.classes)} classes"
    rows.append([mean, _percent(result.mean_ap), f"{positives:,}", f"{detections:,}"])
    return [
        f"mAP (ILSVRC DET), on {_on_images(result.images)}; {result.blacklisted:,} pairs of image "
        "and class blacklisted",
        "",
        *ruled(("class", "AP", "objects", "detections"), rows),
    ]


def _loc(args: argparse.Namespace) -> tuple[LocResult, list[str]]:
    data = read_loc_set(args.root, args.split or "val", blacklist=not args.all_pairs)
    results = read_loc_results(args.results)
    result = ilsvrc_metrics.evaluate_loc(
        data.truth, results, blacklist=data.blacklist, num_classes=len(data.synsets)
    )
    return result, loc_table(result)


def loc_table(result: LocResult) -> list[str]:
    """LOC's errors in percent, for people."""
    rows = [
        ["top-5 localization error (label and box)", _percent(result.localization)],
        ["box error (the box alone; of guesses for the known class)", _percent(result.known_class)],
        ["top-5 classification error (the label alone)", _percent(result.classification)],
    ]
    return [
        f"ILSVRC LOC, on {_on_images(result.images)}; boxes of {result.blacklisted:,} images "
        "blacklisted",
        "",
        *ruled(("", "%"), rows),
    ]


def _cls(args: argparse.Namespace) -> tuple[ClsResult, list[str]]:
    if args.split not in (None, "val") or args.all_pairs:
        raise ConfigError(
            "--split and --all-pairs are for det and loc: the development kit has the labels of "
            "val, and none is blacklisted. Leave them out."
        )
    labels = read_cls_labels(args.root)
    results = read_cls_results(args.results)
    findings = check_cls_results(results, len(labels))
    warnings = tuple(refuse_if_any(str(args.results), findings))
    if not len(labels):
        raise DataError(f"{args.root}: the development kit's labels are of 0 images.")
    images = {"expected": len(labels), "evaluated": len(labels), "missing": 0}
    result = ClsResult(cls_errors(results, labels), images, warnings)
    first, fifth = (_percent(error) for error in result.errors)
    rows = [["top-1 error", first], ["top-5 error", fifth]]
    return result, [
        f"ILSVRC CLS, on {_on_images(images)}", "", *ruled(("", "%"), rows)
    ]  # fmt: skip


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f}"


def _on_images(images: Mapping[str, int]) -> str:
    missing = f", {images['missing']:,} missing" if images["missing"] else ""
    return f"{images['evaluated']:,} of {images['expected']:,} images{missing}"
