"""The demo's conductor on tiny data: order, hand-over, going on, failing, and its own settings."""

import argparse
import logging
from pathlib import Path

import pytest

pytest.importorskip("detectron2")

from resdet.cli import demo
from resdet.cli.demo import Step
from resdet.errors import ConfigError, ResdetError
from resdet.run.folder import Run
from tests.support import tiny, trainings

PRETRAIN = trainings.classifier(
    {"MODEL.NET.STEM": None, "PRETRAIN.CROP": 32, "PRETRAIN.TEST_SIDE": 32, "SEED": None}
)
DETECT = trainings.detector(
    trainings.FROM_SCRATCH,
    {
        "MODEL.BACKBONE.FREEZE_AT": 0,
        "MODEL.NET.NORM": "BN",
        "MODEL.PIXEL_MEAN": [103.53, 116.28, 123.675],
        "MODEL.PIXEL_STD": [1.0, 1.0, 1.0],
        "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 8,
        "MODEL.ROI_HEADS.SCORE_THRESH_TEST": None,
        "INPUT.FORMAT": "RGB",
        "SEED": None,
    },
)


def arguments(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    demo.add_arguments(parser)
    return parser.parse_args(list(words))


def tiny_steps(root: Path, seeds: int = 1) -> list[Step]:
    """One net pretrained, and its two detectors under the names that the demo gives VGG."""
    weights = ["MODEL.WEIGHTS", str(root / "pretrain_vgg" / "model.safetensors")]
    detector = ["train_det", "--config", "d.yaml"]
    return [
        Step("pretrain_vgg", "classifier", ["pretrain_cls", "--config", "p.yaml"],
             root / "pretrain_vgg", 1.0),
        Step("vgg_pretrained", "pretrained", [*detector, *weights], root / "vgg_pretrained", 1.0,
             needs=("pretrain_vgg",)),
        Step("vgg_scratch", "scratch", detector, root / "vgg_scratch", 1.0),
    ]  # fmt: skip


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    tiny.class_folders(tmp_path / "data")
    tiny.voc_tree(tmp_path / "voc")
    (tmp_path / "p.yaml").write_text(PRETRAIN, encoding="utf-8")
    (tmp_path / "d.yaml").write_text(DETECT, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RESDET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(demo, "steps", tiny_steps)
    # The tiny set is in VOC's layout, and is not scored by COCO's rules.
    monkeypatch.setattr(demo, "RANKED_BY", ())
    monkeypatch.setattr(demo, "_make_data", lambda: None)
    return tmp_path


def test_the_story_ends_in_a_report_and_a_second_call_trains_nothing(
    place: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Hand-over counted (100 tensors of the net), report written, every step run once."""
    caplog.set_level(logging.INFO, "resdet.cli")
    assert demo.run(arguments("--output", "out", "--jobs", "2")) == 0
    assert (place / "out" / "report" / "report.html").exists()
    assert Run.open(place / "out" / "vgg_pretrained").read("transfer.json")["arrived"] == 100
    ids = [Run.open(place / "out" / s.name).info["id"] for s in tiny_steps(Path("out"))]
    caplog.clear()
    assert demo.run(arguments("--output", "out")) == 0
    assert ids == [Run.open(place / "out" / s.name).info["id"] for s in tiny_steps(Path("out"))]
    assert sum("done before" in r.message for r in caplog.records) == 3
    assert not any("started" in r.message for r in caplog.records)


def test_a_step_that_fails_shows_its_last_lines_and_exit_code(place: Path) -> None:
    """The data of the detectors is missing: 2, what the user can fix, and where the log is."""
    (place / "voc" / "ImageSets" / "Main" / "train.txt").unlink()
    with pytest.raises(
        ResdetError, match=r"(?s)ended with exit code 2.*train\.txt.*output\.txt"
    ) as e:
        demo.run(arguments("--output", "out", "--jobs", "1"))
    assert e.value.exit_code == 2


def test_a_folder_of_other_settings_is_refused_and_left_alone(place: Path) -> None:
    """Runs of two schedules do not make one story; the same settings go on."""
    root = place / "out"
    demo._refuse_other_settings(root, [])
    before = (root / "settings.json").read_bytes()
    demo._refuse_other_settings(root, [])
    with pytest.raises(ConfigError, match="out holds a demo with other settings.*--output .*out2"):
        demo._refuse_other_settings(root, ["SOLVER.MAX_ITER", "5"])
    assert (root / "settings.json").read_bytes() == before


def test_every_detector_of_the_plan_has_a_twin_that_differs_in_weights_alone() -> None:
    """Four detectors, two classifiers; the pretrained ones wait for their classifier."""
    plan = {step.name: step for step in demo.steps(Path("root"))}
    assert len(plan) == 6
    for net in ("vgg", "resnet"):
        scratch, pretrained = plan[f"{net}_scratch"], plan[f"{net}_pretrained"]
        weights = str(Path("root") / f"pretrain_{net}" / "model.safetensors")
        assert pretrained.command == [*scratch.command, "MODEL.WEIGHTS", weights]
        assert (pretrained.needs, scratch.needs) == ((f"pretrain_{net}",), ())


def test_another_seed_trains_everything_again_and_nothing_else_differs() -> None:
    """Classifiers included: the noise of seeds is that of the whole chain."""
    plan = {step.name: step for step in demo.steps(Path("root"), seeds=3)}
    assert len(plan) == 18
    for step in demo.steps(Path("root")):
        again = plan[f"{step.name}_seed3"]
        assert again.needs == tuple(f"{name}_seed3" for name in step.needs)
        assert again.folder == Path("root") / again.name
        changed = [word.replace("_seed3", "") for word in again.command]
        place = changed.index("SEED")
        assert changed[place : place + 2] == ["SEED", "3"]
        assert changed[:place] + changed[place + 2 :] == step.command


def test_no_seed_at_all_is_refused(place: Path) -> None:
    with pytest.raises(ConfigError, match="--seeds is 0, expected 1 or more"):
        demo.run(arguments("--seeds", "0"))
