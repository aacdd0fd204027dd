"""All claims of speed in one go: `python -m benchmarks [--quick] [--only NAME ...]`.

Each benchmark runs in a process of its own, one after the other: figures of a busy machine are
none, so nothing else should run beside. All figures are written to `benchmarks/results.json` and,
as a table, into the README between its two marks. With --quick (small and short, under three
minutes) nothing is kept: it shows that everything runs and computes the same.

Not for: GPUs, which --gpu measures (`benchmarks.gpu`); `evaluation.coverage`, which measures
statistics and takes hours.
"""

from __future__ import annotations

import argparse
import datetime
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import claims
from resdet.run.folder import write_text

# In the order of the table.
NAMES = (
    "detection.inference",
    "detection.training",
    "classification.training",
    "classification.cifar",
    "classification.precision",
    "classification.trainer_overhead",
    "loading",
    "two_processes",
    "evaluation.coco",
    "evaluation.voc",
)
ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results.json"
README = ROOT / "README.md"
MARKS = "<!-- benchmarks -->", "<!-- /benchmarks -->"


def run_one(name: str, quick: bool) -> tuple[list[dict[str, Any]], int]:
    """Its claims and its exit code."""
    found: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "found.json"
        command = [sys.executable, "-W", "ignore", "-m", f"benchmarks.{name}", "--json", str(page)]
        done = subprocess.run([*command, *(["--quick"] if quick else [])], check=False, cwd=ROOT)
        if page.exists():
            found = json.loads(page.read_text(encoding="utf-8"))
    return found, done.returncode


def tables(every: list[dict[str, Any]]) -> str:
    """Markdown: what was measured on one machine, with one torch, on one day stands together."""
    alike: dict[str, list[dict[str, Any]]] = {}
    for record in every:
        machine = record["machine"]
        where = (
            f"{machine['processor']}, {machine['cores']} cores, {machine['capability']}, "
            f"torch {record['versions']['torch']}, {record['date']}; "
            "medians and peak memory, each line within one run (`python -m benchmarks`)."
        )
        alike.setdefault(where, []).extend(record["claims"])
    return "\n\n".join(f"{where}\n\n{claims.table(rows)}" for where, rows in alike.items())


def main(argv: Sequence[str] | None = None) -> int:
    given = sys.argv[1:] if argv is None else list(argv)
    if "--gpu" in given:
        from benchmarks.gpu import command  # its torch would count in what processes here take

        return command.main([word for word in given if word != "--gpu"])
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small and short; nothing is kept")
    parser.add_argument("--only", nargs="+", choices=NAMES, default=list(NAMES), metavar="NAME",
                        help=f"of {', '.join(NAMES)}; others keep what they have")  # fmt: skip
    parser.add_argument("--gpu", action="store_true", help="measure on NVIDIA GPUs instead; "
                        "--gpu --help has its parts")  # fmt: skip
    args = parser.parse_args(given)
    by_name: dict[str, Any] = {}
    if not args.quick:
        # Before the hours of work: is there a place for the results?
        claims.put_between(README.read_text(encoding="utf-8"), "", MARKS, README.name)
    if RESULTS.exists() and not args.quick:
        by_name = json.loads(RESULTS.read_text(encoding="utf-8"))["benchmarks"]
    failed = []
    for name in [n for n in NAMES if n in args.only]:
        print(f"\n== {name}", flush=True)
        start = time.monotonic()
        claims_of_one, code = run_one(name, args.quick)
        print(f"({time.monotonic() - start:.0f} s)", flush=True)
        if code == claims.NOT_HERE:
            print(f"{name} does not apply to this machine")
            continue
        if code or not claims_of_one:
            failed.append(name)
            continue
        by_name[name] = {
            "claims": claims_of_one,
            "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
            "machine": claims.machine(),
            "versions": claims.versions(),
        }
        if not args.quick:
            # After each, so that an interruption costs one benchmark.
            write_text(RESULTS, json.dumps({"benchmarks": by_name}, indent=1) + "\n")
    if failed:
        print(f"\nfailed: {', '.join(failed)}")
        return 1
    if not args.quick:
        every = [by_name[name] for name in NAMES if name in by_name]
        text = README.read_text(encoding="utf-8")
        write_text(README, claims.put_between(text, tables(every), MARKS, README.name))
        print(f"\nwritten: {RESULTS.relative_to(ROOT)}, the table in {README.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
