"""The doctor: one line per finding, what to type for each lack, exit code 1 when it refuses."""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from resdet import doctor
from resdet.cli import doctor as command
from resdet.doctor import machine, software
from resdet.doctor.finding import FINE, REFUSE, WARN, CheckResult, import_error

ROOT = Path(__file__).resolve().parents[2]


def only(findings) -> CheckResult:
    (finding,) = findings
    return finding


def run_doctor(monkeypatch, findings, *, as_json: bool) -> int:
    monkeypatch.setattr(doctor, "examine", lambda: findings)
    return command.run(argparse.Namespace(json=as_json, decode=None, workers=None, opts=[]))


def test_json_is_one_object_and_nothing_else(monkeypatch, capsys):
    """docs/commands.md, streams."""
    findings = [
        CheckResult("torch", FINE, "2.14.1"),
        CheckResult("disk", WARN, "2 GB free", "make room"),
    ]
    assert run_doctor(monkeypatch, findings, as_json=True) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert json.loads(out) == {
        "ok": True,
        "findings": [
            {"name": "torch", "level": "fine", "text": "2.14.1", "fix": ""},
            {"name": "disk", "level": "warn", "text": "2 GB free", "fix": "make room"},
        ],
    }


@pytest.mark.parametrize("as_json", [False, True])
def test_the_exit_code_is_1_when_something_refuses(monkeypatch, capsys, as_json):
    """0 when detection can run, 1 when a check fails (docs/commands.md, exit codes)."""
    findings = [CheckResult("torch", REFUSE, "not installed", "bash tools/setup.sh")]
    assert run_doctor(monkeypatch, findings, as_json=as_json) == 1
    out = capsys.readouterr().out
    assert "bash tools/setup.sh" in out
    assert as_json or "Detection cannot run here: torch." in out


def test_it_runs_without_any_package_and_names_each():
    """F61 to F65: it is needed most where torch and Detectron2 are missing. -S hides them all."""
    done = subprocess.run(
        [sys.executable, "-S", "-m", "resdet", "doctor", "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)},
        timeout=60,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    result = json.loads(done.stdout)
    refused = {f["name"]: f["fix"] for f in result["findings"] if f["level"] == "refuse"}
    assert refused.keys() >= {"torch", "torchvision", "numpy", "detectron2"}
    assert all(refused.values())
    assert not result["ok"]


def test_a_package_that_breaks_while_importing_gives_a_line(tmp_path, monkeypatch):
    """Broken extensions raise anything; +cpu torch breaks torchvision so."""
    (tmp_path / "broken_extension.py").write_text(
        "raise RuntimeError('operator torchvision::nms does not exist\\nmore')", encoding="utf-8"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    error = "RuntimeError: operator torchvision::nms does not exist"
    assert import_error("broken_extension") == error
    assert import_error("json") is None


def test_an_extension_for_another_numpy_is_refused(monkeypatch):
    """F62: cocodataset/cocoapi#509's sentence, with what to type; the others stay fine."""
    words = "ValueError: numpy.dtype size changed, may indicate binary incompatibility"
    monkeypatch.setattr(
        software, "import_error", lambda module: words if module == "pycocotools.mask" else None
    )
    levels = {check.name: check for check in software.check_needed()}
    assert levels["pycocotools"].level == REFUSE and words in levels["pycocotools"].text
    assert levels["pycocotools"].fix == software.SETUP
    assert {c.level for name, c in levels.items() if name != "pycocotools"} == {FINE}


@pytest.mark.parametrize(
    ("installed", "imports", "level", "words"),
    [
        ({"opencv-python": "5.0"}, True, FINE, "opencv-python 5.0"),
        ({"opencv-python-headless": "4.8"}, True, FINE, "opencv-python-headless 4.8"),
        ({"opencv-python": "5.0", "opencv-python-headless": "4.8"}, True, WARN, "share the folder"),
        ({"opencv-python": "5", "opencv-contrib-python": "4"}, False, REFUSE, "share the folder"),
        ({"opencv-python": "5.0"}, False, WARN, "does not import"),
        ({}, False, WARN, "not installed"),
    ],
)
def test_either_opencv_is_fine_and_two_are_not(monkeypatch, installed, imports, level, words):
    """F65: several distributions share the folder cv2."""
    monkeypatch.setattr(software, "import_error", lambda name: None if imports else "ImportError")
    finding = only(software.check_opencv(installed.get))
    assert (finding.level, words in finding.text) == (level, True)
    assert (finding.fix == "") == (level == FINE)


def test_unsafe_loading_is_reported(monkeypatch):
    """F64: the variable that switches torch's safety off is ignored and reported."""
    monkeypatch.setattr(software, "import_error", lambda name: None)
    monkeypatch.setenv(software.UNSAFE_LOAD, "1")
    finding = next(f for f in software.check_torch() if f.name == software.UNSAFE_LOAD)
    assert (finding.level, finding.fix) == (WARN, f"unset {software.UNSAFE_LOAD}")


def test_a_torchvision_without_its_torch_is_refused(monkeypatch):
    """torchvision of another build fails at import."""
    broken = {"torchvision.ops": "RuntimeError: operator torchvision::nms does not exist"}
    monkeypatch.setattr(software, "import_error", broken.get)
    monkeypatch.setattr(software, "version_of", lambda name: "1.0")
    levels = {f.name: f.level for f in software.check_torch()}
    assert (levels["torch"], levels["torchvision"]) == (FINE, REFUSE)


def test_compiled_operators_are_not_needed():
    """F61: resdet needs none of them, and reports whether they are there."""
    pytest.importorskip("detectron2", reason="Detectron2 is not installed")
    finding = only(software.check_detectron2())
    assert finding.level == FINE
    assert "compiled operators: yes" in finding.text or "no (not needed)" in finding.text


@pytest.mark.parametrize(
    ("keys", "words"),
    [({}, "the release 0.6 of 2021"), ({"FLOAT32_PRECISION": ""}, "main, after the release 0.6")],
)
def test_it_says_which_of_the_two_detectron2s_is_there(monkeypatch, keys, words):
    """Both have the version 0.6; main alone (02b5c4e) has a key for float32's precision."""
    config = pytest.importorskip("detectron2.config")
    monkeypatch.setattr(config, "get_cfg", lambda: keys)
    assert words in only(software.check_detectron2()).text


@pytest.mark.parametrize(
    ("capability", "level"), [((8, 0), FINE), ((7, 5), FINE), ((6, 1), REFUSE), ((12, 0), FINE)]
)
def test_a_gpu_older_than_every_build_is_refused(capability, level):
    """F68: a GPU too old for this torch, with its capability; newer ones run PTX."""
    gpu = SimpleNamespace(name="G", major=capability[0], minor=capability[1], total_memory=2**34)
    finding = machine.describe_gpu(gpu, ["sm_75", "sm_80", "sm_90a", "compute_120"])
    assert finding.level == level
    assert f"16 GiB, capability {capability[0]}.{capability[1]}" in finding.text


@pytest.mark.parametrize(
    ("free", "level"), [(64_000_000, WARN), (2_000_000_000, FINE)], ids=["container", "host"]
)
def test_small_shared_memory_states_how_to_start_the_container(monkeypatch, tmp_path, free, level):
    """F67: containers give 64 MB."""
    usage = shutil.disk_usage(tmp_path)._replace(free=free)
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda folder: usage)
    finding = only(machine.check_shared_memory(str(tmp_path)))
    assert finding.level == level
    assert ("--shm-size=2g" in finding.fix) == (level == WARN)


@pytest.mark.parametrize(("free", "level"), [(1e8, REFUSE), (2e9, WARN), (5e10, FINE)])
def test_a_full_disk_is_seen_before_it_is_full(monkeypatch, tmp_path, free, level):
    """F74: an R-101 checkpoint is about 480 MB, a run keeps three."""
    usage = shutil.disk_usage(tmp_path)._replace(free=int(free))
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda folder: usage)
    assert only(machine.check_disk(tmp_path)).level == level


@pytest.mark.parametrize(("hard", "level"), [(1024, WARN), (20000, FINE)])
def test_few_open_files_show_what_to_type(monkeypatch, hard, level):
    """F76: limits of 1024 are met with many workers."""
    resource = pytest.importorskip("resource", reason="this system has no limits")
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (1024, hard))
    finding = only(machine.check_files())
    assert (finding.level, finding.fix) == (level, "ulimit -n 8192" if level == WARN else "")


def test_memory_is_that_of_the_container(monkeypatch):
    """cgroup 2: memory.max below the machine's total is the limit; worked by hand."""
    texts = {
        "/proc/meminfo": "MemTotal: 16000000 kB\nMemAvailable: 12000000 kB\n",
        "/sys/fs/cgroup/memory.max": "4000000000\n",
        "/sys/fs/cgroup/memory.current": "1500000000\n",
    }
    monkeypatch.setattr(machine, "read", texts.__getitem__)
    finding = only(machine.check_memory())
    assert finding.level == WARN
    assert "2.5 of 4.0 GB free" in finding.text


def test_data_sets_are_told_by_family_and_broken_ones_one_by_one(monkeypatch):
    """A set that is not there is no fault: the embedded one needs no download."""
    what_is_there = pytest.importorskip("resdet.data.checks.what_is_there")
    rows = [
        {"name": "digits_train", "state": "missing", "hint": ""},
        {"name": "digits_test", "state": "missing", "hint": ""},
        {"name": "coco_2017_val", "state": "whole", "hint": ""},
        {"name": "voc_2007_train", "state": "missing", "hint": ""},
        {"name": "voc_2007_test", "state": "missing", "hint": ""},
        {"name": "voc_2012_val", "state": "broken", "hint": "5822 of 5823 images"},
        {"name": "voc_2012_train", "state": "missing", "hint": ""},
        {"name": "coco_2017_train", "state": "incomplete", "hint": "10,000 images"},
        {"name": "coco_2017_test", "state": "missing", "hint": ""},
        {"name": "coco_2017_test-dev", "state": "missing", "hint": ""},
    ]
    monkeypatch.setattr(what_is_there, "status", lambda: rows)
    findings = list(machine.check_data())
    texts = [f.text for f in findings]
    assert "found: coco_2017_val" in texts
    assert "made on first use: digits_*" in texts
    expected = "voc_2007_*, voc_2012_train, coco_2017_test, coco_2017_test-dev"
    assert f"not there: {expected}" in texts
    assert [f.name for f in findings if f.level == WARN] == ["voc_2012_val", "coco_2017_train"]
    assert "incomplete: 10,000 images" in texts


def test_the_commit_and_its_changes_are_told(tmp_path):
    """The environment in a run: git commit and dirty flag."""
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    assert software.git_state(tmp_path) is None

    def git(*command: str) -> None:
        name = ["-c", "user.name=n", "-c", "user.email=e@example.org"]
        subprocess.run(["git", *name, *command], cwd=tmp_path, check=True, capture_output=True)

    git("init", "-q")
    assert software.git_state(tmp_path) == "no commit yet"
    (tmp_path / "a").write_text("1", encoding="utf-8")
    git("add", "a")
    git("commit", "-qm", "a")
    clean = software.git_state(tmp_path)
    assert clean is not None and clean.startswith("commit ") and "changed" not in clean
    (tmp_path / "a").write_text("2", encoding="utf-8")
    assert software.git_state(tmp_path) == f"{clean}, changed"


def test_what_is_missing_is_concluded_in_one_line():
    """The last line a person reads; worked by hand."""
    fine, warn = CheckResult("a", FINE, ""), CheckResult("b", WARN, "")
    refuse = CheckResult("c", REFUSE, "")
    assert command.conclusion([fine]) == "Detection can run here."
    assert command.conclusion([fine, warn]) == "Detection can run here; worth a look: b."
    assert command.conclusion([refuse, warn]).startswith("Detection cannot run here: c.")
