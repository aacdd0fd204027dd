"""The doctor on the machine: device, memory, disk, limits; and on the data found there.

Not for: what one run will need, which its trainer knows.
"""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from resdet.doctor.finding import FINE, REFUSE, SETUP, WARN, CheckResult, import_error
from resdet.engine.speed.cpu_features import has_bf16_instructions


def check_device() -> Iterator[CheckResult]:
    lines = read("/proc/cpuinfo").splitlines()
    model = next((line for line in lines if line.startswith("model name")), "")
    text = f"{usable_cores()} cores, {model.partition(':')[2].strip() or platform.machine()}"
    yield CheckResult(
        "cpu", FINE, f"{text}, bf16 instructions: {'yes' if has_bf16_instructions() else 'no'}"
    )
    if import_error("torch") is not None:
        yield CheckResult("gpu", WARN, "unknown without torch", SETUP)
        return
    import torch

    if not torch.cuda.is_available():
        yield CheckResult("gpu", FINE, "none: the demo takes minutes, presets of the paper days")
        return
    for index in range(torch.cuda.device_count()):
        yield describe_gpu(torch.cuda.get_device_properties(index), torch.cuda.get_arch_list())


def describe_gpu(properties: Any, architectures: Sequence[str]) -> CheckResult:
    """Refuses a GPU that this torch has no code for: older than all that it was built for."""
    capability = (properties.major, properties.minor)
    text = (
        f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB, "
        f"capability {capability[0]}.{capability[1]}"
    )
    built = [int("".join(c for c in name.split("_")[1] if c.isdigit())) for name in architectures]
    if built and capability[0] * 10 + capability[1] < min(built):
        fix = "install a torch built for it, or add MODEL.DEVICE cpu"
        return CheckResult(
            "gpu",
            REFUSE,
            f"{text}: too old for this torch, which starts at {min(built) // 10}.{min(built) % 10}",
            fix,
        )
    return CheckResult("gpu", FINE, text)


def usable_cores() -> int:
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def check_memory() -> Iterator[CheckResult]:
    sizes = dict(line.split(":", 1) for line in read("/proc/meminfo").splitlines() if ":" in line)
    if "MemAvailable" not in sizes:
        return
    total, free = (int(sizes[key].split()[0]) * 1024 for key in ("MemTotal", "MemAvailable"))
    limit = read("/sys/fs/cgroup/memory.max").strip()
    if limit.isdigit() and int(limit) < total:
        total = int(limit)
        used = read("/sys/fs/cgroup/memory.current").strip()
        free = min(free, total - int(used or 0))
    text = f"{free / 1e9:.1f} of {total / 1e9:.1f} GB free"
    if free < 3e9:
        fix = "close other programs, or use SOLVER.IMS_PER_BATCH 1 and DATALOADER.NUM_WORKERS 0"
        yield CheckResult("memory", WARN, f"{text}; ResNet-101 detection needs about 3 GB", fix)
    else:
        yield CheckResult("memory", FINE, text)


def check_disk(folder: Path | None = None) -> Iterator[CheckResult]:
    folder = folder or Path.cwd()
    free = shutil.disk_usage(folder).free
    text = f"{free / 1e9:.1f} GB free in {folder}"
    if free < 2e8:
        yield CheckResult("disk", REFUSE, text, "make room, or give --output on another disk")
    elif free < 3e9:
        fix = "make room, or give --output on another disk"
        yield CheckResult("disk", WARN, f"{text}; a ResNet-101 run needs about 2 GB", fix)
    else:
        yield CheckResult("disk", FINE, text)


def check_shared_memory(folder: str = "/dev/shm") -> Iterator[CheckResult]:
    """F67: loader workers hand their batches over through it."""
    if not os.path.isdir(folder):
        return
    free = shutil.disk_usage(folder).free
    text = f"{free / 1e6:.0f} MB free in {folder}"
    if free < 1e9:
        fix = "start the container with --shm-size=2g, or use DATALOADER.NUM_WORKERS 0"
        yield CheckResult("shared memory", WARN, text, fix)
    else:
        yield CheckResult("shared memory", FINE, text)


def check_files() -> Iterator[CheckResult]:
    try:
        import resource
    except ModuleNotFoundError:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    shown = "no limit" if hard == resource.RLIM_INFINITY else str(hard)
    if hard != resource.RLIM_INFINITY and hard < 4096:
        yield CheckResult("open files", WARN, f"{soft}, at most {shown}", "ulimit -n 8192")
    else:
        yield CheckResult("open files", FINE, f"{soft}, at most {shown}")


def read(path: str) -> str:
    """The text of a file of the system, empty where there is none."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def check_data() -> Iterator[CheckResult]:
    try:
        from resdet.data.checks import what_is_there

        rows = what_is_there.status()
    except Exception as error:
        # Whatever the catalog lacks here has its own line above.
        yield CheckResult(
            "data sets", WARN, f"not looked at: {type(error).__name__}: {error}", SETUP
        )
        return
    yield CheckResult("data root", FINE, data_root())
    there = [row["name"] for row in rows if row["state"] in ("whole", "found")]
    absent = [row["name"] for row in rows if row["state"] == "missing"]
    embedded = [name for name in absent if name.startswith("digits_")]
    if there:
        yield CheckResult("data sets", FINE, f"found: {', '.join(there)}")
    if embedded:
        yield CheckResult("data sets", FINE, f"made on first use: {families(embedded)}")
    if len(absent) > len(embedded):
        others = [row["name"] for row in rows if row["state"] != "missing"]
        names = families([name for name in absent if name not in embedded], but=others)
        fix = "only if you want them: export DETECTRON2_DATASETS=FOLDER; see datasets/README.md"
        yield CheckResult("data sets", FINE, f"not there: {names}", fix)
    for row in rows:
        if row["state"] not in ("whole", "found", "missing"):
            fix = "datasets/README.md shows the tree"
            yield CheckResult(row["name"], WARN, f"{row['state']}: {row.get('hint', '')}", fix)


def families(names: Sequence[str], but: Sequence[str] = ()) -> str:
    """voc_2007_*, coco_2017_* for the names of their splits; a lone name stays as it is.

    Args:
        but: names that are not meant: splits of one family with them are each named.

    Example:
        >>> families(["a_1_x", "a_1_y", "b_2_x", "b_2_y", "c_3_x"], but=["b_2_z"])
        'a_1_*, b_2_x, b_2_y, c_3_x'
    """
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(name.rpartition("_")[0], []).append(name)
    others = {name.rpartition("_")[0] for name in but}
    return ", ".join(
        f"{stem}_*" if len(of) > 1 and stem not in others else ", ".join(of)
        for stem, of in groups.items()
    )


def data_root() -> str:
    root = os.environ.get("DETECTRON2_DATASETS")
    return f"{root} (DETECTRON2_DATASETS)" if root else f"{Path('datasets').resolve()} (default)"
