"""A run that goes on has what it began with, whatever has become of the file."""

import json
import shutil
from pathlib import Path

import pytest
import torch

pytest.importorskip("detectron2")

from resdet import nets, weights
from resdet.cli.main import main
from resdet.cli.training import starting_point
from resdet.config import resolve
from resdet.errors import RunError
from resdet.run import layout
from resdet.weights import Card, Input
from tests.support import tiny, trainings

NET = "net.safetensors"
KEYS = {"MODEL.NET.NAME": "resnet18", "MODEL.WEIGHTS": NET, "MODEL.NET.WIDTH": 0.125}
FOUR_STEPS = {
    "SOLVER.SCHEME": "alternating", "SOLVER.MAX_ITER": 1, "MODEL.RPN.POST_NMS_TOPK_TRAIN": 20,
}  # fmt: skip


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RESDET_CACHE", str(tmp_path / "cache"))
    tiny.voc_tree(tmp_path / "voc")
    trainings.net_to_hand_over(tmp_path / NET)
    (tmp_path / "c.yaml").write_text(trainings.detector(trainings.HANDED_OVER, KEYS), "utf-8")


def train(output: str, *words: str) -> int:
    flags = [word for word in words if word.startswith("--")]
    keys = [word for word in words if not word.startswith("--")]
    return main(["train_det", "--config", "c.yaml", "--output", output, *flags, *keys])


def other_net() -> None:
    """Another ResNet-18 under the same name, with the same card but for its hash."""
    torch.manual_seed(1)
    net = nets.build("resnet18", 3, width=0.125)
    net(torch.randn(4, 3, 64, 64))
    card = Card("resnet18", Input("RGB", (60.0,) * 3, (50.0,) * 3), {"width": 0.125})
    weights.save(NET, net.state_dict(), card)


def tensors(output: str) -> dict[str, torch.Tensor]:
    return torch.load(Path(output) / layout.DETECTOR, weights_only=True)["model"]


@pytest.mark.parametrize("change", [other_net, lambda: Path(NET).unlink()], ids=["other", "gone"])
def test_one_training_goes_on_whatever_became_of_the_file(change):
    """Its checkpoint has the weights; the numbers are those of a run that did not stop."""
    assert train("whole") == 0
    assert train("run", "SOLVER.MAX_ITER", "1") == 0
    card = Path("run/card.json").read_bytes()
    change()
    assert train("run", "--resume") == 0
    assert Path("run/card.json").read_bytes() == card
    whole, run = tensors("whole"), tensors("run")
    assert whole.keys() == run.keys() and all(map(torch.equal, whole.values(), run.values()))


def test_a_training_from_a_whole_detector_goes_on_without_it():
    assert train("first", "SOLVER.MAX_ITER", "1") == 0
    second = ("MODEL.WEIGHTS", "first/model_final.pth", "SOLVER.BASE_LR", "0.001")
    assert train("second", *second, "SOLVER.MAX_ITER", "1") == 0
    before = json.loads(Path("second/transfer.json").read_text("utf-8"))
    shutil.rmtree("first")
    assert train("second", "--resume", *second) == 0
    assert before == json.loads(Path("second/transfer.json").read_text("utf-8"))
    assert "heads" in before


def test_another_file_than_the_runs_is_refused_all_the_same(capsys):
    assert train("run", "SOLVER.MAX_ITER", "1") == 0
    shutil.copy(NET, "other.safetensors")
    assert train("run", "--resume", "MODEL.WEIGHTS", "other.safetensors") == 2
    page = capsys.readouterr().err
    assert "MODEL.WEIGHTS is 'other.safetensors', the run was started with" in page


def test_four_steps_need_the_file_until_the_second_has_begun(capsys):
    """Steps 1 and 2 each begin with the classifier: a mixture of two is refused."""
    keys = [word for key, value in FOUR_STEPS.items() for word in (key, str(value))]
    assert train("run", *keys) == 0
    whole = tensors("run")
    steps = Path("run") / layout.ALTERNATING
    for gone in (steps / "4_fast_rcnn", steps / "3_rpn"):
        shutil.rmtree(gone)
    (Path("run") / layout.DETECTOR).unlink()
    other_net()
    assert train("run", "--resume", *keys) == 0
    again = tensors("run")
    assert all(map(torch.equal, whole.values(), again.values()))
    for gone in (steps / "4_fast_rcnn", steps / "3_rpn", steps / "2_fast_rcnn"):
        shutil.rmtree(gone)
    capsys.readouterr()
    assert train("run", "--resume", *keys) == 2
    assert "began with weights of SHA-256" in capsys.readouterr().err


def test_changed_weights_are_told_by_the_cards(tmp_path):
    """Of a localizer, whose second net begins with the classifier, too."""
    config = resolve("c.yaml").cfg
    start = starting_point.start_of_training(config)
    starting_point.refuse_changed(start.card, NET, tmp_path)  # no run, no card
    (tmp_path / layout.CARD).write_text(start.card.to_json(), encoding="utf-8")
    starting_point.refuse_changed(start.card, NET, tmp_path)
    starting_point.refuse_changed(None, NET, tmp_path)
    other_net()
    now = starting_point.start_of_training(config).card
    with pytest.raises(RunError, match=rf"SHA-256 {start.card.tensors_sha256[:12]}…, needs them"):
        starting_point.refuse_changed(now, NET, tmp_path)
