"""`compare RUN_A RUN_B ...`: the report of two or more runs, and on the terminal its core.

Exit codes: 0 when only the backbone differs; 1 when more does (the report is written all the
same, stamped NOT COMPARABLE); 2 when there is nothing to report from.

Not for: making the report (`document`).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from resdet.report.document import compare


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "runs", nargs="+", metavar="RUN", help="run folders, the one to compare with first"
    )
    parser.add_argument(
        "--output",
        metavar="DIR",
        help="where report.html, report.md and report.json go (default: reports/RUN_A-RUN_B)",
    )
    parser.add_argument("--json", action="store_true", help="print report.json and nothing else")


def run(args: argparse.Namespace) -> int:
    """Writes the report, prints what it says; 0, or 1 for NOT COMPARABLE."""
    output = Path(args.output) if args.output else default_output(args.runs)
    paths = compare(args.runs, output)
    if args.json:
        report = json.loads(paths.json.read_text(encoding="utf-8"))
        files = {"html": str(paths.html), "markdown": str(paths.markdown), "json": str(paths.json)}
        sys.stdout.write(json.dumps({**report, "files": files}, allow_nan=False) + "\n")
    else:
        sys.stdout.write(f"{paths.text}\n\nReport: {paths.html}\n")
    return 0 if paths.verdict.comparable else 1


def default_output(runs: Sequence[str]) -> Path:
    """reports/ and the names of the runs, so that two comparisons do not meet in one folder."""
    names = [Path(name).resolve().name for name in runs]
    return Path("reports") / "-".join(names)[:100]
