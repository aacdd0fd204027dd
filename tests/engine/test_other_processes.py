"""A training that goes on with another number of processes sees the same images and losses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import pytest

pytest.importorskip("detectron2")

from tests.support import children, recorded_training, tiny, trainings

# No norms and no dropout: both depend on how a batch is divided.
VGG = {"NAME": "vgg11", "WIDTH": 0.0625, "POOLS": 2, "POOLED_SIZE": 4, "FC_CHANNELS": 16}
STEPS, KEPT, KILLED_AT = 8, 3, 5
CONFIG = {
    "MODEL.NET": {**VGG, "DROPOUT": 0.0},
    "SOLVER.MAX_ITER": STEPS,
    "SOLVER.BASE_LR": 1e-4,
    "SOLVER.CHECKPOINT_PERIOD": KEPT,
}


class Step(NamedTuple):
    images: list[int]
    loss: float


def steps_of(place: Path, *starts: int) -> dict[int, Step]:
    """What each step saw; by so many processes, killed, then by so many others."""
    place.mkdir()
    tiny.class_folders(place / "data")
    (place / "c.yaml").write_text(trainings.classifier(CONFIG), encoding="utf-8")
    found: dict[int, Step] = {}
    for number, processes in enumerate(starts):
        is_last = number == len(starts) - 1
        (place / str(number)).mkdir()
        done = children.python(
            recorded_training.__file__,
            -1 if is_last else KILLED_AT,
            number,
            *["pretrain_cls", "--config", "c.yaml", "--output", "r", "--resume", "auto"],
            cwd=place,
            processes=processes,
            OMP_NUM_THREADS="1",
            RESDET_CACHE=str(place / "cache"),
        )
        assert (done.returncode == 0) == is_last, done.stderr[-3000:]
        steps = _written(place / str(number))
        # The last checkpoint is older than the kill.
        assert [*steps] == [*range(KEPT if number else 0, STEPS if is_last else KILLED_AT)]
        found |= steps
    return found


def _written(folder: Path) -> dict[int, Step]:
    found: dict[int, Step] = {}
    for path in sorted(folder.glob("*.jsonl")):
        for text in path.read_text(encoding="utf-8").splitlines():
            line = json.loads(text)
            before = found[line["step"]].images if line["step"] in found else []
            found[line["step"]] = Step(before + line["images"], line["loss"])
    return found


@pytest.mark.numeric
def test_losses_are_those_of_one_process(tmp_path: Path) -> None:
    """The bound: float32 has a loss of about 1 to 1e-7, and it comes of sums over some hundred
    products; another image, or a lost half of the batch, moves it by 1e-2."""
    whole = steps_of(tmp_path / "1", 1)
    for starts in ((1, 2), (2, 1)):
        other = steps_of(tmp_path / "".join(map(str, starts)), *starts)
        assert [*other] == [*whole] == [*range(STEPS)]
        for step, (images, loss) in whole.items():
            assert sorted(other[step].images) == sorted(images)
            assert other[step].loss == pytest.approx(loss, abs=1e-5)
