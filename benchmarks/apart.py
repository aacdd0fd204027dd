"""Measuring each engine in a process of its own, and setting the figures side by side.

Times are of the work after imports, the middle of several runs; peak memory is of the whole
process, what was imported with it.

Not for: what is measured, or making problems (`scenes`).
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

Pages = dict[str, list[dict[str, Any]]]
_FIGURES = ("seconds", "processor", "megabytes")


def run_apart(module: str, *arguments: object) -> str:
    """What `python -m module ARGUMENTS` prints. What we hold counts as its peak, too, so that the
    process that compares stays small: the problem is made in another."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


def print_measured(work: Callable[[], Any]) -> None:
    """Seconds, processor seconds and peak memory of some work, and what it gives, as JSON."""
    wall, processor = time.perf_counter(), time.process_time()
    numbers = work()
    page = {
        "seconds": time.perf_counter() - wall,
        "processor": time.process_time() - processor,
        "megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "numbers": numbers,
    }
    print(json.dumps(page))


def print_table(pages: Pages, base: str) -> None:
    """A row for each engine: the middle of its runs, and how many times `base` takes as long."""
    print(f"{'':12} {'seconds':>20} {'':>8} {'processor':>10} {'':>8} {'peak MB':>8}")
    middle = {
        name: {key: statistics.median(page[key] for page in runs) for key in _FIGURES}
        for name, runs in pages.items()
    }
    for name, row in middle.items():
        times = [page["seconds"] for page in pages[name]]
        spread = f"({min(times):.2f} to {max(times):.2f})" if len(times) > 1 else ""
        wall, processor = (middle[base][key] / row[key] for key in _FIGURES[:2])
        print(
            f"{name:12} {row['seconds']:8.2f} {spread:>16} x{wall:<6.1f}"
            f" {row['processor']:10.2f} x{processor:<6.1f} {row['megabytes']:8.0f}"
        )
