"""`resdet export_predictions`: a run's objects and boxes as files that other viewers read.

From result files alone, without torch.

Not for: the layouts (`resdet.report.visual.exported_predictions`).
"""

from __future__ import annotations

import argparse
from pathlib import Path

from resdet.cli.output_paths import output_folder_path
from resdet.cli.pictures.visualize import read_runs
from resdet.errors import ConfigError, RunError
from resdet.file_names import file_name
from resdet.printable import show, show_json
from resdet.report.visual.exported_predictions import (
    coco_layout,
    fiftyone_layout,
    predictions_of,
)
from resdet.run.folder import write_json

LAYOUTS = ("coco", "fiftyone")
GROUND_TRUTH = "ground_truth.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """docs/commands.md promises them."""
    add = parser.add_argument
    add("runs", nargs="+", type=Path, metavar="RUN", help="run folders of train_det, on one set")
    add("--to", choices=LAYOUTS, required=True,
        help="coco: COCO's layout with a score in each annotation, which FiftyOne, supervision "
        "and others read; fiftyone: labels of FiftyOne's own layout")  # fmt: skip
    add("--set", dest="data_set", metavar="NAME", help="a set that they were scored on")
    add("--score", type=float, default=0.0, metavar="S", help="boxes from this score up (all)")
    add("--image-folder", type=Path, metavar="DIR",
        help="where the images of the set lie now, where they were moved")  # fmt: skip
    add("--output", type=output_folder_path, metavar="DIR", help="for the files (RUN/exported)")
    add("--overwrite", action="store_true", help="replace what --output names")
    add("--json", action="store_true", help="one JSON object on standard output")


def run(args: argparse.Namespace) -> int:
    """ground_truth.json, and predictions_RUN.json of each run; returns 0."""
    if not 0 <= args.score <= 1:
        raise ConfigError(f"--score is {args.score}, expected 0 to 1.")
    output = args.output or args.runs[0] / "exported"
    if output.exists() and any(output.iterdir()) and not args.overwrite:
        raise RunError(f"{output} is not empty. Name another --output, or add --overwrite.")
    columns, scores = read_runs(args.runs, args.data_set, args.image_folder)
    names = [f"predictions_{file_name(c.run.path.resolve().name)}.json" for c in columns]
    if repeated := {name for name in names if names.count(name) > 1}:
        raise RunError(f"two run folders would both be {repeated.pop()}. Export them one by one.")
    first = scores[0]
    if args.to == "coco":
        files = {GROUND_TRUTH: coco_layout(first, first.truth_of, "ground truth")}
        for name, one in zip(names, scores, strict=True):
            files[name] = coco_layout(one, predictions_of(one, args.score), "predictions")
        boxes = {name: len(value["annotations"]) for name, value in files.items()}
    else:
        files = {GROUND_TRUTH: fiftyone_layout(first, first.truth_of)}
        for name, one in zip(names, scores, strict=True):
            files[name] = fiftyone_layout(one, predictions_of(one, args.score))
        boxes = {name: sum(map(len, value["labels"].values())) for name, value in files.items()}
    output.mkdir(parents=True, exist_ok=True)
    for name, value in files.items():
        write_json(output / name, value, indent=None)
    folder = str(first.image_folder) if first.image_folder else None
    if args.json:
        written = {str(output / name): number for name, number in boxes.items()}
        about = {"data_set": first.data_set, "layout": args.to, "images": len(first.evaluated)}
        show_json({**about, "image_folder": folder, "files": written})
        return 0
    show(f"{first.data_set}: {len(first.evaluated):,} images, in {folder or 'a folder unknown'}")
    for name, number in boxes.items():
        show(f"  {output / name}: {number:,} boxes")
    show("how to open them: docs/pictures.md")
    return 0
