"""Run folders of small detectors, trained two steps on `tiny`'s scenes by the command itself.

Not for: what a training does (`tests/detect/test_training.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support import tiny, trainings

SET = "voc:voc:test"
# The test set's image ids, and their sizes as (width, height).
IMAGES = {"000003": (72, 96), "000004": (96, 72), "000005": (96, 72)}


@contextmanager
def within(place: Path) -> Iterator[None]:
    """The current folder and the cache are there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setenv("RESDET_CACHE", str(place / "cache"))
        yield


def train(place: Path, name: str, *keys: str) -> Path:
    """A run folder in `place`, beside the scenes in voc/ and the config c.yaml."""
    from resdet.cli.main import run_command

    if not (place / "voc").exists():
        tiny.voc_tree(place / "voc")
        (place / "c.yaml").write_text(trainings.detector(trainings.FROM_SCRATCH), "utf-8")
    with within(place):
        assert run_command("train_det", ["--config", "c.yaml", "--output", name, *keys]) == 0
    return place / name
