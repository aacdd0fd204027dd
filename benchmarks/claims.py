"""The results of a benchmark, in one form: for the terminal, `results.json` and the README's table.

Not for: measuring.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from resdet.engine.speed.cpu_features import instruction_limits

PACKAGES = ("torch", "torchvision", "timm", "Pillow", "pycocotools", "numpy", "msgspec")


@dataclass(frozen=True)
class Row:
    """One way of doing the work.

    Attributes:
        name: "stock", "fast, bf16", ….
        seconds: the middle of the rounds; least and most are their spread.
        ratio: how many times as long the first row takes.
        peak_mb: of a process that does this alone; None where it was not measured.
    """

    name: str
    seconds: float
    least: float
    most: float
    ratio: float
    peak_mb: float | None = None


@dataclass(frozen=True)
class Claim:
    """Rows of one run, the first of which is the peer.

    Attributes:
        name: short, for the table. what: the work, its sizes and how it was timed, in a line.
        rounds: that each row's figures are the middle of.
        checked: what was compared to know that all computed the same, and what came out.
        agrees: whether that is within its bound; a ratio without it is none.
        shown: names of the rows that the README's table has; all, where none is named.
    """

    name: str
    what: str
    rows: Sequence[Row]
    rounds: int
    checked: str
    agrees: bool
    shown: Sequence[str] = ()


def rows(
    seconds: Mapping[str, Sequence[float]], peaks: Mapping[str, float] | None = None
) -> list[Row]:
    """From the seconds of every round; the first name is the peer."""
    middle = {name: statistics.median(values) for name, values in seconds.items()}
    peer = next(iter(middle.values()))
    return [
        Row(name, middle[name], min(values), max(values), peer / middle[name],
            (peaks or {}).get(name))
        for name, values in seconds.items()
    ]  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser, rounds: int) -> None:
    """--rounds, --quick, --json, and the hidden --peak-of (`apart.peaks_of`)."""
    parser.add_argument("--rounds", type=int, default=rounds, help=f"default {rounds}")
    parser.add_argument("--quick", action="store_true", help="small and short: does it run?")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there")
    parser.add_argument("--peak-of", metavar="NAME", help=argparse.SUPPRESS)


def report(claims: Sequence[Claim], args: argparse.Namespace) -> int:
    """Prints all, writes `--json`; 1 where one did not compute the same as its peer."""
    for claim in claims:
        print(f"{claim.name}: {claim.what}, {claim.rounds} rounds")
        for row in claim.rows:
            spread = f"({row.least:.3g} to {row.most:.3g})"
            peak = f"{row.peak_mb:7.0f} MB" if row.peak_mb else ""
            print(f"  {row.name:28} {row.seconds:8.3g} s {spread:20} x{row.ratio:5.2f} {peak}")
        print(f"  {'checked' if claim.agrees else 'NOT THE SAME'}: {claim.checked}")
    if args.json:
        args.json.write_text(json.dumps([asdict(c) for c in claims], indent=1), encoding="utf-8")
    return 0 if all(claim.agrees for claim in claims) else 1


def versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


def machine() -> dict[str, Any]:
    """Processor, usable cores, what torch makes of them, and limits that the environment sets."""
    import torch

    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                name = line.split(":", 1)[1].strip()
                break
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count()
    return {
        "processor": name,
        "cores": cores,
        "torch_threads": torch.get_num_threads(),
        "capability": torch.backends.cpu.get_cpu_capability() + instruction_limits(),
    }
