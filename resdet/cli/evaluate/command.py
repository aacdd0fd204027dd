"""`resdet evaluate`: the parser and --profile of all its metrics.

Not for: any one metric (`detections`, `classifiers`, `ilsvrc`).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
from collections.abc import Iterator

from resdet import profile, profile_view
from resdet.atomic import write_text
from resdet.cli.evaluate import classifiers, detections, ilsvrc, proposals
from resdet.printable import show


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `evaluate`; docs/commands.md promises them."""
    metrics = parser.add_subparsers(
        dest="metric", required=True, metavar="{voc,coco,explain,proposals,cls,ilsvrc}"
    )
    detections.add_arguments(metrics)
    proposals.add_arguments(metrics)
    classifiers.add_arguments(metrics)
    ilsvrc.add_arguments(metrics)
    for each in metrics.choices.values():
        each.add_argument(
            "--profile",
            action="store_true",
            help="where the time went: a table on standard error, and profile.json and "
            "profile.svg in the current folder",
        )


def run(args: argparse.Namespace) -> int:
    """Scores, prints, returns 0; errors are raised for the caller's page."""
    with _profiled(args):
        others = {"cls": classifiers, "ilsvrc": ilsvrc, "proposals": proposals}
        return others.get(args.metric, detections).run(args)


@contextlib.contextmanager
def _profiled(args: argparse.Namespace) -> Iterator[None]:
    # Of several processes the first one measures.
    if not args.profile or os.environ.get("RANK", "0") != "0":
        yield
        return
    recorded = profile.Profile(f"evaluate {args.metric}")
    try:
        with profile.recording(recorded), profile.section("evaluation"):
            yield
    finally:
        report = recorded.report()
        show("\n" + profile_view.table(report), error=True)
        numbers = json.dumps(report.to_json(), indent=1, allow_nan=False) + "\n"
        write_text("profile.json", numbers)
        write_text("profile.svg", profile_view.picture(report))
