"""Set-up: scripts, pins, checks, stamps and the Detectron2 installer; nothing is fetched."""

from __future__ import annotations

import ast
import base64
import hashlib
import importlib
import os
import re
import shutil
import stat
import subprocess
import sys
import time
import venv
import zipfile
from pathlib import Path
from types import ModuleType

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = ("tools/setup.sh", "tools/demo.sh", "tools/test.sh", "tools/docs.sh", ".ci/run")
ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/nonexistent"}


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch):
    """Imports a module of tools/ by name, as the scripts there do."""
    monkeypatch.syspath_prepend(str(ROOT / "tools"))

    def load(name: str) -> ModuleType:
        return importlib.import_module(name)

    return load


@pytest.fixture
def installer(tool):
    return tool("install_detectron2")


@pytest.fixture
def packages(tool):
    return tool("setup_packages")


@pytest.fixture
def checks(tool):
    return tool("setup_checks")


@pytest.fixture
def environment(tool):
    return tool("setup_environment")


def executable(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def bash(script: Path, *arguments: str, cwd: Path | None = None, **extra: str):
    return subprocess.run(
        ["bash", str(script), *arguments],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env={**ENVIRONMENT, **extra},
        cwd=cwd or "/",
        timeout=60,
        check=False,
    )


def checkout(tmp_path: Path, *names: str) -> Path:
    """A folder with a blank, a # and an accent in its name that holds these files of ours."""
    root = tmp_path / "mes données #1" / "resdet"
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, root / name)
    return root


# -- the Detectron2 installer --------------------------------------------------------------


def files_for_edits(installer, edits) -> dict[str, bytes]:
    """The least files in which every edit of the table occurs as often as it states."""
    files: dict[str, bytes] = {}
    for edit in edits:
        files[edit.file] = files.get(edit.file, b"") + edit.old.encode() * edit.times
    return files


def test_every_edit_of_the_table_is_made_and_its_file_marked_as_changed(installer):
    """Apache-2.0, 4(b): modified files carry a notice. 15 files."""
    files = files_for_edits(installer, installer.EDITS)
    changed = installer.apply_edits(files)
    assert len(changed) == 15
    for edit in installer.EDITS:
        text = changed[edit.file].decode()
        first, _, rest = text.partition("\n")
        assert first.startswith("# Changed for resdet") and edit.reason in first
        assert rest.count(edit.new) >= edit.times or not edit.new


@pytest.mark.parametrize("times", [0, 2], ids=["absent", "too often"])
def test_an_edit_that_matches_another_number_of_times_stops_the_installation(installer, times):
    """Each edit must match exactly as often as expected, else stop."""
    edit = installer.Edit("a.py", "np.int\n", "int\n", 1, "numpy")
    with pytest.raises(installer.InstallError, match=rf"a.py.*stands {times} times, expected 1"):
        installer.apply_edits({"a.py": b"np.int\n" * times}, [edit])


def test_an_edit_of_a_file_that_is_not_there_stops_the_installation(installer):
    """The same rule for the file itself."""
    edit = installer.Edit("gone.py", "a", "b", 1, "why")
    with pytest.raises(installer.InstallError, match=r"gone.py is not in the archive"):
        installer.apply_edits({}, [edit])


def test_an_archive_with_another_hash_is_refused_before_it_is_opened(installer, tmp_path):
    """The archive is code of others: only the examined one may run."""
    archive = tmp_path / "other.tar.gz"
    archive.write_bytes(b"not a tar")
    with pytest.raises(installer.InstallError, match=f"expected {installer.SHA256}"):
        installer.install(sys.executable, archive)


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("detectron2/engine/hooks.py", "detectron2/engine/hooks.py"),
        ("projects/DeepLab/deeplab/loss.py", "detectron2/projects/deeplab/loss.py"),
        ("LICENSE", "LICENSE"),
        ("tools/train_net.py", None),
        ("setup.py", None),
    ],
)
def test_the_stray_top_level_tools_stay_out(installer, name, place):
    """A stray tools/ in the archive would shadow ours."""
    assert installer.wheel_place(name) == place


def test_the_wheel_holds_the_license_true_hashes_and_init_last(installer, tmp_path):
    """RECORD by the wheel specification; __init__ last, so that half a copy does not import."""
    files = {"LICENSE": b"Apache", "detectron2/__init__.py": b"v", "detectron2/z.py": b"z"}
    with zipfile.ZipFile(installer.write_wheel(files, tmp_path)) as wheel:
        names = wheel.namelist()
        record = wheel.read(names[0]).decode()
        assert names[-1] == "detectron2/__init__.py"
        info = f"detectron2-{installer.VERSION}.dist-info"
        assert wheel.read(f"{info}/LICENSE") == b"Apache"
        lines = [line.split(",") for line in record.splitlines() if "sha256=" in line]
        assert len(lines) == len(names) - 1
        for name, digest, size in lines:
            data = wheel.read(name)
            expected = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=")
            assert (digest, int(size)) == (f"sha256={expected.decode()}", len(data))


def test_a_detectron2_that_works_stays(installer, monkeypatch, capsys):
    """A user's own build wins where it is found."""
    monkeypatch.setattr(installer, "installed", lambda python: "0.6 /own/detectron2/__init__.py")
    monkeypatch.setattr(installer, "install", lambda *a: pytest.fail("installed over it"))
    assert installer.main([]) == 0
    assert "stays: 0.6 /own/" in capsys.readouterr().out


def test_half_a_detectron2_does_not_count_as_installed(installer, tmp_path):
    """A folder without __init__.py imports as a namespace, as after an interrupted copy."""
    venv.create(tmp_path / "env", with_pip=False)
    site = next((tmp_path / "env" / "lib").glob("python*")) / "site-packages"
    (site / "detectron2" / "engine").mkdir(parents=True)
    assert installer.installed(str(tmp_path / "env" / "bin" / "python")) is None


def test_missing_operators_give_their_name_when_called_and_not_before(installer):
    """The op states what is missing when called."""
    scope: dict[str, object] = {}
    exec(installer.ADDED_FILES["detectron2/_no_operators.py"], scope)
    operators = scope["_C"]
    with pytest.raises(RuntimeError, match=r"detectron2._C.nms_rotated is a compiled operator"):
        getattr(operators, "nms_" + "rotated")
    assert not hasattr(operators, "__wrapped__")


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


# -- the scripts ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", SCRIPTS)
def test_each_script_parses_and_stops_at_errors(name):
    """bash -n; set -u catches misspelt variables."""
    done = subprocess.run(["bash", "-n", str(ROOT / name)], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert re.search(r"^set -[e]?uo pipefail$", (ROOT / name).read_text(encoding="utf-8"), re.M)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (None, "no such program"),
        ('[ "$1" = --version ] && echo Python 3.8.1; exit 1', "Python 3.8.1"),
    ],
    ids=["missing", "too old"],
)
def test_a_python_that_will_not_do_is_named(tmp_path, body, words):
    """Issue 8, section 1: checks Python first and states what is short; exit code 2."""
    python = tmp_path / "my python"
    if body:
        executable(python, f"#!/bin/sh\n{body}\n")
    root = checkout(tmp_path, "tools/setup.sh")
    done = bash(root / "tools/setup.sh", RESDET_PYTHON=str(python))
    assert done.returncode == 2
    assert "Set-up stopped:" in done.stderr and words in done.stderr


@pytest.mark.parametrize("given", ["env", "env/bin/python"])
def test_resdet_python_may_be_a_python_or_its_environment(tmp_path, given):
    """What follows sees the same Python either way."""
    root = checkout(tmp_path, "tools/setup.sh")
    (root / "tools/setup_environment.py").write_text("", encoding="utf-8")
    (tmp_path / "env" / "bin").mkdir(parents=True)
    executable(tmp_path / "env/bin/python", '#!/bin/sh\n[ "$1" = -c ] || echo "$0" "$@"\n')
    done = bash(root / "tools/setup.sh", "--print-python", RESDET_PYTHON=str(tmp_path / given))
    expected = (tmp_path / "env/bin/python", root / "tools/setup_environment.py", "--named")
    assert done.stdout == f"{' '.join(map(str, expected))} --print-python\n"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("demo.sh", "-m resdet demo --seed 1 a b"),
        ("test.sh", "-m pytest -n auto --maxprocesses=8 -rs --seed 1 a b"),
    ],
)
def test_demo_and_test_set_up_and_pass_their_arguments_on(tmp_path, name, expected):
    """Issue 8, section 1: each sets up what it needs and then does its job, from anywhere."""
    root = checkout(tmp_path, f"tools/{name}")
    python = executable(tmp_path / "python", '#!/bin/sh\necho "$PYTHONPATH|$@"\n')
    (root / "tools/setup.sh").write_text(f"echo '{python}'\n", encoding="utf-8")
    done = bash(root / "tools" / name, "--seed", "1", "a b", cwd=tmp_path)
    assert done.stdout == f"{root}|{expected}\n"


def test_the_site_is_gathered_built_strictly_and_looked_through(tmp_path):
    """In that order, with the site's packages, from anywhere."""
    root = checkout(tmp_path, "tools/docs.sh")
    python = executable(tmp_path / "python", '#!/bin/sh\necho "$@"\n')
    setup = f'echo "set-up $@" >&2\necho "{python}"\n'
    (root / "tools/setup.sh").write_text(setup, encoding="utf-8")
    done = bash(root / "tools/docs.sh", "--dirty", cwd=tmp_path)
    assert done.stderr == "set-up --docs --print-python\n"
    assert done.stdout.splitlines() == [
        f"{root}/tools/docs_site.py",
        f"-m mkdocs build --strict --quiet --config-file {root}/build/site/mkdocs.yml --dirty",
        f"{root}/tools/docs_site.py --check",
        f"The site is in {root}/build/site/html.",
    ]


@pytest.mark.parametrize("name", ["demo.sh", "test.sh", "docs.sh"])
def test_nothing_starts_when_the_set_up_stops(tmp_path, name):
    """The exit code of the set-up is the script's."""
    root = checkout(tmp_path, f"tools/{name}")
    (root / "tools/setup.sh").write_text("echo stopped >&2\nexit 2\n", encoding="utf-8")
    done = bash(root / "tools" / name)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "stopped\n")


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
