"""What this CPU can do, and what the environment lets its libraries use, told without torch.

Not for: GPUs.
"""

from __future__ import annotations

import os
from pathlib import Path

# oneDNN takes the first of these that is set, in any case of letters; ATen its own, in small ones.
ONEDNN_LIMITS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")
ATEN_LIMIT = "ATEN_CPU_CAPABILITY"
# Sets without bfloat16 arithmetic, by their names there. oneDNN's other names have it (AVX2_VNNI_2
# only converts: convolutions take five times as long as in float32). Unknown names set no limit.
_ONEDNN_WITHOUT_BF16 = frozenset(
    {"SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2", "AVX512_CORE", "AVX512_CORE_VNNI"}
)
_ATEN_WITHOUT_BF16 = frozenset({"default", "avx2"})


def has_bf16_instructions() -> bool:
    """Whether torch computes bfloat16 natively here; emulation would be slower than float32.

    A limit that the environment sets for oneDNN or ATen counts as if the CPU were such a one.
    """
    if _onednn_limit().upper() in _ONEDNN_WITHOUT_BF16 or aten_limit() in _ATEN_WITHOUT_BF16:
        return False
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def instruction_limits() -> str:
    """Limits of instructions that the environment sets, ", …" for a line about the CPU, or ""."""
    names = (*ONEDNN_LIMITS, ATEN_LIMIT, "MKL_ENABLE_INSTRUCTIONS", "MKL_CBWR")
    return "".join(f", {name}={os.environ[name]}" for name in names if os.environ.get(name))


def _onednn_limit() -> str:
    return next((os.environ[name] for name in ONEDNN_LIMITS if os.environ.get(name)), "")


def aten_limit() -> str:
    """The value of ATEN_CPU_CAPABILITY, "" where it is not set."""
    return os.environ.get(ATEN_LIMIT, "")
