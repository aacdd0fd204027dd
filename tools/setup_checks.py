"""What must hold before the set-up writes or fetches anything: platform, disk, environment.

Each check states what is missing, and what to do. Not for: what is checked once all is installed
(`resdet doctor`).
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import sys
import sysconfig
from pathlib import Path

# Measured with torch 2.14.1 on x86-64 Linux: 6.2 GB installed, 2.7 GB of downloads beside it.
CUDA_GIGABYTES = 9.5
CPU_GIGABYTES = 2.5
MORE_GIGABYTES = 0.5


class SetupError(Exception):
    """What stops the set-up, with what to do about it."""


def check_writable(root: Path) -> None:
    try:
        (root / ".setup").mkdir(exist_ok=True)
        with open(root / ".setup" / "lock", "a", encoding="utf-8"):
            pass
    except OSError as error:
        raise SetupError(
            f"this checkout ({root}) cannot be written ({error.strerror}): copy it to a folder "
            "of your own and run this there."
        ) from None


def platform_problems(
    system: str, machine: str, libc: tuple[str, str], bits: int, *, no_gil: bool
) -> list[str]:
    """Why torch has no wheel for this platform; empty if it has one."""
    problems = []
    if system == "Windows" or system.startswith(("MSYS", "MINGW", "CYGWIN")):
        problems.append("resdet runs on Linux and macOS. On Windows use WSL 2.")
    elif system == "Darwin" and machine != "arm64":
        problems.append("torch has no builds for macOS on Intel any more. Use a Linux machine.")
    elif machine not in ("x86_64", "aarch64", "arm64"):
        problems.append(f"torch has no builds for {machine}. Use x86-64 or 64-bit ARM.")
    if bits < 64:
        problems.append("this Python is a 32-bit build. Install a 64-bit one.")
    if no_gil:
        problems.append("this Python is a free-threaded build. Install the ordinary one.")
    if system == "Linux":
        name, version = libc
        if name != "glibc":
            problems.append("this Linux has no glibc (Alpine?). Use Debian, Ubuntu or the like.")
        elif tuple(int(part) for part in re.findall(r"\d+", version)[:2]) < (2, 28):
            problems.append(f"glibc is {version}, torch needs 2.28 (Debian 10, Ubuntu 20.04).")
    return problems


def check_platform() -> None:
    problems = platform_problems(
        platform.system(),
        platform.machine(),
        platform.libc_ver(),
        64 if sys.maxsize > 2**32 else 32,
        no_gil=bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
    )
    if problems:
        raise SetupError(" ".join(problems))


def gigabytes_needed(site_packages: Path | None, *, has_torch: bool) -> float:
    """Bytes that the set-up will write, about; less what an interrupted one has left."""
    if has_torch:
        return MORE_GIGABYTES
    small = platform.system() == "Darwin" or bool(os.environ.get("RESDET_TORCH_INDEX"))
    there = sum(p.stat().st_size for p in site_packages.rglob("*.so*")) if site_packages else 0
    return max(MORE_GIGABYTES, (CPU_GIGABYTES if small else CUDA_GIGABYTES) - there / 1e9)


def check_disk(folder: Path, needed: float) -> None:
    free = shutil.disk_usage(folder).free / 1e9
    if free < needed:
        raise SetupError(
            f"{folder} has {free:.1f} GB free, the set-up wants {needed:.1f} GB while it runs "
            "(torch and its CUDA libraries are large). Make room, name an environment that has "
            "torch in RESDET_PYTHON, or an index of torch without CUDA in RESDET_TORCH_INDEX."
        )


def check_named() -> None:
    marker = Path(sysconfig.get_path("stdlib")) / "EXTERNALLY-MANAGED"
    if sys.prefix == sys.base_prefix and marker.exists():
        raise SetupError(
            f"RESDET_PYTHON is {sys.executable}, which belongs to the system. Make an environment "
            "(python3 -m venv ENV) and name ENV/bin/python, or leave RESDET_PYTHON out."
        )
    torch = installed_versions().get("torch")
    if torch and version_tuple(torch) < (2, 6):
        raise SetupError(
            f"the environment of {sys.executable} has torch {torch}, resdet needs 2.6 or newer. "
            "Upgrade it there, or leave RESDET_PYTHON out."
        )


def installed_versions() -> dict[str, str]:
    """Normalised name to version of what this interpreter sees."""
    return {
        normalise(name): distribution.version
        for distribution in importlib.metadata.distributions()
        if (name := distribution.metadata["Name"])
    }


def normalise(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def version_tuple(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version.split("+")[0])[:2])
