"""A training that goes on with another number of processes sees the same images and losses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import pytest

pytest.importorskip("detectron2")

from resdet.data.readers.class_folders import load_folder
from resdet.data.shards.making import make_shards
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


def steps_of(place: Path, *starts: int, as_shards: bool = False) -> dict[int, Step]:
    """What each step saw; by so many processes, killed, then by so many others.

    Args:
        as_shards: the same images lie in tar shards of a few, shuffled, instead of class folders.
    """
    place.mkdir()
    tiny.class_folders(place / "data")
    config = CONFIG | (_shards(place) if as_shards else {})
    (place / "c.yaml").write_text(trainings.classifier(config), encoding="utf-8")
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


def _shards(place: Path) -> dict[str, str]:
    keys = {}
    for key, split in (("TRAIN", "train"), ("VAL", "val")):
        data = load_folder(place / "data" / split, name=split)
        made = make_shards(data, place / "shards" / split, stem=split, shard_mb=0.02, seed=5)
        assert made.shards > 2
        keys[f"PRETRAIN.{key}"] = made.name
    return keys


def _written(folder: Path) -> dict[int, Step]:
    found: dict[int, Step] = {}
    for path in sorted(folder.glob("*.jsonl")):
        for text in path.read_text(encoding="utf-8").splitlines():
            line = json.loads(text)
            before = found[line["step"]].images if line["step"] in found else []
            found[line["step"]] = Step(before + line["images"], line["loss"])
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Step]:
    """One process on class folders, to its end."""
    return steps_of(tmp_path_factory.mktemp("whole") / "1", 1)


@pytest.mark.numeric
@pytest.mark.parametrize(
    ("starts", "as_shards"), [((1, 2), False), ((2, 1), False), ((1, 2), True), ((2, 1), True)]
)
def test_losses_are_those_of_one_process_on_folders(
    tmp_path: Path, whole: dict[int, Step], starts: tuple[int, ...], as_shards: bool
) -> None:
    """The bound: float32 has a loss of about 1 to 1e-7, and it comes of sums over some hundred
    products; another image, or a lost half of the batch, moves it by 1e-2."""
    other = steps_of(tmp_path / "run", *starts, as_shards=as_shards)
    assert [*other] == [*whole] == [*range(STEPS)]
    for step, (images, loss) in whole.items():
        assert sorted(other[step].images) == sorted(images)
        assert other[step].loss == pytest.approx(loss, abs=1e-5)
