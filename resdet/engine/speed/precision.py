"""bf16 and channels_last for the net's own layers, one key each; off leaves the stock path alone.

"auto" follows the device: bf16 where it has such instructions, channels_last where bf16 is on;
elsewhere emulation would be slower than float32.

Not for: losses and box arithmetic, which stay in float32.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from resdet.engine.speed.cpu_features import has_bf16_instructions


def has_bf16(device: str) -> bool:
    """Whether the device computes bfloat16 natively; emulation would be slower than float32."""
    if device.startswith("cuda"):
        # Not emulated, as on a V100 and a T4, where float32 is faster.
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    return has_bf16_instructions()


def set_arithmetic(tf32: str, deterministic: bool, cudnn_benchmark: bool) -> None:
    """What torch may use in this process; off, False and False leave its own settings.

    Args:
        tf32, deterministic: as ENGINE.TF32 and ENGINE.DETERMINISTIC.
        cudnn_benchmark: as CUDNN_BENCHMARK: the fastest algorithm for each size is looked for,
            which pays where sizes come again.
    """
    if tf32 != "off":
        torch.backends.cuda.matmul.allow_tf32 = tf32 == "on"
        torch.backends.cudnn.allow_tf32 = tf32 == "on"
    if cudnn_benchmark:
        torch.backends.cudnn.benchmark = True
    if deterministic:
        # cuBLAS reads it when it starts, and is not deterministic without.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.backends.cudnn.benchmark = False
        torch.use_deterministic_algorithms(True)


def describe_arithmetic() -> str:
    """What torch may use on a GPU in this process, for the log."""
    cudnn = torch.backends.cudnn
    tf32 = {
        "convolutions": cudnn.allow_tf32,
        "matrix products": torch.backends.cuda.matmul.allow_tf32,
    }
    where = " and ".join(name for name, allowed in tf32.items() if allowed) or "nothing"
    choice = "by trying all" if cudnn.benchmark else "by rule"
    bits = "the same" if torch.are_deterministic_algorithms_enabled() else "not always the same"
    return (
        f"TensorFloat-32 in {where} (ENGINE.TF32), cuDNN's algorithms chosen {choice} "
        f"(CUDNN_BENCHMARK), {bits} bits in every run (ENGINE.DETERMINISTIC)"
    )


@dataclass(frozen=True)
class Precision:
    """How the net's layers compute on `device` ("cpu", "cuda")."""

    device: str = "cpu"
    bf16: bool = False
    channels_last: bool = False

    @classmethod
    def of(cls, device: str, bf16: str, channels_last: str) -> Precision:
        """From the values of ENGINE.BF16 and ENGINE.CHANNELS_LAST.

        Raises:
            ValueError: a value is none of off, on, auto.
        """
        device = device.split(":")[0]
        for key, value in (("BF16", bf16), ("CHANNELS_LAST", channels_last)):
            if value not in ("off", "on", "auto"):
                raise ValueError(f"ENGINE.{key} is {value!r}, expected off, on or auto")
        use_bf16 = has_bf16(device) if bf16 == "auto" else bf16 == "on"
        last = use_bf16 if channels_last == "auto" else channels_last == "on"
        return cls(device, use_bf16, last)

    @classmethod
    def of_config(cls, cfg: Any) -> Precision:
        """Of a resolved config; raises as `of`."""
        return cls.of(cfg.MODEL.DEVICE, cfg.ENGINE.BF16, cfg.ENGINE.CHANNELS_LAST)

    @property
    def is_stock(self) -> bool:
        return not (self.bf16 or self.channels_last)

    def input(self, x: torch.Tensor) -> torch.Tensor:
        return x.contiguous(memory_format=torch.channels_last) if self.channels_last else x

    @contextlib.contextmanager
    def autocast(self) -> Iterator[None]:
        with (
            torch.autocast(self.device, torch.bfloat16, enabled=True)
            if self.bf16
            else contextlib.nullcontext()
        ):
            yield

    def __str__(self) -> str:
        layout = ", channels_last" if self.channels_last else ""
        return ("bfloat16" if self.bf16 else "float32") + layout
