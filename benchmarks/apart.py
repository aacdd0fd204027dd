"""Measuring each engine in a process of its own, and setting the figures side by side.

Times are of the work after imports, the middle of several runs; peak memory is of the whole
process, what was imported with it.

Not for: what is measured, or making problems (`scenes`).
"""

from __future__ import annotations

import argparse
import gc
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.claims import Claim, Row, add_arguments, report, rows

Pages = dict[str, list[dict[str, Any]]]


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


def forget_peak() -> None:
    """What comes counts from here on, so that making ready does not (Linux; elsewhere it does)."""
    gc.collect()
    if _on_gpu():
        sys.modules["torch"].cuda.reset_peak_memory_stats()
    mark = Path("/proc/self/clear_refs")
    if mark.exists():
        mark.write_text("5", encoding="ascii")


def peak_mb() -> float:
    """The most since `forget_peak`, in MB: tensors on the GPU where this process uses one, else the
    size of the process."""
    if _on_gpu():
        return float(sys.modules["torch"].cuda.max_memory_allocated()) / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    status = Path("/proc/self/status")
    if status.exists():
        line = next(x for x in status.read_text("ascii").splitlines() if "VmHWM" in x)
        peak = int(line.split()[1]) / 1024
    return peak


def _on_gpu() -> bool:
    # Without importing torch into processes that measure the memory of something else.
    return "torch" in sys.modules and sys.modules["torch"].cuda.is_initialized()


def print_peak() -> int:
    """In a process of its own, after the work: `peak_mb`, as JSON."""
    print(json.dumps({"peak_mb": peak_mb()}))
    return 0


def peaks_of(module: str, names: Sequence[str], *arguments: object) -> dict[str, float]:
    """Peak memory in MB of each way, each in a process of its own (`--peak-of NAME`)."""
    peaks = {}
    for name in names:
        page = run_apart(module, *arguments, "--peak-of", name)
        peaks[name] = float(json.loads(page.splitlines()[-1])["peak_mb"])
    return peaks


@dataclass(frozen=True)
class Benchmark:
    """What `main` runs.

    Attributes:
        module: its name for `python -m`. doc: its docstring.
        images: of the problem, unless another number is asked for.
        made: name of what lies in the folder once the problem is made.
        make: writes a problem of so many images into a folder.
        engines: names to what one does with that folder; `prepare` imports what is not timed.
        describe: a line about a made problem: its folder, number of images.
        compare: runs all engines, some several times.
        quick_images: of the problem with --quick.
    """

    module: str
    doc: str
    images: int
    made: str
    make: Callable[[Path, int], None]
    engines: Mapping[str, Callable[[Path], Any]]
    prepare: Callable[[str], None]
    describe: Callable[[Path, int], str]
    compare: Callable[[Path, int], Claim]
    quick_images: int

    def measured(self, engine: str, folder: Path) -> dict[str, Any]:
        """One run of an engine in a process of its own."""
        page = run_apart(self.module, "--measure", engine, "--keep", folder)
        return dict(json.loads(page))


def command(benchmark: Benchmark, argv: Sequence[str] | None = None) -> int:
    """The command line of a benchmark."""
    parser = argparse.ArgumentParser(description=benchmark.doc.splitlines()[0])
    add_arguments(parser, rounds=5)
    parser.add_argument("--images", type=int, default=benchmark.images)
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="for the problem's files")
    parser.add_argument("--measure", choices=["make", *benchmark.engines], help="one step")
    args = parser.parse_args(argv)
    if args.quick:
        args.images, args.rounds = benchmark.quick_images, 2
    if args.measure == "make":
        benchmark.make(args.keep, args.images)
        return 0
    if args.measure:
        benchmark.prepare(args.measure)
        print_measured(lambda: benchmark.engines[args.measure](args.keep))
        return 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / benchmark.made).exists():
            make = ("--measure", "make", "--images", args.images, "--keep", folder)
            run_apart(benchmark.module, *make)
        print(benchmark.describe(folder, args.images))
        return report([benchmark.compare(folder, args.rounds)], args)


def rows_of(pages: Pages) -> list[Row]:
    """A row for each engine, the first is the peer: wall seconds and peak memory of its runs."""
    middle = {n: statistics.median(p["megabytes"] for p in runs) for n, runs in pages.items()}
    return rows({n: [p["seconds"] for p in runs] for n, runs in pages.items()}, middle)
