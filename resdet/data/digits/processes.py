"""Painting by several processes at once, with the same result as by one.

Not for: what a worker does (`worker`).
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from resdet.data.digits.worker import Share, Sizes, paint_share
from resdet.errors import DataError

MAX_WORKERS = 4
Progress = Callable[[int, int], None]


def default_workers() -> int:
    """As many as this process may use cores, up to 4."""
    allowed = getattr(os, "sched_getaffinity", None)
    cores = len(allowed(0)) if allowed else os.cpu_count() or 1
    return min(MAX_WORKERS, cores)


def paint(root: Path, sizes: Sizes, *, workers: int, progress: Progress | None) -> Share:
    """Paints all pictures into `root`, whose folders exist.

    Raises:
        DataError: a worker met what the user can fix, such as a full disk.
    """
    total, done = sum(sizes.values()), 0

    def on_painted(count: int) -> None:
        nonlocal done
        done += count
        if progress is not None and count:
            progress(done, total)

    if workers == 1 or not sys.executable:
        return paint_share(root, sizes, number=0, of=1, on_painted=on_painted)
    processes = [_start(root, sizes, i, workers) for i in range(workers)]
    try:
        _follow(processes, on_painted)
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    return _joined([_read_share(root, i) for i in range(workers)])


def _start(root: Path, sizes: Sizes, number: int, of: int) -> subprocess.Popen[str]:
    # The same modules as here, whatever the working directory is.
    path = os.pathsep.join(os.path.abspath(p) for p in sys.path)
    module = "resdet.data.digits.worker"
    return subprocess.Popen(
        [sys.executable, "-m", module, str(root), str(number), str(of), json.dumps(dict(sizes))],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        cwd=root,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    )


def _follow(processes: list[subprocess.Popen[str]], on_painted: Callable[[int], None]) -> None:
    """Adds up what the workers report until all have ended; raises as soon as one failed."""
    reports: queue.Queue[int | subprocess.Popen[str]] = queue.Queue()

    def listen(process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            reports.put(int(line))
        reports.put(process)

    for process in processes:
        threading.Thread(target=listen, args=(process,), daemon=True).start()
    running = len(processes)
    while running:
        report = reports.get()
        if isinstance(report, int):
            on_painted(report)
            continue
        running -= 1
        _, errors = report.communicate()
        if report.returncode == 2:
            raise DataError(errors)
        if report.returncode != 0:
            raise RuntimeError(f"a painting process ended with {report.returncode}:\n{errors}")


def _read_share(root: Path, number: int) -> Share:
    path = root / f"share_{number}.json"
    value = json.loads(path.read_text(encoding="utf-8"))
    path.unlink()
    for by_unit in (value["digests"], value["scenes"]):
        for unit, by_index in by_unit.items():
            by_unit[unit] = {int(i): v for i, v in by_index.items()}
    return Share(**value)


def _joined(shares: list[Share]) -> Share:
    whole = Share(differing=shares[0].differing)
    for share in shares:
        whole.files.update(share.files)
        for unit, digests in share.digests.items():
            whole.digests.setdefault(unit, {}).update(digests)
        for split, scenes in share.scenes.items():
            whole.scenes.setdefault(split, {}).update(scenes)
    return whole
