"""Run folders of both trainers, damaged: `--resume auto` and `--eval-only` go on, or give a page.

Never "a bug in resdet" with a traceback, and never a silent other result: what ends with 0 has the
weights and the numbers of the untouched run. What a loop of our own does with every damage, byte
by byte, is in `tests/engine/test_damaged_runs.py`.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

pytest.importorskip("detectron2")

from resdet import weights
from resdet.cli.main import run_command
from resdet.engine.checkpoint import Checkpoints
from resdet.run import layout
from resdet.run.folder import Run
from tests.support import tiny, trainings
from tests.support.damages import TEXTS, put

STEPS = {"SOLVER.MAX_ITER": 2, "SOLVER.CHECKPOINT_PERIOD": 1, "TEST.EVAL_PERIOD": 1}
CONFIGS = {
    "pretrain_cls": trainings.classifier({
        **STEPS, "PRETRAIN.BN_IMAGES": 6, "TEST.BEST_METRIC": "top1_error",
    }),
    "train_det": trainings.detector(trainings.FROM_SCRATCH, {
        **STEPS, "MODEL.RPN.POST_NMS_TOPK_TRAIN": 10, "EVAL.SAMPLES": 0, "TEST.BEST_METRIC": "AP50",
    }),
}  # fmt: skip
OWN = {"pretrain_cls": layout.CLASSIFIER, "train_det": layout.DETECTOR}
SCORES = "results/voc%3Avoc%3Atest/voc.json"
FIRST = f"{layout.CHECKPOINTS}/{layout.checkpoint_name(1)}"
AUTO, SCORE = ("--resume", "auto"), ("--eval-only",)


def train(command: str, folder: str, *words: str) -> int:
    return run_command(command, ["--config", f"{command}.yaml", "--output", folder, *words])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Of each trainer: a finished run, the same cut after its first step, one of another seed."""
    place = tmp_path_factory.mktemp("trainings")
    tiny.class_folders(place / "data", per_class=2)
    tiny.voc_tree(place / "voc", images=4)
    save = Checkpoints.save

    def save_and_copy(self: Checkpoints, steps_done: int, **options: bool) -> None:
        cut = self.run.path.with_name(f"{self.run.path.name}-cut")
        if steps_done == 2:
            shutil.copytree(self.run.path, cut, ignore=lambda *_: {layout.LOCK})
        save(self, steps_done, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setenv("RESDET_CACHE", str(place / "cache"))
        for command, text in CONFIGS.items():
            Path(f"{command}.yaml").write_text(text, encoding="utf-8")
            assert train(command, f"{command}-other", *AUTO, "SEED", "4") == 0
            patch.setattr(Checkpoints, "save", save_and_copy)
            assert train(command, command, *AUTO) == 0
            patch.setattr(Checkpoints, "save", save)
        yield place


@pytest.fixture
def place(made: Path) -> Iterator[Path]:
    yield made
    shutil.rmtree(made / "copy", ignore_errors=True)


def damage(path: Path, how: str, other: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    if how == "another run's":
        shutil.copy(other, path)
    elif how == "a folder":
        path.unlink(missing_ok=True)
        path.mkdir()
    else:
        path.touch()
        put(path, None if how == "gone" else TEXTS[how])
    if path.is_file():
        os.utime(path, (1, 1))


def results_of(command: str, run: Path) -> list[bytes]:
    """The weights, tensor by tensor, and a detector's numbers."""
    if command == "pretrain_cls":
        tensors, _ = weights.load(run / layout.CLASSIFIER)
    else:
        tensors = torch.load(run / layout.DETECTOR, weights_only=True)["model"]
    found = [bytes(tensors[name].numpy().data) for name in sorted(tensors)]
    return found if command == "pretrain_cls" else [*found, (run / SCORES).read_bytes()]


# What a file is, and how it ends for each damage: 0, or the code and the words of the page.
GOES_ON = (0, "")
LOST = (2, "no whole checkpoint to resume.*start with another --output, or move it away")
OTHER_RUNS = (2, "of another run.*id")
CONFIG = (2, "config.yaml.*is damaged: it holds no config of a run")
INFO = (2, "run.json")
CUT = [
    ("pretrain_cls", layout.RUN, "gone", (2, "holds checkpoints, weights or results, and no")),
    ("pretrain_cls", layout.RUN, "nested", INFO),
    ("pretrain_cls", layout.RUN, "another run's", OTHER_RUNS),
    ("pretrain_cls", layout.RUN, "a folder", INFO),
    ("train_det", layout.RUN, "list of null", INFO),
    ("pretrain_cls", layout.CONFIG, "gone", (2, "config.yaml does not exist")),
    ("pretrain_cls", layout.CONFIG, "list of null", CONFIG),
    ("train_det", layout.CONFIG, "binary", (2, "config.yaml is not plain YAML")),
    ("train_det", layout.CONFIG, "another run's", (2, "SEED is 3, the run was started with 4")),
    ("train_det", layout.CONFIG, "a folder", (2, "config.yaml is not plain YAML: .*directory")),
    ("pretrain_cls", FIRST, "gone", LOST),
    ("pretrain_cls", FIRST, "binary", LOST),
    ("train_det", FIRST, "zeros", LOST),
    ("pretrain_cls", FIRST, "another run's", OTHER_RUNS),
    ("train_det", FIRST, "another run's", OTHER_RUNS),
    ("pretrain_cls", FIRST, "a folder", (2, "cannot be read: Is a directory")),
    ("train_det", "checkpoints/last", "binary", GOES_ON),
    ("pretrain_cls", "checkpoints/last", "a folder", (3, "Repair that and run")),
    ("pretrain_cls", layout.METRICS, "binary", GOES_ON),
    ("pretrain_cls", layout.METRICS, "a folder", (3, "metrics.json cannot be used")),
    ("pretrain_cls", layout.BEST_CLASSIFIER, "binary", GOES_ON),
    ("train_det", layout.BEST_DETECTOR, "another run's", GOES_ON),
    ("train_det", layout.BEST_DETECTOR, "a folder", (2, "cannot be read: Is a directory")),
    ("pretrain_cls", layout.LOG, "binary", GOES_ON),
    ("train_det", layout.LOG, "a folder", (3, "log.txt cannot be used")),
    ("train_det", layout.LOCK, "nested", GOES_ON),
    ("train_det", SCORES, "binary", GOES_ON),
    ("train_det", SCORES, "a folder", (3, "voc.json cannot be used: Is a directory")),
]  # fmt: skip
SCORED = [
    ("pretrain_cls", layout.RUN, "gone", (2, "is no run folder|and no run.json")),
    ("train_det", layout.RUN, "gone", (2, "holds checkpoints, weights or results, and no")),
    ("train_det", layout.RUN, "another run's", (2, "was written by another run")),
    ("train_det", layout.CONFIG, "list of null", CONFIG),
    ("pretrain_cls", layout.CLASSIFIER, "gone", (2, "has no model.safetensors to score")),
    ("pretrain_cls", layout.CLASSIFIER, "binary", (2, "model.safetensors")),
    ("pretrain_cls", layout.CLASSIFIER, "another run's", (2, "was written by another run")),
    ("train_det", layout.DETECTOR, "gone", (2, "model_final.pth does not exist")),
    ("train_det", layout.DETECTOR, "binary", (2, "model_final.pth")),
    ("train_det", layout.DETECTOR, "another run's", (2, "was written by another run")),
    ("train_det", layout.DETECTOR, "a folder", (2, "model_final.pth")),
    ("train_det", layout.CARD, "list of null", (2, "card.json")),
    ("train_det", "results/voc%3Avoc%3Atest/images.json", "binary", GOES_ON),
    ("train_det", "results/voc%3Avoc%3Atest/parts/fingerprint.json", "nested", GOES_ON),
    ("train_det", "results/voc%3Avoc%3Atest/parts/part_0000000.json", "list of null", GOES_ON),
    ("train_det", FIRST, "binary", GOES_ON),
]  # fmt: skip


def check(
    place: Path,
    case: tuple[str, str, str, tuple[int, str]],
    start: str,
    door: tuple[str, ...],
    capsys: pytest.CaptureFixture[str],
) -> None:
    command, name, how, (code, words) = case
    shutil.copytree(f"{command}{start}", "copy")
    damage(Path("copy") / name, how, Path(f"{command}-other") / name)
    capsys.readouterr()
    ended = train(command, "copy", *door)
    page = " ".join(capsys.readouterr().err.split())
    assert "Traceback" not in page, page[-2000:]
    assert ended == code, page[-2000:]
    if code:
        assert re.search(words, page), page[-1000:]
    else:
        assert results_of(command, Path("copy")) == results_of(command, Path(command))
        assert Run.open("copy").state == "finished"


@pytest.mark.parametrize("case", CUT, ids=lambda case: f"{case[0]} {case[1]} {case[2]}")
def test_a_damaged_training_goes_on_to_the_same_end_or_gives_a_page(
    place: Path,
    case: tuple[str, str, str, tuple[int, str]],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setenv("RESDET_CACHE", str(place / "cache"))
    check(place, case, "-cut", AUTO, capsys)


@pytest.mark.parametrize("case", SCORED, ids=lambda case: f"{case[0]} {case[1]} {case[2]}")
def test_a_damaged_run_is_scored_to_the_same_numbers_or_gives_a_page(
    place: Path,
    case: tuple[str, str, str, tuple[int, str]],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setenv("RESDET_CACHE", str(place / "cache"))
    check(place, case, "", SCORE, capsys)


@pytest.mark.parametrize("door", [AUTO, SCORE], ids=" ".join)
@pytest.mark.parametrize("output", ["n" * 300, "pretrain_cls.yaml", "pretrain_cls.yaml/run"])
def test_a_place_that_can_be_no_run_folder_is_a_page(
    place: Path,
    output: str,
    door: tuple[str, ...],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(place)
    try:
        code: object = train("pretrain_cls", output, *door)
    except SystemExit as error:  # argparse ends so, with its own page
        code = error.code
    assert code == 2
    # Of a folder below a file it is the file that is named.
    assert output.partition("/")[0][:20] in capsys.readouterr().err


@pytest.mark.parametrize("command", CONFIGS)
def test_a_disk_that_cannot_be_written_is_a_page(
    place: Path,
    command: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A mount of its own, read-only, since root may write into any other folder."""
    monkeypatch.chdir(place)
    shutil.copytree(f"{command}-cut", "copy")
    mount = ["mount", "--bind", "-o", "ro", "copy", "copy"]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("no right to mount here")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", "copy"], check=False)
        if os.access("copy", os.W_OK):
            pytest.skip("a read-only mount cannot be made here")
        assert train(command, "copy", *AUTO) == 3
        assert "Read-only file system" in capsys.readouterr().err
    finally:
        subprocess.run(["umount", "copy"], check=True)


def test_a_file_that_is_scored_again_into_its_folder(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One command, typed twice: the folder has no detector of its own, but names the file."""
    monkeypatch.chdir(place)
    monkeypatch.setenv("RESDET_CACHE", str(place / "cache"))
    for words in (["MODEL.WEIGHTS", "train_det/model_final.pth"],) * 2 + ([],):
        assert train("train_det", "copy", *SCORE, "--resume", *words) == 0
    assert Path("copy", SCORES).read_bytes() == Path("train_det", SCORES).read_bytes()
