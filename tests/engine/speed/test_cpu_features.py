"""bf16 instructions: the CPU's flags, within the limits that the environment sets."""

import os
import subprocess
import sys

import pytest

from resdet.engine.speed import cpu_features

NAMES = (
    *cpu_features.ONEDNN_LIMITS,
    cpu_features.ATEN_LIMIT,
    "MKL_ENABLE_INSTRUCTIONS",
    "MKL_CBWR",
)
# Made by a flag in /proc/cpuinfo: what each kind of CPU has.
FLAGS = {"none": "avx2 fma", "AVX-512": "avx512f avx512_bf16", "AMX": "avx512f amx_tile amx_bf16"}


@pytest.fixture
def flags(monkeypatch, tmp_path):
    """Sets the CPU's flags; no limit is set."""
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    info = tmp_path / "cpuinfo"
    monkeypatch.setattr(cpu_features, "Path", lambda path: info)
    return lambda text: info.write_text(f"flags\t\t: {text}\n", encoding="utf-8")


@pytest.mark.parametrize(("kind", "expected"), [("none", False), ("AVX-512", True), ("AMX", True)])
def test_the_flags_tell(kind, expected, flags):
    flags(FLAGS[kind])
    assert cpu_features.has_bf16_instructions() is expected
    assert cpu_features.instruction_limits() == ""


def test_without_the_list_of_flags_there_are_none(flags):
    assert not cpu_features.has_bf16_instructions()


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({"ONEDNN_MAX_CPU_ISA": "AVX2"}, False),
        ({"ONEDNN_MAX_CPU_ISA": "avx512_core"}, False),  # oneDNN reads either case
        ({"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_BF16"}, True),
        ({"ONEDNN_MAX_CPU_ISA": "DEFAULT"}, True),
        ({"ONEDNN_MAX_CPU_ISA": "AVX3"}, True),  # no set of its: no limit
        ({"DNNL_MAX_CPU_ISA": "SSE41"}, False),
        ({"ONEDNN_MAX_CPU_ISA": "", "DNNL_MAX_CPU_ISA": "SSE41"}, False),
        # The newer name wins.
        ({"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_AMX", "DNNL_MAX_CPU_ISA": "SSE41"}, True),
        ({"ATEN_CPU_CAPABILITY": "avx2"}, False),
        ({"ATEN_CPU_CAPABILITY": "default"}, False),
        ({"ATEN_CPU_CAPABILITY": "avx512"}, True),
        ({"ATEN_CPU_CAPABILITY": "AVX2"}, True),  # ATen warns and ignores it
    ],
)
def test_a_limit_of_the_environment_counts_as_the_cpu(limits, expected, flags, monkeypatch):
    flags(FLAGS["AMX"])
    for name, value in limits.items():
        monkeypatch.setenv(name, value)
    assert cpu_features.has_bf16_instructions() is expected
    words = [f"{name}={value}" for name, value in limits.items() if value]
    assert cpu_features.instruction_limits() == "".join(f", {word}" for word in words)


def test_auto_follows_the_limit_and_a_run_names_it():
    """In a process of its own: libraries read their limits once."""
    pytest.importorskip("detectron2")
    program = (
        "from resdet.cli.training.training_command import device_name; "
        "from benchmarks.claims import machine; "
        "from resdet.engine.speed.precision import Precision; "
        "print(Precision.of('cpu', 'auto', 'auto')); print(device_name('cpu')); "
        "print(machine()['capability'])"
    )
    limits = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}
    environment = {k: v for k, v in os.environ.items() if k not in NAMES} | limits
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    precision, device, capability = done.stdout.splitlines()
    assert precision == "float32"
    expected = "AVX2, ONEDNN_MAX_CPU_ISA=AVX2, ATEN_CPU_CAPABILITY=avx2"
    assert device.endswith(f", {expected}") and capability == expected
