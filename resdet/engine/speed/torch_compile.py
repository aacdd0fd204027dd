"""torch.compile for a net's training step, one key; off leaves the net alone.

The net itself stays as it is: names in files, scoring and statistics use it, and only the call
that trains goes through the compiled form, which shares its parameters. So checkpoints do not
know of it, and other batch sizes of scoring compile nothing.

Not for: detecting (`resdet.detect.fast.fast_detector`).
"""

from __future__ import annotations

import importlib.util
import logging
import os
import shutil
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from resdet.engine.speed.cpu_features import ATEN_LIMIT, aten_limit
from resdet.errors import ConfigError

logger = logging.getLogger("resdet.engine.speed.torch_compile")

Call = Callable[..., Any]
# Seen with torch 2.14.1: "default" gives C++ that does not compile; "avx2" on a processor with
# AVX-512 crashes in the kernel, also later without the variable, from the cache that it left.
ATEN_WITHOUT_COMPILE = ("default", "avx2")


def compiled(call: Call, setting: str, device: str) -> Call:
    """What to call for training: a net or a function that calls it as it is, or its compiled form
    where ENGINE.COMPILE is "on".

    Each size of batch is compiled once, at its first step; a training has one or two
    (ENGINE.IMAGES_PER_PASS may leave a smaller part).

    Raises:
        ConfigError: nothing here can compile for `device` ("cpu", "cuda"); names what to install.
    """
    if setting == "off":
        return call
    require_compiler(device)
    logger.info("ENGINE.COMPILE: the first step compiles the net, which takes a minute or more")
    # Not dynamic: code for all sizes would be slower, and there are few.
    return torch.compile(call, dynamic=False)


def require_compiler(device: str) -> None:
    """Raises ConfigError where torch.compile cannot work, with what to type."""
    if missing := missing_compiler(device):
        raise ConfigError(f"ENGINE.COMPILE is on, but {missing}, or set ENGINE.COMPILE to off.")


def missing_compiler(device: str) -> str:
    """What torch.compile lacks here, and how to get it; "" if nothing."""
    if device.startswith("cuda"):
        if importlib.util.find_spec("triton") is None:
            return "triton is not installed, which compiles for GPUs: pip install triton"
        # triton builds its launcher with a C compiler.
        names = [os.environ.get("CC", ""), "gcc", "clang"]
        if not any(name and shutil.which(name) for name in names):
            return "there is no C compiler (gcc, clang): apt install gcc, name one with CC="
        return ""
    if aten_limit() in ATEN_WITHOUT_COMPILE:
        return (
            f"{ATEN_LIMIT}={aten_limit()} is set, under which the code that torch.compile makes "
            f"does not compile or crashes: unset {ATEN_LIMIT}"
        )
    name = os.environ.get("CXX", "g++")
    if not shutil.which(name):
        return f"there is no C++ compiler ({name}): apt install g++, name another with CXX="
    if not (Path(sysconfig.get_paths()["include"]) / "Python.h").exists():
        return "Python's headers are not here (Python.h): apt install python3-dev"
    return ""
