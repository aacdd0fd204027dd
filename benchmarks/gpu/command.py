"""`python -m benchmarks --gpu`: every part, one after the other, into `results_gpu.json`.

The GPUs must be free: figures of a busy machine are none. Each part runs in a process of its own,
and what it found is written when it ends, whole, so that an interruption or a crash costs one part.
Parts that are not asked for keep what they have. What did not compute the same as its peer is not
kept. The table goes into docs/speed.md.

Not for: how a part measures.
"""

from __future__ import annotations

import argparse
import datetime
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import claims
from benchmarks.gpu.device import NO_GPU, machine, missing_gpu
from resdet.run.folder import write_text

# Parity first: a ratio of something else is none.
PARTS = (
    "parity",
    "classification",
    "detection_training",
    "detection_inference",
    "pooling",
    "loading",
    "scaling",
)
ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results_gpu.json"
PAGE = ROOT / "docs" / "speed.md"
MARKS = "<!-- gpu benchmarks -->", "<!-- /gpu benchmarks -->"
NOT_MEASURED = "Not measured: no GPU was at hand."


def run_one(part: str, quick: bool) -> tuple[dict[str, Any], int]:
    """Its claims and what failed, and its exit code."""
    found: dict[str, Any] = {"claims": [], "failed": []}
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "found.json"
        command = [sys.executable, "-W", "ignore", "-m", f"benchmarks.gpu.{part}"]
        command += ["--json", str(page), *(["--quick"] if quick else [])]
        done = subprocess.run(command, check=False, cwd=ROOT)
        if page.exists():
            found = json.loads(page.read_text(encoding="utf-8"))
    if done.returncode not in (0, 1, claims.NOT_HERE):
        # Killed, or ended by the driver: what it found before stays.
        found["failed"].append({"name": part, "why": f"ended with {done.returncode}"})
    return found, done.returncode


def tables(parts: Mapping[str, Mapping[str, Any]]) -> str:
    """Markdown: what was measured on one machine, with one torch, on one day stands together."""
    alike: dict[str, list[Mapping[str, Any]]] = {}
    for part in PARTS:
        if part in parts:
            alike.setdefault(_where(parts[part]), []).append(parts[part])
    return "\n\n".join(_section(where, records) for where, records in alike.items())


def _where(record: Mapping[str, Any]) -> str:
    at, versions = record["machine"], record["versions"]
    return (
        f"{at['gpus']} x {at['gpu']} ({at['gpu_memory_mb'] / 1024:.0f} GiB), driver "
        f"{at['driver']}, CUDA {at['cuda']}, {at['processor']}, {at['cores']} cores, torch "
        f"{versions['torch']}, {record['date']}; medians and peak memory of tensors, each line "
        "within one run, ratios with the least and the most of its rounds."
    )


def _section(where: str, records: Sequence[Mapping[str, Any]]) -> str:
    every = [claim for record in records for claim in record["claims"]]
    lines = [where, ""]
    compared = [claim for claim in every if not claim["rows"]]
    if compared:
        lines += ["| compared | apart by |", "| --- | --- |"]
        lines += [f"| {claim['name']} | {claim['checked']} |" for claim in compared]
        lines.append("")
    timed = [claim for claim in every if claim["rows"]]
    if timed:
        lines.append(claims.table(timed, with_spread=True))
    missing = [f"{c['name']}, {way}: {why}" for c in every for way, why in c["left_out"].items()]
    missing += [f"{f['name']}: {f['why']}" for record in records for f in record["failed"]]
    if missing:
        lines += ["", "Not measured there, or not the same:", ""]
        lines += [f"- {line}" for line in missing]
    return "\n".join(lines).strip()


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks --gpu", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--quick", action="store_true", help="small and short; nothing is kept")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART",
                        help=f"of {', '.join(PARTS)}; others keep what they have")  # fmt: skip
    args = parser.parse_args(argv)
    if page := missing_gpu():
        print(page, file=sys.stderr)
        return NO_GPU
    # Before the hours of work: is there a place for the table?
    claims.put_between(PAGE.read_text(encoding="utf-8"), "", MARKS, PAGE.name)
    parts: dict[str, Any] = {}
    if RESULTS.exists():
        parts = json.loads(RESULTS.read_text(encoding="utf-8"))["parts"]
    failed = []
    for part in [p for p in PARTS if p in args.only]:
        print(f"\n== {part}", flush=True)
        start = time.monotonic()
        found, code = run_one(part, args.quick)
        print(f"({time.monotonic() - start:.0f} s)", flush=True)
        if code == claims.NOT_HERE:
            print(f"{part} does not apply to this machine")
            continue
        failed += [f"{part}: {f['name']}: {f['why']}" for f in found["failed"]]
        if args.quick or not (found["claims"] or found["failed"]):
            continue
        now = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
        about = {"date": now, "machine": machine(), "versions": claims.versions()}
        parts[part] = {**found, **about}
        write_text(RESULTS, json.dumps({"parts": parts}, indent=1) + "\n")
        text = PAGE.read_text(encoding="utf-8")
        write_text(PAGE, claims.put_between(text, tables(parts), MARKS, PAGE.name))
    if not args.quick:
        print(f"\n{RESULTS.name}: {', '.join(parts) or 'nothing'}; the table is in {PAGE.name}")
    if failed:
        print("\nfailed, the rest is kept:\n" + "\n".join(f"  {line}" for line in failed))
    return 1 if failed else 0
