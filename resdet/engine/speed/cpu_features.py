"""What this CPU can do, told without torch.

Not for: GPUs.
"""

from __future__ import annotations

from pathlib import Path


def has_bf16_instructions() -> bool:
    """Whether the CPU computes bfloat16 natively; emulation would be slower than float32."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags
