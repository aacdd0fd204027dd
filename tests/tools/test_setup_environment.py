"""The set-up's Python: pins, checks before anything is written, stamps, going on after a stop."""

from __future__ import annotations

import ast
import importlib
import os
import shutil
import sys
import time
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement

from tests.support.children import ROOT
from tests.support.scripts import bash, checkout


def test_python_files_of_the_set_up_need_only_the_standard_library(environment):
    """They run before anything is installed."""
    ours = {"install_detectron2", "setup_checks", "setup_packages"}
    for name in ("install_detectron2", "setup_environment", "setup_checks", "setup_packages"):
        source = (ROOT / "tools" / f"{name}.py").read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                modules = [node.module or ""]
            else:
                continue
            for module in modules:
                assert module.split(".")[0] in sys.stdlib_module_names | ours, f"{name}: {module}"
    assert os.path.samefile(environment.ROOT, ROOT)


# -- versions ------------------------------------------------------------------------------


def pins() -> list[Requirement]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def all_requirements(packages) -> list[Requirement]:
    toml = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    project = toml.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [line for lines in project["optional-dependencies"].values() for line in lines]
    return [Requirement(line) for line in [*packages.requirements(ROOT), *extras]]


@pytest.mark.parametrize("python", ["3.10", "3.11", "3.12", "3.13"])
def test_each_requirement_has_one_exact_pin_that_satisfies_it(packages, python):
    """Issue 8, section 1: exact pins from one constraints file, on each Python that is accepted."""
    here = {**default_environment(), "python_version": python}
    pinned: dict[str, str] = {}
    for pin in pins():
        if pin.marker is None or pin.marker.evaluate(here):
            (specifier,) = pin.specifier
            assert specifier.operator == "==" and "*" not in specifier.version, str(pin)
            assert pin.name not in pinned, f"{pin.name} is pinned twice for Python {python}"
            pinned[pin.name] = specifier.version
    for expected in all_requirements(packages):
        name = packages.normalise(expected.name)
        assert expected.specifier.contains(pinned[name]), f"{expected} against {pinned[name]}"


def test_torch_and_torchvision_are_the_tested_pair():
    """2.14.1 with 0.29.1; a local +cpu version would break torchvision."""
    versions = {pin.name: str(pin.specifier) for pin in pins()}
    assert (versions["torch"], versions["torchvision"]) == ("==2.14.1", "==0.29.1")


def test_metadata_require_neither_detectron2_nor_an_opencv():
    """Detectron2 has no project on the index; either opencv is accepted (F65)."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    core = text[text.index("\ndependencies = [") : text.index("[project.optional-dependencies]")]
    assert "torch>=2.6" in core
    assert "detectron2" not in core and "opencv" not in core


def test_a_named_environment_keeps_its_torch_and_what_else_it_has(packages):
    """Its Detectron2 may be compiled for that torch; torchvision must then fit it, not our pin."""
    lines = ["numpy==2.4.6", "torch==2.14.1", "torchvision==0.29.1", "yacs==0.1.8"]
    keep = packages.constraints_that_keep
    assert keep(lines, {"torch": "2.11.0+cu128", "numpy": "1.26.4"}) == [
        "yacs==0.1.8",
        "torch==2.11.0+cu128",
    ]
    assert keep(lines, {"torch": "2.14.1+cpu"}) == [
        "numpy==2.4.6",
        "yacs==0.1.8",
        "torch==2.14.1+cpu",
        "torchvision==0.29.1",
    ]
    assert keep(lines, {}) == lines


@pytest.mark.parametrize("name", ["opencv-python", "opencv-contrib-python-headless"])
def test_an_opencv_that_is_there_is_the_only_one(packages, name):
    """F65: two distributions share the folder cv2."""
    assert packages.pick_opencv({name: "4.10"}) == []


def test_without_libgl_the_headless_opencv_is_chosen(packages, monkeypatch):
    """F65: the one with windows does not import where libGL is missing, as in containers."""

    def missing(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(packages.platform, "system", lambda: "Linux")
    monkeypatch.setattr(packages.ctypes, "CDLL", missing)
    assert packages.pick_opencv({}) == ["opencv-python-headless"]
    monkeypatch.setattr(packages.ctypes, "CDLL", lambda name: None)
    assert packages.pick_opencv({}) == ["opencv-python"]


# -- checks before anything is written -----------------------------------------------------


@pytest.mark.parametrize(
    ("platform", "words"),
    [
        (("Linux", "x86_64", ("glibc", "2.36"), 64, False), None),
        (("Darwin", "arm64", ("", ""), 64, False), None),
        (("Linux", "x86_64", ("", ""), 64, False), "no glibc"),
        (("Linux", "x86_64", ("glibc", "2.17"), 64, False), "glibc is 2.17, torch needs 2.28"),
        (("Linux", "armv7l", ("glibc", "2.36"), 32, False), "armv7l"),
        (("Darwin", "x86_64", ("", ""), 64, False), "Intel"),
        (("MINGW64_NT-10.0", "x86_64", ("", ""), 64, False), "WSL 2"),
        (("Linux", "x86_64", ("glibc", "2.36"), 64, True), "free-threaded"),
    ],
)
def test_a_platform_without_wheels_is_named(checks, platform, words):
    """Tags of torch's wheels: manylinux_2_28 on x86-64 and ARM, macOS on ARM."""
    *where, no_gil = platform
    problems = checks.platform_problems(*where, no_gil=no_gil)
    assert (problems == []) if words is None else (words in " ".join(problems))


def test_a_small_disk_is_refused_with_both_sizes(checks, tmp_path, monkeypatch):
    """Issue 8, section 1: states what is short; 9.5 GB is the measured peak of a fresh set-up."""
    usage = shutil.disk_usage(tmp_path)._replace(free=int(3.2e9))
    monkeypatch.setattr(checks.shutil, "disk_usage", lambda folder: usage)
    monkeypatch.setattr(checks.platform, "system", lambda: "Linux")
    monkeypatch.delenv("RESDET_TORCH_INDEX", raising=False)
    with pytest.raises(checks.SetupError, match=r"3.2 GB free, the set-up wants 9.5 GB"):
        checks.check_disk(tmp_path, checks.gigabytes_needed(None, has_torch=False))
    checks.check_disk(tmp_path, checks.gigabytes_needed(None, has_torch=True))
    monkeypatch.setenv("RESDET_TORCH_INDEX", "somewhere")
    checks.check_disk(tmp_path, checks.gigabytes_needed(None, has_torch=False))


def test_a_checkout_that_cannot_be_written_is_refused_in_one_sentence(tmp_path):
    """Issue 8, section 1. A file in the way of .setup refuses root, too, unlike mode 0555."""
    root = checkout(
        tmp_path,
        "tools/setup.sh",
        "tools/setup_environment.py",
        "tools/setup_checks.py",
        "tools/setup_packages.py",
        "tools/install_detectron2.py",
    )
    (root / ".setup").write_text("", encoding="utf-8")
    done = bash(root / "tools/setup.sh", RESDET_PYTHON=sys.executable)
    assert done.returncode == 2
    assert done.stdout == ""
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1 and "cannot be written" in lines[0] and str(root) in lines[0]


# -- going on after an interruption, and not starting again --------------------------------


def test_what_pip_was_copying_when_it_was_stopped_is_forgotten(environment, tmp_path):
    """pip writes INSTALLER after the last file; without it the metadata would hide the gap."""
    for name in ("whole-1.0.dist-info", "half-1.0.dist-info", "~orch", "whole"):
        (tmp_path / name).mkdir()
    (tmp_path / "whole-1.0.dist-info" / "INSTALLER").write_text("pip\n", encoding="utf-8")
    assert environment.remove_half_installed(tmp_path) == ["half-1.0.dist-info", "~orch"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["whole", "whole-1.0.dist-info"]


def test_half_a_pip_is_removed_whole(environment, tmp_path):
    """Seen: stopped while pip replaced itself; ensurepip then brings a whole one."""
    for name in ("pip-26.3.dist-info", "pip", "~ip"):
        (tmp_path / name).mkdir()
    environment.remove_half_installed(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_stamp_holds_until_a_deciding_file_or_a_package_changes(environment, tmp_path):
    """Issue 8, section 1: idempotent; a new pin or a removed package is set up again."""
    root = checkout(tmp_path, *environment.DECIDING)
    python = Path(sys.executable)
    has = ["json", "logging"]
    assert not environment.is_done(root, python, has)
    stamp = environment.stamp_path(root, python)
    stamp.parent.mkdir()
    stamp.write_text(environment.fingerprint(root, python), encoding="utf-8")
    assert environment.is_done(root, python, has)
    assert not environment.is_done(root, python, [*has, "a_package_that_was_removed"])
    assert not environment.is_done(root, Path("/another/python"), has)
    with open(root / "constraints.txt", "a", encoding="utf-8") as f:
        f.write("new==1\n")
    assert not environment.is_done(root, python, has)


def test_the_site_has_a_stamp_of_its_own(environment, tmp_path, monkeypatch):
    """A plain set-up does not bring the site's packages; one with --docs stands for both."""
    root = checkout(tmp_path, *environment.DECIDING)
    (root / ".setup").mkdir()
    python = Path(sys.executable)
    installed = []
    monkeypatch.setattr(environment, "check_imports", lambda python: None)
    monkeypatch.setattr(environment, "install_detectron2_if_missing", lambda python: None)
    monkeypatch.setattr(
        environment, "install_packages", lambda *args, docs, **more: installed.append(docs)
    )
    monkeypatch.setattr(environment, "DOCS_MUST_BE_THERE", ("json",))

    def done() -> tuple[bool, bool]:
        return tuple(environment.is_done(root, python, ["logging"], docs=d) for d in (False, True))

    assert done() == (False, False)
    environment.fill(root, python, named=True, docs=False)
    assert done() == (True, False)
    environment.fill(root, python, named=True, docs=True)
    assert done() == (True, True)
    assert installed == [False, True]
    monkeypatch.setattr(environment, "DOCS_MUST_BE_THERE", ("a_package_that_was_removed",))
    assert done() == (True, False)


def test_the_site_brings_its_own_packages_and_nobody_elses(packages):
    lean = packages.requirements(ROOT)
    more = packages.requirements(ROOT, packages.EXTRAS + packages.DOCS)
    names = sorted(packages.pinned_name(line) for line in set(more) - set(lean))
    assert names == ["mkdocs", "mkdocs-material", "mkdocstrings[python]"]


def test_a_second_call_is_done_within_five_seconds(environment, tmp_path):
    """Issue 8, section 1, from a path with a blank and another working directory."""
    if any(importlib.util.find_spec(name) is None for name in environment.MUST_BE_THERE):
        pytest.skip("this environment was not made by tools/setup.sh")
    names = ("setup.sh", "setup_environment.py", "setup_checks.py", "setup_packages.py")
    root = checkout(tmp_path, *(f"tools/{name}" for name in names), *environment.DECIDING)
    python = Path(sys.executable)
    (root / ".setup").mkdir()
    environment.stamp_path(root, python).write_text(
        environment.fingerprint(root, python), encoding="utf-8"
    )
    start = time.monotonic()
    done = bash(root / "tools/setup.sh", "--print-python", cwd=tmp_path, RESDET_PYTHON=str(python))
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{python}\n", "")
    assert time.monotonic() - start < 5


def test_the_end_of_pips_log_is_shown_with_advice(packages, tmp_path):
    """Issue 8, section 1: what failed and what to do, not a bare exit code."""
    pip = packages.Pip(Path(sys.executable), tmp_path, tmp_path / "c.txt")
    (tmp_path / "c.txt").write_text("", encoding="utf-8")
    with pytest.raises(packages.SetupError) as caught:
        pip.install("Installing nothing", "--no-index", "resdet-no-such-package")
    text = str(caught.value)
    assert "No matching distribution found" in text and str(tmp_path / "log.txt") in text
    pip.log.write_text("OSError: [Errno 28] No space left on device", encoding="utf-8")
    assert "The disk is full" in pip.advice()
