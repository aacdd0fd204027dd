"""pycls: stem.conv, s1.b1.f.a, s1.b1.f.a_bn, s1.b1.proj, head.fc."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from resdet.weights.cards import Input
from resdet.weights.formats.contents import Contents
from resdet.weights.origins.origin import BGR_MEAN, BOTTLENECKS, Habits, Layer, Names, Origin


def _pycls(layer: Layer) -> tuple[str, str]:
    if layer.name == "stem.conv1":
        return "stem.conv", "stem.bn"
    if layer.name == "linear":
        return "head.fc", ""
    stage, block, leaf = layer.place
    there = f"s{stage - 1}.b{block + 1}"
    if leaf == "shortcut":
        return f"{there}.proj", f"{there}.bn"
    letter = "abc"[int(leaf[4:]) - 1]
    return f"{there}.f.{letter}", f"{there}.f.{letter}_bn"


def _habits(path: Path, contents: Contents, habits: Habits) -> Habits:
    """The stride rule, where the config that lies in the file has another than the usual one."""
    if "STRIDE_1X1: True" not in str(contents.beside.get("cfg", "")):
        return habits
    return replace(habits, options={**habits.options, "stride_in_1x1": True})


PYCLS = Origin(
    "pycls",
    Input("BGR", BGR_MEAN, (57.375, 57.12, 58.395)),
    stride_in_1x1=False,
    names=(Names(BOTTLENECKS, _pycls),),
    habits=_habits,
)
