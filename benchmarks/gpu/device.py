"""The GPU that is measured: whether there is one, what it is, how it computes.

Not for: timing (`turns_on_gpu`).
"""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from benchmarks import claims
from resdet.engine.speed.precision import set_arithmetic

DEVICE = "cuda"
# The exit code where there is no GPU, as that of a command whose machine lacks something.
NO_GPU = 2
_DRIVER = Path("/proc/driver/nvidia/version")


def missing_gpu() -> str:
    """The page where nothing can be measured here; "" where torch finds a GPU."""
    if torch.cuda.is_available() and torch.cuda.device_count():
        return ""
    if torch.version.cuda is None:
        why = (
            f"torch {torch.__version__} is built without CUDA. Set up again with one that has it: "
            "RESDET_TORCH_INDEX=INDEX bash tools/setup.sh, where https://download.pytorch.org/whl "
            "lists the indices"
        )
    else:
        why = (
            f"torch {torch.__version__} is built for CUDA {torch.version.cuda} and finds none: "
            "`nvidia-smi` must list one, and CUDA_VISIBLE_DEVICES must not hide it"
        )
    return (
        f"python -m benchmarks --gpu measures on an NVIDIA GPU, and there is none here: {why}.\n"
        "On the CPU: python -m benchmarks (--quick for three minutes)."
    )


def machine() -> dict[str, Any]:
    """GPUs, driver and libraries beside what `claims.machine` has of the host."""
    count = torch.cuda.device_count()
    properties = torch.cuda.get_device_properties(0)
    return {
        **claims.machine(),
        "gpu": torch.cuda.get_device_name(0),
        "gpus": count,
        "gpu_memory_mb": round(properties.total_memory / 2**20),
        "compute_capability": f"{properties.major}.{properties.minor}",
        "driver": driver(),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
    }


def driver() -> str:
    """The version of NVIDIA's driver, "unknown" where neither the kernel nor nvidia-smi tells."""
    if _DRIVER.exists():
        match = re.search(r"\b\d{3,}\.\d+(?:\.\d+)?\b", _DRIVER.read_text(encoding="utf-8"))
        if match:
            return match[0]
    if shutil.which("nvidia-smi"):
        command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if not done.returncode and done.stdout.strip():
            return done.stdout.splitlines()[0].strip()
    return "unknown"


@contextlib.contextmanager
def arithmetic(
    tf32: str = "off", *, deterministic: bool = False, cudnn_benchmark: bool = False
) -> Iterator[None]:
    """What ENGINE.TF32, ENGINE.DETERMINISTIC and CUDNN_BENCHMARK allow, then as it was before."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark
    was_deterministic = torch.are_deterministic_algorithms_enabled()
    try:
        set_arithmetic(tf32, deterministic, cudnn_benchmark)
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark = before
        torch.use_deterministic_algorithms(was_deterministic)
