"""Makes or completes the environment that resdet runs in; `tools/setup.sh` calls this.

The steps, each of which checks whether it is done, so that a set-up that was
interrupted goes on where it stopped:

    1. a stamp with the hash of all that decides the result: nothing to do, end here
    2. checks: the checkout can be written, the platform has wheels, the disk has room
       (setup_checks.py)
    3. .venv, unless RESDET_PYTHON names an environment
    4. the packages, by pip and constraints.txt (setup_packages.py)
    5. Detectron2, unless one that works is there (tools/install_detectron2.py)
    6. the stamp, last

Needs only the standard library. Not for: finding a Python (setup.sh), installing by hand
(`pip install -c constraints.txt -e .`).
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib.util
import os
import platform
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import install_detectron2
from setup_checks import (
    SetupError,
    check_disk,
    check_named,
    check_platform,
    check_writable,
    gigabytes_needed,
    installed_versions,
)
from setup_packages import OPENCV, install_packages, report, runs

ROOT = Path(__file__).resolve().parents[1]
# What decides whether an old set-up is valid.
DECIDING = (
    "constraints.txt",
    "pyproject.toml",
    "tools/install_detectron2.py",
    "tools/setup_packages.py",
)
# Must be importable for a stamp to be valid: packages may have been removed since.
MUST_BE_THERE = (
    "torch",
    "torchvision",
    "detectron2",
    "pycocotools",
    "cv2",
    "sklearn",
    "matplotlib",
)
DOCS_MUST_BE_THERE = ("mkdocs", "material", "mkdocstrings", "griffe")
IMPORTS = """
import cv2, matplotlib, numpy, PIL, pycocotools.mask, safetensors, skimage, sklearn
import torch, torchvision
torchvision.ops.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
"""


# -- step 1: the stamp ---------------------------------------------------------------------


def fingerprint(root: Path, python: Path) -> str:
    """Hash of the files that decide the result, the interpreter and the checkout's place."""
    total = hashlib.sha256()
    for name in DECIDING:
        total.update((root / name).read_bytes() + b"\0")
    total.update(f"{sys.version}\0{python}\0{root}".encode(errors="surrogateescape"))
    return total.hexdigest()


def stamp_path(root: Path, python: Path, *, docs: bool = False) -> Path:
    place = hashlib.sha256(os.fsencode(python)).hexdigest()[:12]
    return root / ".setup" / f"done-{place}{'-docs' if docs else ''}"


def is_done(
    root: Path, python: Path, has: Sequence[str] = MUST_BE_THERE, *, docs: bool = False
) -> bool:
    """True if this very set-up was finished before and its packages are still there."""
    has = (*has, *(DOCS_MUST_BE_THERE if docs else ()))
    try:
        stamp = stamp_path(root, python, docs=docs).read_text(encoding="utf-8").strip()
    except OSError:
        return False
    if stamp != fingerprint(root, python):
        return False
    specs = [importlib.util.find_spec(name) for name in has]
    return all(spec is not None and spec.origin is not None for spec in specs)


# -- step 3: the environment ---------------------------------------------------------------


def make_venv(folder: Path) -> Path:
    """The Python of .venv, made anew if it does not run."""
    python = folder / "bin" / "python"
    is_venv = f"import os, sys; sys.exit(not os.path.samefile(sys.prefix, {str(folder)!r}))"
    if not runs(python, "-c", is_venv):
        if folder in Path(sys.executable).parents:
            raise SetupError(f"{folder} is no environment. Remove it and call this again.")
        report(f"Making the environment {folder} with Python {platform.python_version()}.")
        done = subprocess.run(
            [sys.executable, "-m", "venv", "--clear", str(folder)],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        if done.returncode != 0:
            raise SetupError(f"python -m venv failed: {(done.stdout + done.stderr).strip()}")
    return python


def remove_half_installed(site_packages: Path) -> list[str]:
    """Forgets distributions that pip was copying when it was stopped, so that it redoes them.

    pip writes INSTALLER after the last file of a distribution. Until then its metadata may lie
    there already, and pip would take the distribution for whole.
    """
    broken = [
        info
        for info in site_packages.glob("*.dist-info")
        if not (info / "INSTALLER").exists() and not info.is_symlink()
    ]
    broken += list(site_packages.glob("~*"))
    if any(info.name.startswith(("pip-", "~ip")) for info in broken):
        broken.append(site_packages / "pip")  # half a pip is worse than none: ensurepip follows
    for info in broken:
        shutil.rmtree(info, ignore_errors=True)
    return [info.name for info in broken]


# -- step 5, and all of them in order ------------------------------------------------------


def install_detectron2_if_missing(python: Path) -> None:
    report("Looking for Detectron2 …")
    version = install_detectron2.installed(str(python))
    if version:
        report(f"  {version} works and stays.")
        return
    report("  none that works: installing 0.6 without compiled operators …")
    try:
        report(f"  {install_detectron2.install(str(python))}")
    except install_detectron2.InstallError as error:
        raise SetupError(f"Detectron2 was not installed. {error}") from None


@contextlib.contextmanager
def only_one(root: Path) -> Iterator[None]:
    """Holds the checkout's set-up lock; waits for another set-up that is at work."""
    import fcntl

    with open(root / ".setup" / "lock", "a", encoding="utf-8") as lock:
        # A pip that outlives us, after kill -9, still holds the lock and is waited for.
        os.set_inheritable(lock.fileno(), True)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report("Another set-up of this checkout is at work; waiting for it …")
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError:
            report("This file system has no locks: do not start two set-ups at once.")
        yield


def check_imports(python: Path) -> None:
    """Torch and torchvision must fit each other, and opencv must find its libraries."""
    done = subprocess.run(
        [str(python), "-W", "ignore", "-c", IMPORTS],
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        versions = installed_versions()
        names = ("torch", "torchvision", "numpy", *OPENCV)
        together = ", ".join(f"{name} {versions[name]}" for name in names if name in versions)
        raise SetupError(
            f"the packages are installed, but do not work together ({together}): {last}\n"
            f"In the checkout's own .venv: remove it and call this again. Elsewhere fix {python}."
        )


def set_up(root: Path, *, named: bool, docs: bool, arguments: Sequence[str]) -> Path:
    """The Python of the finished environment; `docs`: with what builds the site.

    Raises:
        SetupError: what is short, or what failed, and what to do.
    """
    venv = root / ".venv"
    python = Path(sys.executable) if named else venv / "bin" / "python"
    inside = named or Path(sys.prefix).resolve() == venv.resolve()
    check_writable(root)
    if inside and is_done(root, python, docs=docs):
        return python
    check_platform()
    if named:
        check_named()
    has_torch = inside and "torch" in installed_versions()
    site_packages = Path(sysconfig.get_path("purelib")) if inside and not named else None
    check_disk(root, gigabytes_needed(site_packages, has_torch=has_torch))
    if not inside:
        with only_one(root):
            make_venv(venv)
        # The environment's own interpreter goes on: it sees its own packages.
        os.execv(python, [str(python), str(Path(__file__).resolve()), *arguments])
    with only_one(root):
        if not is_done(root, python, docs=docs):
            fill(root, python, named=named, docs=docs)
    return python


def fill(root: Path, python: Path, *, named: bool, docs: bool) -> None:
    """Steps 4 to 6 in an environment that exists; runs under its own interpreter."""
    start = time.monotonic()
    report(f"Setting up resdet in {sys.prefix}, Python {platform.python_version()}")
    if not named:
        broken = remove_half_installed(Path(sysconfig.get_path("purelib")))
        if broken:
            report(f"An interrupted set-up goes on; half-installed were: {', '.join(broken)}")
    stamp = stamp_path(root, python)
    install_packages(root, python, stamp.with_suffix(".constraints.txt"), named=named, docs=docs)
    report("Checking that they work together …")
    check_imports(python)
    install_detectron2_if_missing(python)
    for path in [stamp] + [stamp_path(root, python, docs=True)] * docs:
        path.write_text(fingerprint(root, python) + "\n", encoding="utf-8")
    report(f"Set-up finished in {time.monotonic() - start:.0f} s. What it found: resdet doctor")
    if not named:
        report(f"To type resdet in this shell: source '{root / '.venv/bin/activate'}'")


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description="Sets up resdet; called by tools/setup.sh.")
    parser.add_argument("--named", action="store_true", help="use the environment of this Python")
    parser.add_argument("--print-python", action="store_true", help="print its path at the end")
    parser.add_argument("--docs", action="store_true", help="also what builds the site")
    args = parser.parse_args(arguments)
    for name in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, signal.default_int_handler)
    try:
        python = set_up(ROOT, named=args.named, docs=args.docs, arguments=arguments)
    except SetupError as error:
        report(f"Set-up stopped: {error}")
        return 2
    except KeyboardInterrupt:
        report("\nSet-up interrupted. The next call goes on.")
        return 130
    if args.print_python:
        print(python)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
