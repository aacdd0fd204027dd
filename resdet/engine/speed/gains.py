"""What each setting of speed was measured to gain in training classifiers, said at the start.

Numbers come from the benchmark that is named beside them and from nowhere else; where none was
measured, the line says so.

Not for: choosing settings (the "auto" of each key does, by device), or detection.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from resdet.engine.speed.precision import has_bf16

# Short names of settings, and the key that turns each on where the device can.
KEYS = {
    "bfloat16": "ENGINE.BF16 auto",
    "channels_last": "ENGINE.CHANNELS_LAST auto",
    "fused SGD": "ENGINE.FUSED_OPTIMIZER auto",
    "memory kept": "ENGINE.KEEP_MEMORY auto",
    "compiled": "ENGINE.COMPILE on",
}
BF16_CPU, OTHER_CPU, GPU = (
    "a CPU with bf16 instructions",
    "a CPU without bf16 instructions",
    "a GPU",
)


@dataclass(frozen=True)
class Gain:
    """One row of a benchmark.

    Attributes:
        device: kind of device.
        net: what was trained, and the script.
        on: settings, of `KEYS`.
        times: how many times as fast as with all keys off.
        when: the date, and with how many threads.
    """

    device: str
    net: str
    on: frozenset[str]
    times: float
    when: str


_BOTH = frozenset({"bfloat16", "channels_last"})
_ALL_BUT_COMPILED = frozenset(KEYS) - {"compiled"}
_RESNET18 = "ResNet-18 at 224 on JPEGs, benchmarks.classification_training"
_DECODED_SMALL = (
    "ResNet-18 at 224 on JPEGs with PRETRAIN.SCALED_DECODE on, benchmarks.classification_training"
)
_RESNET20 = "CIFAR's ResNet-20, benchmarks.cifar"
_WHEN = "2026-11-28, 2 threads"
MEASURED = (
    Gain(BF16_CPU, _RESNET18, _BOTH, 1.90, _WHEN),
    Gain(BF16_CPU, _DECODED_SMALL, _ALL_BUT_COMPILED, 2.23, _WHEN),
    Gain(BF16_CPU, _DECODED_SMALL, frozenset(KEYS), 2.05, _WHEN),
    Gain(BF16_CPU, _RESNET20, _BOTH, 1.47, _WHEN),
    Gain(BF16_CPU, _RESNET20, _ALL_BUT_COMPILED, 1.78, _WHEN),
    Gain(BF16_CPU, _RESNET20, frozenset(KEYS), 1.90, _WHEN),
)


def kind_of(device: str) -> str:
    if device.startswith("cuda"):
        return GPU
    return BF16_CPU if has_bf16(device) else OTHER_CPU


def lines(device: str, on: Iterable[str], measured: Iterable[Gain] = MEASURED) -> list[str]:
    """What the settings that are on gain, and what others would; for the log.

    Args:
        device: MODEL.DEVICE. on: of `KEYS`.
    """
    settings, kind = frozenset(on), kind_of(device)
    names = ", ".join(name for name in KEYS if name in settings) or "all keys off"
    here = [gain for gain in measured if gain.device == kind]
    if not here:
        return [f"speed: {names}. What keys gain on {kind} was not measured; benchmarks/ does it"]
    now = [gain for gain in here if gain.on == settings]
    if now:
        names += f". Times as fast as with all keys off: {_said(now)}"
    elif settings:
        names += f". What these gain on {kind} was not measured"
    found = [f"speed: {names}"]
    for others in _better(now, settings, here):
        keys = " ".join(KEYS[name] for name in KEYS if name in others[0].on - settings)
        found.append(f"speed: with {keys} too it would be {_said(others)}")
    return found


def _better(now: list[Gain], settings: frozenset[str], here: list[Gain]) -> list[list[Gain]]:
    """The best row of each net that only adds settings and gains more; rows that add the same
    settings together."""
    best = {gain.net: (gain.times, settings) for gain in now}
    for gain in here:
        if gain.on > settings and gain.times > best.get(gain.net, (1.0, settings))[0]:
            best[gain.net] = (gain.times, gain.on)
    added = sorted({on for _, on in best.values() if on != settings}, key=len)
    return [[g for g in here if g.on == on and best[g.net][1] == on] for on in added]


def _said(gains: list[Gain]) -> str:
    return "; ".join(f"{gain.times:.2f} ({gain.net}, {gain.when})" for gain in gains)
