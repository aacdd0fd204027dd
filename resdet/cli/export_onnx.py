"""`convert_weights export`: a weight file's net, or a run's detector, as a checked ONNX file.

Not for: the export itself (`resdet.weights.onnx.net_export`, `resdet.detect.onnx.detector_export`).
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from resdet.errors import ConfigError
from resdet.printable import show, show_json
from resdet.run import layout
from resdet.run.folder import Run
from resdet.weights.files import load
from resdet.weights.onnx.net_export import (
    build_filled,
    build_filled_backbone,
    export_backbone,
    export_classifier,
)


def run_export(args: argparse.Namespace) -> int:
    """Writes the file and prints how it was checked.

    Raises:
        UserError: what the user can fix. CheckFailed: the file was not kept.
    """
    _refuse_contradictions(args)
    exported = _export(args)
    if args.json:
        show_json(exported.to_dict())
    else:
        show(f"{exported}")
    return 0


def _export(args: argparse.Namespace) -> Any:
    source = Path(args.source)
    if _is_detector(source):
        # Here: files of classifiers are exported where Detectron2 is absent, too.
        from resdet.detect.onnx.detector_export import export_detector

        return export_detector(
            source,
            args.output,
            normalised_input=args.normalised_input,
            score_threshold=args.score_threshold,
        )
    if args.output.endswith(os.sep) or Path(args.output).is_dir():
        raise ConfigError(f"-o {args.output} is a folder; name the file to write in it.")
    if source.is_dir() and (source / layout.CLASSIFIER).exists():
        source = source / layout.CLASSIFIER
    tensors, card = load(source, part=args.part)
    size = tuple(args.size * 2 if len(args.size) == 1 else args.size) if args.size else None
    if args.backbone is None:
        net = build_filled(card, tensors, str(source))
        return export_classifier(
            net, card, args.output, size=size, normalised_input=args.normalised_input
        )
    net = build_filled_backbone(card, tensors, str(source), args.backbone or None)
    return export_backbone(
        net,
        card,
        args.output,
        to=args.backbone or None,
        size=size,
        normalised_input=args.normalised_input,
    )


def _is_detector(source: Path) -> bool:
    return (source / layout.RUN).exists() and Run.open(source).kind == "detection"


def _refuse_contradictions(args: argparse.Namespace) -> None:
    if args.size and (len(args.size) > 2 or min(args.size) < 1):
        raise ConfigError(
            f"--size is {' '.join(map(str, args.size))}, expected a side, or height and width, "
            "in pixels."
        )
    if args.score_threshold is not None and not 0 <= args.score_threshold < 1:
        raise ConfigError(f"--score-threshold is {args.score_threshold}, expected 0 to 1.")
    detector = _is_detector(Path(args.source))
    if detector and args.part:
        raise ConfigError(
            f"--part is for files with several nets, {args.source} is the run of one detector. "
            "Leave it out."
        )
    if detector and (args.backbone is not None or args.size):
        given = "--backbone" if args.backbone is not None else "--size"
        raise ConfigError(
            f"{given} is for weight files, {args.source} is the run of a detector, which takes "
            "images of any size. Leave it out, or give the weight file that the run started from."
        )
    if not detector and args.score_threshold is not None:
        raise ConfigError(
            f"--score-threshold is for detectors, {args.source} is no detection run. Leave it out."
        )
