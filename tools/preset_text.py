"""What the texts of all presets share: header lines, the schedule in words, resolved keys.

Not for: what a preset is (`preset_record`, `pretraining_record`).
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from preset_record import CITED

from resdet.config import flatten, resolve
from resdet.evaluation.published.published_tables import Published
from resdet.nets.timm import PREFIX as TIMM
from resdet.weights.addresses.public_weights import public_weights

CONFIGS = Path(__file__).resolve().parents[1] / "configs"


@functools.cache
def resolved_of(base: str, leaf: str) -> dict[str, Any]:
    """Every key of a preset with this base, within configs, and these lines under MODEL."""
    up = (CONFIGS / "x").resolve().parent.as_posix()
    bases = [f"{up}/{name.strip(' []')}" for name in base.split(",")]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "leaf.yaml"
        file.write_text(f"_BASE_: [{', '.join(bases)}]\nMODEL:\n{leaf}", encoding="utf-8")
        return dict(flatten(resolve(file).cfg))


def trains(keys: Mapping[str, Any], sets: Sequence[str]) -> list[str]:
    """Data and schedule, as the loop has them."""
    lines = [
        f"{' + '.join(sets)};",
        f"{keys['SOLVER.MAX_ITER']:,} steps of {keys['SOLVER.IMS_PER_BATCH']} images at "
        f"{_decimal(keys['SOLVER.BASE_LR'])}, {_falls(keys)}; {_warm_up(keys)};",
    ]
    if keys["SOLVER.SCHEME"] == "joint":
        return lines
    rpn = {
        **keys,
        **{f"SOLVER.{name}": keys[f"SOLVER.RPN.{name}"] or keys[f"SOLVER.{name}"]
           for name in ("MAX_ITER", "STEPS", "BASE_LR", "IMS_PER_BATCH")},
    }  # fmt: skip
    images = rpn["SOLVER.IMS_PER_BATCH"]
    of_rpn = (
        f"RPN {rpn['SOLVER.MAX_ITER']:,} steps of {images} image{'s' if images > 1 else ''} at "
        f"{rpn['SOLVER.BASE_LR']:g}, {_falls(rpn)}, twice;"
    )
    of_fast = f"Fast R-CNN {lines[1].partition(';')[0]}, twice; {_warm_up(keys)};"
    return [lines[0], of_rpn, of_fast]


def _decimal(rate: float) -> str:
    """Without an exponent."""
    return f"{rate:.10f}".rstrip("0").rstrip(".")


def _falls(keys: Mapping[str, Any]) -> str:
    """How the rate falls."""
    if keys["SOLVER.LR_SCHEDULER_NAME"] == "WarmupCosineLR":
        return "to 0 as a cosine"
    times = f"times {keys['SOLVER.GAMMA']:g} at"
    if keys["PRETRAIN.PLATEAU"] != "off":
        return f"{times} plateaus of the {keys['PRETRAIN.PLATEAU']} error"
    *first, last = (f"{step:,}" for step in keys["SOLVER.STEPS"])
    return f"{times} {', '.join(first)} and {last}" if first else f"{times} {last}"


def _warm_up(keys: Mapping[str, Any]) -> str:
    if (error := keys["PRETRAIN.WARMUP_UNTIL_ERROR"]) > 0:
        return f"warm-up until the training error is below {error:g} %"
    steps = keys["SOLVER.WARMUP_ITERS"]
    return f"{steps:,} steps of warm-up" if steps else "no warm-up"


def auto_weights_of(net: str) -> list[str]:
    """What MODEL.WEIGHTS auto takes for a detector around this net."""
    public = public_weights(net)
    if public and net.startswith(TIMM):
        return [f"auto: {public.address}"]
    other = f", else {public.address}" if public else ""
    return [
        f"auto: runs/imagenet_{net}/model.safetensors{other};",
        "that run is made by",
        f"python tools/pretrain_cls.py --config configs/pretrain/imagenet_{net}.yaml",
    ]


def table_of(number: Published) -> str:
    return CITED[number.paper].format(source=number.source)


def text_of(title: str, header: Mapping[str, Sequence[str]], base: str, net: str) -> str:
    """Args: net: what stands in MODEL.NET."""
    lines = [f"# {title}"]
    for name, texts in header.items():
        lines += [f"# {name if i == 0 else '':<9}{text}" for i, text in enumerate(texts)]
    lines += [f"_BASE_: {base}", "MODEL:", f"  NET: {{{net}}}"]
    return "\n".join(lines) + "\n"
