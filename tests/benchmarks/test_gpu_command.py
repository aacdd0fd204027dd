"""`python -m benchmarks --gpu`: its page without a GPU, what it keeps, and its table."""

from __future__ import annotations

import argparse
import importlib
import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

pytest.importorskip("detectron2")

from benchmarks import __main__ as runner
from benchmarks import claims, two_processes
from benchmarks.claims import Claim
from benchmarks.gpu import command, device, part, scaling
from benchmarks.gpu.turns_on_gpu import GPUWay, take_turns

GPU = {"gpu": "A GPU", "gpus": 2, "gpu_memory_mb": 16384, "driver": "550.54", "cuda": "12.4",
       "processor": "P", "cores": 8}  # fmt: skip
TIMED = Claim(
    "a step", "done so", claims.rows({"stock": [4.0, 6.0], "ours": [2.0, 2.0]}, {"ours": 10.0}),
    2, "gradients 1e-7", True, left_out={"COMPILE": "ConfigError: triton is not installed"},
)  # fmt: skip
COMPARED = Claim("parity, net", "losses", [], 0, "loss 1e-7 (bound 1e-3)", True)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A machine that has GPUs, by its word; results and page in a folder of their own."""
    page = tmp_path / "speed.md"
    page.write_text(f"before\n{command.MARKS[0]}\nnothing\n{command.MARKS[1]}\nafter\n", "utf-8")
    for name, value in {"RESULTS": tmp_path / "results_gpu.json", "PAGE": page}.items():
        monkeypatch.setattr(command, name, value)
    monkeypatch.setattr(command, "missing_gpu", lambda: "")
    monkeypatch.setattr(command, "machine", lambda: GPU)
    return tmp_path


def results(place):
    return json.loads((place / "results_gpu.json").read_text("utf-8"))["parts"]


@pytest.mark.parametrize(
    ("cuda", "expected"),
    [(None, "is built without CUDA. Set up again"), ("12.4", "`nvidia-smi` must list one")],
)
def test_without_a_gpu_a_page_says_what_to_do(monkeypatch, capsys, cuda, expected) -> None:
    """Exit code 2, the reason, and the command for a CPU; nothing runs."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(command, "run_one", lambda *_: pytest.fail("a part ran"))
    assert runner.main(["--gpu", "--quick"]) == 2
    page = capsys.readouterr().err
    assert expected in page and "On the CPU: python -m benchmarks" in page
    # A part by itself, too.
    assert importlib.import_module("benchmarks.gpu.pooling").main(["--quick"]) == 2


def test_parity_is_first_and_every_part_has_the_common_flags(capsys) -> None:
    assert command.PARTS[0] == "parity" and len(command.PARTS) == 7
    for name in command.PARTS:
        with pytest.raises(SystemExit) as ended:
            importlib.import_module(f"benchmarks.gpu.{name}").main(["--help"])
        assert ended.value.code == 0
        page = capsys.readouterr().out
        assert all(flag in page for flag in ("--quick", "--json", "--rounds"))


def test_a_part_that_fails_costs_neither_itself_nor_the_others(place, monkeypatch, capsys) -> None:
    """One is killed after its first claim, one has nothing to do here, one is whole."""
    found = {
        "parity": ({"claims": [asdict(COMPARED)], "failed": [{"name": "x", "why": "OOM"}]}, 1),
        "pooling": ({"claims": [asdict(TIMED)], "failed": []}, 0),
        "scaling": ({"claims": [], "failed": []}, claims.NOT_HERE),
    }
    monkeypatch.setattr(command, "run_one", lambda name, quick: found[name])
    assert command.main(["--only", *found]) == 1
    assert list(results(place)) == ["parity", "pooling"]
    assert results(place)["pooling"]["machine"]["driver"] == "550.54"
    assert {"date", "versions"} < set(results(place)["parity"])
    out = capsys.readouterr().out
    assert "parity: x: OOM" in out and "scaling does not apply" in out
    page = (place / "speed.md").read_text("utf-8")
    assert page.startswith("before\n") and page.endswith("after\n") and "nothing" not in page
    # Another part later: what was found before stays.
    monkeypatch.setattr(command, "run_one", lambda name, quick: found["pooling"])
    assert command.main(["--only", "loading"]) == 0
    assert set(results(place)) == {"parity", "pooling", "loading"}


def test_quick_keeps_nothing(place, monkeypatch) -> None:
    whole = {"claims": [asdict(TIMED)], "failed": []}
    monkeypatch.setattr(command, "run_one", lambda name, quick: (whole, 0))
    before = (place / "speed.md").read_text("utf-8")
    assert command.main(["--quick"]) == 0
    assert not (place / "results_gpu.json").exists()
    assert (place / "speed.md").read_text("utf-8") == before


def test_a_killed_part_is_named_with_its_code(monkeypatch) -> None:
    """As by the driver, or for memory: what it wrote before is kept."""

    def killed(words, **options):
        page = {"claims": [asdict(TIMED)], "failed": []}
        with open(words[words.index("--json") + 1], "w", encoding="utf-8") as file:
            json.dump(page, file)
        return argparse.Namespace(returncode=-9)

    monkeypatch.setattr(command.subprocess, "run", killed)
    found, code = command.run_one("pooling", quick=True)
    assert code == -9 and len(found["claims"]) == 1
    assert found["failed"] == [{"name": "pooling", "why": "ended with -9"}]


def test_the_table_has_ratios_with_their_spread_and_what_is_missing() -> None:
    """By hand: 5 s against 2 s is 2.5 times, in the rounds 2 and 3 times."""
    record = {"claims": [asdict(COMPARED), asdict(TIMED)],
              "failed": [{"name": "VGG-16", "why": "OutOfMemoryError: 2 GiB"}],
              "machine": GPU, "versions": {"torch": "2.6"}, "date": "2026-12-01"}  # fmt: skip
    text = command.tables({"parity": record})
    assert text.startswith("2 x A GPU (16 GiB), driver 550.54, CUDA 12.4, P, 8 cores, torch 2.6")
    assert "| parity, net | loss 1e-7 (bound 1e-3) |" in text
    assert "| a step | stock: 5 s | ours **2.50** [2.00 to 3.00] (10 MB) |" in text
    assert "- a step, COMPILE: ConfigError: triton is not installed" in text
    assert "- VGG-16: OutOfMemoryError: 2 GiB" in text


def test_a_case_that_fails_or_computes_something_else_is_named(tmp_path, capsys) -> None:
    args = argparse.Namespace(json=tmp_path / "found.json")

    def fails() -> Claim:
        raise RuntimeError("CUDA error: an illegal memory access\nmore")

    cases = {"first": fails, "second": lambda: TIMED, "third": lambda: replace(TIMED, agrees=False)}
    assert part.run_cases(cases, args) == 1
    page = json.loads(args.json.read_text("utf-8"))
    assert [claim["name"] for claim in page["claims"]] == ["a step"]
    assert page["failed"] == [
        {"name": "first", "why": "RuntimeError: CUDA error: an illegal memory access"},
        {"name": "a step", "why": "not the same: gradients 1e-7"},
    ]
    assert "not measured: ConfigError: triton" in capsys.readouterr().out
    assert part.run_cases({}, args) == claims.NOT_HERE


class Clock:
    """torch.cuda as a machine that counts: what is allocated, and the most that was."""

    def __init__(self, monkeypatch):
        self.now = self.most = 0
        self.order: list[str] = []
        for name, call in {
            "memory_allocated": lambda device: self.now << 20,
            "max_memory_allocated": lambda device: self.most << 20,
            "reset_peak_memory_stats": lambda device: setattr(self, "most", self.now),
            "synchronize": lambda device: self.order.append("wait"),
            "empty_cache": lambda: None,
        }.items():
            monkeypatch.setattr(torch.cuda, name, call)

    def take(self, number):
        self.now += number
        self.most = max(self.most, self.now)

    def way(self, name, keeps, needs, fails_at=None):
        """Keeps so many MB, needs so many more in a step; fails in the step of this number."""

        def make():
            self.take(keeps)
            taken = []

            def step():
                if len(taken) == fails_at:
                    raise torch.OutOfMemoryError("CUDA out of memory.\nmore")
                taken.append(0)
                self.order.append(name)
                self.take(needs)
                self.now -= needs

            return step

        return GPUWay(make, units=2)


def test_turns_wait_for_the_gpu_and_memory_is_each_ways_own(monkeypatch) -> None:
    """By hand: a keeps 3 and needs 5 more; b keeps 10 and needs 2; neither has the other's."""
    clock = Clock(monkeypatch)
    ways = {"a": clock.way("a", 3, 5), "b": clock.way("b", 10, 2)}
    timed = take_turns(ways, "cuda", rounds=2, steps=2, warm_up=1)
    turn_a, turn_b = ["wait", "a", "a", "wait"], ["wait", "b", "b", "wait"]
    assert clock.order == ["a", "wait", "b", "wait", *turn_a, *turn_b, *turn_a, *turn_b]
    assert timed.peaks == {"a": 8, "b": 12}
    assert [len(seconds) for seconds in timed.seconds.values()] == [2, 2] and not timed.failed


@pytest.mark.parametrize("fails_at", [0, 2])
def test_a_way_without_memory_is_left_out_and_the_peer_must_run(monkeypatch, fails_at) -> None:
    """While it warms up, and in a turn."""
    clock = Clock(monkeypatch)
    ways = {"a": clock.way("a", 3, 5), "b": clock.way("b", 10, 2, fails_at)}
    timed = take_turns(ways, "cuda", rounds=2, steps=2, warm_up=1)
    assert timed.failed == {"b": "OutOfMemoryError: CUDA out of memory."}
    assert list(timed.seconds) == list(timed.peaks) == ["a"]
    peer = {"b": clock.way("b", 10, 2, fails_at), "a": clock.way("a", 3, 5)}
    with pytest.raises(RuntimeError, match="b, which the others are compared with: OutOfMemory"):
        take_turns(peer, "cuda", rounds=2, steps=2, warm_up=1)


def test_arithmetic_is_put_back() -> None:
    def now():
        cudnn = torch.backends.cudnn
        flags = torch.backends.cuda.matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark
        return *flags, torch.are_deterministic_algorithms_enabled()

    before = now()
    with device.arithmetic("on", cudnn_benchmark=True):
        assert now() == (True, True, True, False)
        with device.arithmetic("never", deterministic=True):
            assert now() == (False, False, False, True)
        assert now() == (True, True, True, False)
    assert now() == before


def test_scaling_starts_the_commands_on_one_gpu_to_all(monkeypatch) -> None:
    """Three GPUs: one process, then two and three of torchrun, in turns; no core is pinned."""
    commands = []

    def ran(words, **options):
        commands.append(words)
        assert options["preexec_fn"] is None
        output = Path(words[words.index("--output") + 1])
        output.mkdir()
        (output / "metrics.json").write_text('{"time": 0.6, "total_loss": 1.5}', encoding="utf-8")
        return argparse.Namespace(returncode=0)

    monkeypatch.setattr(scaling, "make_folder", lambda *_: None)
    monkeypatch.setattr(two_processes.subprocess, "run", ran)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    cases = scaling.cases(argparse.Namespace(quick=True, rounds=1))
    assert list(cases) == [
        "classification, no workers", "classification, WORKERS auto",
        "detection, no workers", "detection, WORKERS auto",
    ]  # fmt: skip
    claim = cases["detection, WORKERS auto"]()
    # 0.6 s a step, two images a GPU.
    assert {r.name: round(r.seconds, 6) for r in claim.rows} == {
        "1 GPU": 0.3, "2 GPUs": 0.15, "3 GPUs": 0.1,
    }  # fmt: skip
    assert "torch.distributed.run" not in commands[0]
    assert "--nproc-per-node=2" in commands[1] and "--nproc-per-node=3" in commands[2]
    for number, words in enumerate(commands, 1):
        assert words[words.index("MODEL.DEVICE") + 1] == "cuda"
        assert words[words.index("SOLVER.IMS_PER_BATCH") + 1] == str(2 * number)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert scaling.cases(argparse.Namespace(quick=True, rounds=1)) == {}


def test_the_page_has_the_marks_and_what_was_found() -> None:
    """docs/speed.md: the table of the results file, or that there is none yet."""
    text = command.PAGE.read_text(encoding="utf-8")
    expected = command.NOT_MEASURED
    if command.RESULTS.exists():
        expected = command.tables(json.loads(command.RESULTS.read_text("utf-8"))["parts"])
    assert claims.put_between(text, expected, command.MARKS, "speed.md") == text
