"""The packages of the set-up: what is expected, which versions, and pip with its progress.

An environment that RESDET_PYTHON names keeps every version it has, as its Detectron2 may be
compiled for just that torch; only what is missing is added, with the versions of the
constraints file where they fit.

Not for: Detectron2 itself (install_detectron2.py).
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import install_detectron2
from setup_checks import SetupError, installed_versions, normalise

EXTRAS = ("demo", "report", "timm", "onnx", "dev")
DOCS = ("docs",)
PIPS_TOML = "pip._vendor.tomli"
BUILD_TOOLS = ("pip", "setuptools", "wheel")
OPENCV = (
    "opencv-python",
    "opencv-python-headless",
    "opencv-contrib-python",
    "opencv-contrib-python-headless",
)
REPORT_EVERY_SECONDS = 15.0


def report(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def runs(python: Path, *arguments: str) -> bool:
    with contextlib.suppress(OSError):
        done = subprocess.run([str(python), *arguments], capture_output=True, check=False)
        return done.returncode == 0
    return False


def requirements(root: Path, extras: Sequence[str] = EXTRAS) -> list[str]:
    """What pyproject.toml and Detectron2 ask for, as pip understands it."""
    # Python 3.10 has no TOML reader of its own; its pip has.
    toml: Any = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else PIPS_TOML)
    project = toml.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    more = [line for name in extras for line in project["optional-dependencies"][name]]
    return [*project["dependencies"], *more, *install_detectron2.REQUIREMENTS]


def pick_opencv(installed: Mapping[str, str]) -> list[str]:
    """The opencv to install: none if any is there, the headless one where libGL is missing."""
    if any(name in installed for name in OPENCV):
        return []
    if platform.system() == "Linux":
        try:
            ctypes.CDLL("libGL.so.1")
        except OSError:
            return ["opencv-python-headless"]
    return ["opencv-python"]


def constraints_that_keep(pins: Sequence[str], installed: Mapping[str, str]) -> list[str]:
    """The pins without those of installed packages; torch stays exactly what it is.

    torchvision fits one torch only: with another torch than the pinned one its pin goes, too,
    and pip looks for its counterpart.
    """
    kept = [line for line in pins if pinned_name(line) not in installed]
    torch = installed.get("torch")
    if torch:
        kept = [line for line in kept if pinned_name(line) != "torchvision"]
        pin = next(line for line in pins if pinned_name(line) == "torchvision")
        same = f"torch=={torch.split('+')[0]}" in pins
        kept += [f"torch=={torch}", *([pin] if same and "torchvision" not in installed else [])]
    return kept


def pinned_name(line: str) -> str:
    return normalise(re.split(r"[=<>!~; ]", line, maxsplit=1)[0])


def read_pins(path: Path) -> list[str]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line.strip() and not line.startswith("#")]


class Pip:
    """pip of one environment; its output goes to the log, a line per 15 seconds to the terminal."""

    def __init__(self, python: Path, work: Path, constraints: Path):
        self.python = python
        self.work = work
        self.constraints = constraints
        self.log = work / "log.txt"

    def install(self, what: str, *arguments: str) -> None:
        """Runs `pip install`; `what` names it for people.

        Raises:
            SetupError: pip failed; with the end of its log.
        """
        report(f"{what} …")
        command = [str(self.python), "-m", "pip", "install", "-c", str(self.constraints)]
        command += arguments
        temporary = self.work / "tmp"  # not /tmp: it is often small, and torch is not
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        with open(self.log, "ab") as log:
            log.write(f"\n$ {' '.join(command)}\n".encode(errors="replace"))
            log.flush()
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.work,
                close_fds=False,  # the lock: see only_one
                env=install_detectron2.pip_environment(
                    TMPDIR=str(temporary), PIP_PROGRESS_BAR="off"
                ),
            )
            try:
                self.watch(process)
            finally:
                process.kill()
                process.wait()
                shutil.rmtree(temporary, ignore_errors=True)
        if process.returncode != 0:
            code = process.returncode
            end = f"pip ended with {code}" if code > 0 else f"pip was stopped by signal {-code}"
            raise SetupError(f"{what} failed: {end}.\n{self.end_of_log()}\n{self.advice()}")

    def watch(self, process: subprocess.Popen[bytes]) -> None:
        start = time.monotonic()
        free = shutil.disk_usage(self.work).free
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(REPORT_EVERY_SECONDS)
                return
            written = max(0, free - shutil.disk_usage(self.work).free) / 1e9
            seconds = time.monotonic() - start
            report(f"  {seconds:4.0f} s, {written:.1f} GB written; {self.last_step()}")

    def last_step(self) -> str:
        steps = re.findall(
            r"^ *((?:Collecting|Downloading|Using cached|Building|Installing) [^\n(:]*)",
            self.tail(8000),
            re.MULTILINE,
        )
        return steps[-1].strip()[:80] if steps else "starting"

    def tail(self, size: int) -> str:
        with open(self.log, "rb") as f:
            f.seek(max(0, f.seek(0, os.SEEK_END) - size))
            return f.read().decode("utf-8", "replace")

    def end_of_log(self) -> str:
        lines = [
            line
            for line in self.tail(8000).splitlines()
            if line.strip() and "Requirement already satisfied" not in line
        ]
        return "\n".join(f"  {line[:200]}" for line in lines[-12:])

    def advice(self) -> str:
        text = self.tail(8000).lower()
        if "no space left" in text:
            reason = "The disk is full: make room, then call this again; it goes on."
        elif any(sign in text for sign in ("connection", "resolve", "timed out", "proxy", "ssl")):
            reason = (
                "The package index was not reached. Set-up needs it once: check the network and "
                "pip's settings (pip config list), then call this again; it goes on."
            )
        else:
            reason = "Fix what the lines above name, then call this again; it goes on."
        return f"{reason}\nThe whole log: {self.log}"


def install_packages(
    root: Path, python: Path, constraints: Path, *, named: bool, docs: bool = False
) -> None:
    """Brings all packages into the environment of `python`, which runs this function.

    `constraints` is the file to write the pins to that hold for this environment.
    """
    installed = installed_versions()
    pins = read_pins(root / "constraints.txt")
    if named:
        pins = constraints_that_keep(pins, installed)
    constraints.write_text("\n".join(pins) + "\n", encoding="utf-8")
    pip = Pip(python, root / ".setup", constraints)
    if not runs(python, "-m", "pip", "--version"):
        if not runs(python, "-m", "ensurepip"):
            raise SetupError(f"{python} has no pip. Install it there: python -m ensurepip.")
        report("pip added.")
    if not named:
        pip.install("Updating pip and setuptools", *BUILD_TOOLS)
    index = os.environ.get("RESDET_TORCH_INDEX")
    if index and "torch" not in installed:
        pip.install(
            f"Installing torch and torchvision from {index}",
            *("--no-deps", "--index-url", index, "torch", "torchvision"),
        )
    # The small ones first: what pip has finished is not fetched again after an interruption.
    expected = requirements(root, EXTRAS + DOCS if docs else EXTRAS)
    torch = [line for line in expected if pinned_name(line) in ("torch", "torchvision")]
    rest = [line for line in expected if line not in torch]
    pip.install("Installing Detectron2's libraries and ours", *rest, *pick_opencv(installed))
    size = "" if "torch" in installed else " (2.4 GB to fetch, 5.5 GB on disk: 1 to 10 minutes)"
    pip.install(f"Installing torch and torchvision{size}", *torch)
    if not named:
        pip.install(
            "Installing the command resdet from this checkout",
            *("--no-deps", "--no-build-isolation", "-e", str(root)),
        )
