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
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from resdet.engine.speed.cpu_features import instruction_limits

# A benchmark's exit code where the machine lacks what it needs.
NOT_HERE = 3
PACKAGES = ("torch", "torchvision", "timm", "Pillow", "pycocotools", "numpy", "msgspec")


@dataclass(frozen=True)
class Row:
    """One way of doing the work.

    Attributes:
        name: "stock", "fast, bf16", ….
        seconds: the middle of the rounds; least and most are their spread.
        ratio: how many times as long the first row takes.
        peak_mb: of a process that does this alone; None where it was not measured.
        ratio_least, ratio_most: of the rounds, in each of which the first row had its turn; None
            where it had other numbers of them.
    """

    name: str
    seconds: float
    least: float
    most: float
    ratio: float
    peak_mb: float | None = None
    ratio_least: float | None = None
    ratio_most: float | None = None


@dataclass(frozen=True)
class Claim:
    """Rows of one run, the first of which is the peer.

    Attributes:
        name: short, for the table. what: the work, its sizes and how it was timed, in a line.
        rounds: that each row's figures are the middle of.
        checked: what was compared to know that all computed the same, and what came out.
        agrees: whether that is within its bound; a ratio without it is none.
        shown: names of the rows that the README's table has; all, where none is named.
        left_out: ways that could not be measured, and why.
    """

    name: str
    what: str
    rows: Sequence[Row]
    rounds: int
    checked: str
    agrees: bool
    shown: Sequence[str] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)


def rows(
    seconds: Mapping[str, Sequence[float]], peaks: Mapping[str, float] | None = None
) -> list[Row]:
    """From the seconds of every round; the first name is the peer."""
    middle = {name: statistics.median(values) for name, values in seconds.items()}
    peer, peers_rounds = next((middle[name], values) for name, values in seconds.items())

    def row(name: str, values: Sequence[float]) -> Row:
        spread: tuple[float | None, float | None] = (None, None)
        if len(values) == len(peers_rounds):
            ratios = [one / other for one, other in zip(peers_rounds, values, strict=True)]
            spread = (min(ratios), max(ratios))
        return Row(
            name, middle[name], min(values), max(values), peer / middle[name],
            (peaks or {}).get(name), *spread,
        )  # fmt: skip

    return [row(name, values) for name, values in seconds.items()]


def add_arguments(parser: argparse.ArgumentParser, rounds: int) -> None:
    """--rounds, --quick, --json, and the hidden --peak-of (`apart.peaks_of`)."""
    parser.add_argument("--rounds", type=int, default=rounds, help=f"default {rounds}")
    parser.add_argument("--quick", action="store_true", help="small and short: does it run?")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there")
    parser.add_argument("--peak-of", metavar="NAME", help=argparse.SUPPRESS)


def report(claims: Sequence[Claim], args: argparse.Namespace) -> int:
    """Prints all, writes `--json`; 1 where one did not compute the same as its peer."""
    for claim in claims:
        show(claim)
    if args.json:
        args.json.write_text(json.dumps([asdict(c) for c in claims], indent=1), encoding="utf-8")
    return 0 if all(claim.agrees for claim in claims) else 1


def show(claim: Claim) -> None:
    """Prints a claim, row by row."""
    print(f"{claim.name}: {claim.what}{f', {claim.rounds} rounds' if claim.rounds else ''}")
    for row in claim.rows:
        spread = f"({row.least:.3g} to {row.most:.3g})"
        peak = f"{row.peak_mb:7.0f} MB" if row.peak_mb else ""
        print(f"  {row.name:28} {row.seconds:8.3g} s {spread:20} x{row.ratio:5.2f} {peak}")
    for name, why in claim.left_out.items():
        print(f"  {name:28} not measured: {why}")
    print(f"  {'checked' if claim.agrees else 'NOT THE SAME'}: {claim.checked}")


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


def table(claims: Sequence[Mapping[str, Any]], *, with_spread: bool = False) -> str:
    """A line for each claim: the peer, and how many times as fast those are that it shows.

    with_spread: each ratio with the least and the most of its rounds.
    """
    lines = ["| what | peer | times as fast |", "| --- | --- | --- |"]
    for claim in claims:
        peer, *others = claim["rows"]
        shown = claim.get("shown") or [row["name"] for row in others]
        ways = [
            f"{row['name']} **{row['ratio']:.2f}**{_spread(row) if with_spread else ''}"
            f"{_memory(row, ' ({})')}"
            for row in others
            if row["name"] in shown
        ]
        lines.append(
            f"| {claim['name']} | {peer['name']}: {_seconds(peer)}{_memory(peer, ', {}')} | "
            f"{'; '.join(ways)} |"
        )
    return "\n".join(lines)


def _seconds(row: Mapping[str, Any]) -> str:
    seconds = row["seconds"]
    return f"{seconds:.3g} s" if seconds >= 0.1 else f"{1000 * seconds:.3g} ms"


def _spread(row: Mapping[str, Any]) -> str:
    return f" [{row['ratio_least']:.2f} to {row['ratio_most']:.2f}]"


def _memory(row: Mapping[str, Any], form: str) -> str:
    return form.format(f"{row['peak_mb']:,.0f} MB") if row["peak_mb"] else ""


def put_between(text: str, part: str, marks: tuple[str, str], where: str) -> str:
    """The text with `part` between its two marks; `where` it stands, for the message.

    Raises:
        ValueError: the marks are not there, once each and in order.
    """
    first, last = marks
    before, has_first, rest = text.partition(first)
    _, has_last, after = rest.partition(last)
    if not has_first or not has_last or first in rest or last in after:
        raise ValueError(f"{where} needs the marks {first} and {last}, once each, in this order")
    return f"{before}{first}\n{part}\n{last}{after}"
