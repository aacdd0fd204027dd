"""Sizes of small embedded sets, and all that is in one."""

from __future__ import annotations

from pathlib import Path

# 120 train scenes hold some of everything: crowds, empty scenes, cut and difficult digits.
SMALL = {
    "crops_train": 60,
    "crops_val": 20,
    "crops_test": 20,
    "scenes_train": 120,
    "scenes_val": 12,
    "scenes_test": 24,
}
TINY = dict.fromkeys(SMALL, 2)


def contents(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}
