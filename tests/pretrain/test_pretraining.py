"""The whole of pretraining on tiny class folders: exact resume, the card, scoring, refusals."""

import json
import re

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("detectron2")

from resdet import nets, weights
from resdet.errors import WeightsError
from resdet.run.folder import Run
from resdet.weights.tensor_checks import refuse_untrained_norms
from tests.support import children, tiny, trainings

CONFIG = trainings.classifier({
    "MODEL.PIXEL_MEAN": [60.0, 60.0, 60.0],
    "MODEL.PIXEL_STD": [50.0, 50.0, 50.0],
    "PRETRAIN.COLOR_STD": 0.1,
    "PRETRAIN.BN_IMAGES": 12,
    "SOLVER.BASE_LR": 0.05,
    "SOLVER.MAX_ITER": 10,
    "SOLVER.STEPS": [8],
    "SOLVER.WARMUP_ITERS": 2,
    "SOLVER.CHECKPOINT_PERIOD": 5,
})  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("mes données #1")
    tiny.class_folders(place / "data")
    (place / "c.yaml").write_text(CONFIG, encoding="utf-8")
    done = children.run_cli("pretrain_cls", "--config", "c.yaml", "--output", "one", cwd=place)
    assert done.returncode == 0, done.stderr
    return place


def test_killed_and_resumed_equals_one_go_to_the_bit(place):
    """F36: 5 steps, kill -9 at the eighth, resume: weights, BN statistics and errors are equal."""
    command = ["pretrain_cls", "--config", "c.yaml", "--output", "two"]
    killed = children.run_cli(*command, cwd=place, kill_at=7)
    assert killed.returncode == -9, killed.stderr
    again = children.run_cli(*command, "--resume", cwd=place)
    assert again.returncode == 0, again.stderr
    one, _ = weights.load(place / "one" / "model.safetensors")
    two, _ = weights.load(place / "two" / "model.safetensors")
    assert one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in one)
    assert Run.open(place / "one").read("classification.json") == Run.open(place / "two").read(
        "classification.json"
    )


def test_the_best_is_kept_and_equal_after_a_kill(place):
    """F37: by the errors in the log, every two steps; its file is scored to its value."""
    keys = ("TEST.EVAL_PERIOD", "2", "TEST.BEST_METRIC", "top1_error")
    command = ["pretrain_cls", "--config", "c.yaml", "--output"]
    done = children.run_cli(*command, "best", *keys, cwd=place)
    assert done.returncode == 0, done.stderr
    log = (place / "best" / "log.txt").read_text(encoding="utf-8")
    errors = [float(text) for text in re.findall(r"data/val: top-1 error ([\d.]+) %", log)]
    value, step = min((error, step) for step, error in zip((2, 4, 6, 8, 10), errors, strict=True))
    record = Run.open(place / "best").info["best"]
    assert (record["step"], round(record["value"], 2)) == (step, value)
    killed = children.run_cli(*command, "best2", *keys, cwd=place, kill_at=7)
    assert killed.returncode == -9, killed.stderr
    again = children.run_cli(*command, "best2", "--resume", *keys, cwd=place)
    assert again.returncode == 0, again.stderr
    (one, card), (two, _) = (
        weights.load(place / n / "model_best.safetensors") for n in ("best", "best2")
    )
    assert one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in one)
    assert (card.training["iterations"], card.training["best"]) == (step, record)
    scored = children.run_cli(
        "pretrain_cls", "--eval-only", "--output", "best_scored",
        "MODEL.WEIGHTS", "best/model_best.safetensors", "PRETRAIN.VAL", "data/val",
        "PRETRAIN.TEST_SIDE", "18", "SOLVER.IMS_PER_BATCH", "6", "MODEL.DEVICE", "cpu", cwd=place,
    )  # fmt: skip
    assert scored.returncode == 0, scored.stderr
    assert f"top-1 error {value:.2f} %" in scored.stdout
    for output, flags in (("best", ["--best"]), ("best_best", [])):
        by_run = children.run_cli(*command, output, "--eval-only", *flags, cwd=place)
        assert by_run.returncode == 0, by_run.stderr
        assert f"top-1 error {value:.2f} %" in by_run.stdout
        assert Run.open(place / "best_best").info["best_of"] == {**record, "folder": "best"}


def test_the_card_states_what_the_net_was_trained_on(place):
    tensors, card = weights.load(place / "one" / "model.safetensors")
    assert card.net == "resnet18" and card.net_options["width"] == 0.125
    assert card.classes == ("blue", "green", "red")
    assert (card.input.color_order, card.input.mean, card.input.size) == ("RGB", (60.0,) * 3, 16)
    assert card.data["images"] == 18 and len(card.data["hash"]) == 64
    assert card.training["samples"] == 60 and card.training["seed"] == 3
    assert card.norm["statistics"] == "over 12 training images"
    assert "BASE_LR: 0.05" in card.config
    assert tensors["linear.weight"].shape[0] == 3


def test_a_part_of_a_set_is_scored_while_training_and_marked(place):
    """Six of 18 images; the end is that of the run without it."""
    keys = ("TEST.EVAL_PERIOD", "5", "TEST.EVAL_IMAGES", "6")
    command = ("pretrain_cls", "--config", "c.yaml", "--output", "parts", *keys)
    done = children.run_cli(*command, cwd=place)
    assert done.returncode == 0, done.stderr
    lines = (place / "parts" / "metrics.json").read_text(encoding="utf-8").splitlines()
    names = {name for line in lines for name in json.loads(line) if name.startswith("data/val")}
    assert names == {f"data/val (6 of 18 images)/{k}" for k in ("top1_error", "top5_error")}
    one, parts = (Run.open(place / n).read("classification.json") for n in ("one", "parts"))
    assert parts == one


def test_a_finished_run_scores_again_to_the_same_numbers(place):
    """--eval-only reads the written file."""
    before = Run.open(place / "one").read("classification.json")["data/val"]
    done = children.run_cli(
        "pretrain_cls", "--config", "c.yaml", "--output", "one", "--eval-only", cwd=place
    )
    assert done.returncode == 0, done.stderr
    assert f"top-1 error {before['top1_error']:.2f} %" in done.stdout
    assert before["images"] == {"expected": 18, "evaluated": 18, "missing": 0}


def test_a_resume_with_another_rate_is_refused(place):
    """F36: Detectron2 ignores the new rate in silence."""
    done = children.run_cli(
        *("pretrain_cls", "--config", "c.yaml", "--output", "one", "--resume"),
        *("SOLVER.BASE_LR", "0.01"),
        cwd=place,
    )
    assert done.returncode == 2
    assert "SOLVER.BASE_LR is 0.01, the run was started with 0.05" in done.stderr


def test_a_second_start_in_the_same_folder_is_refused(place):
    """F46."""
    done = children.run_cli("pretrain_cls", "--config", "c.yaml", "--output", "one", cwd=place)
    assert done.returncode == 2
    assert "holds a finished classification run" in done.stderr


@pytest.mark.parametrize(
    ("opts", "words"),
    [
        (["PRETRAIN.TEST_SIDE", "12"], "PRETRAIN.TEST_SIDE is 12, PRETRAIN.CROP 16"),
        (["MODEL.NET.NAME", "resnet19"], "resnet19"),
        (["MODEL.WEIGHTS", "none.safetensors"], "none.safetensors does not exist"),
        (
            ["MODEL.WEIGHTS", "one/model.safetensors", "INPUT.FORMAT", "BGR"],
            "but the card of one/",
        ),
        (["MODEL.WEIGHTS", "one/model.safetensors", "MODEL.NET.NAME", "resnet34"], "res2.2.conv1"),
        (["SOLVER.MAX_ITER", "3", "--output", "x"], "--output comes after the first KEY VALUE"),
    ],
)
def test_what_cannot_be_is_refused_and_leaves_no_folder(place, opts, words):
    """Exit code 2 means that nothing was started: the folder is free for the next try."""
    done = children.run_cli(
        "pretrain_cls", "--config", "c.yaml", "--output", "bad", *opts, cwd=place
    )
    assert done.returncode == 2, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert not (place / "bad").exists()


def test_a_classifier_can_start_from_another(place):
    """Every tensor counted, the last layer kept for the same classes; the card names its parent."""
    done = children.run_cli(
        "pretrain_cls", "--config", "c.yaml", "--output", "child",
        "MODEL.WEIGHTS", "one/model.safetensors", "SOLVER.BASE_LR", "0.0",
        "PRETRAIN.BN_IMAGES", "0",
        "SOLVER.MAX_ITER", "1", cwd=place,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    parent, parents_card = weights.load(place / "one" / "model.safetensors")
    child, card = weights.load(place / "child" / "model.safetensors")
    assert torch.equal(child["linear.weight"], parent["linear.weight"])
    assert torch.equal(child["res4.1.conv2.weight"], parent["res4.1.conv2.weight"])
    assert card.parent == parents_card.tensors_sha256
    assert Run.open(place / "child").read("transfer.json")["arrived"] == 102


def test_statistics_alone_can_be_computed(place):
    """F21: as the page says on norms that were never trained. The first norm's are those of its
    convolution over all 18 images, by hand; weights stay as they were."""
    torch.manual_seed(0)
    net = nets.build("resnet18", 3, width=0.125, stem="small")
    options = {"width": 0.125, "stem": "small"}
    card = weights.Card("resnet18", weights.Input("RGB", (60.0,) * 3, (50.0,) * 3), options)
    weights.save(place / "fresh.safetensors", net.state_dict(), card)
    with pytest.raises(WeightsError, match="all 20 norms .*BASE_LR 0.0 SOLVER.MAX_ITER 1 PRETR"):
        refuse_untrained_norms(net.state_dict(), "fresh.safetensors")
    done = children.run_cli(
        "pretrain_cls", "--config", "c.yaml", "--output", "statistics",
        "MODEL.WEIGHTS", "fresh.safetensors", "SOLVER.BASE_LR", "0.0", "SOLVER.MAX_ITER", "1",
        "PRETRAIN.BN_IMAGES", "18", "PRETRAIN.AUGMENTATION", "none", "PRETRAIN.FLIP", "False",
        "PRETRAIN.COLOR_STD", "0.0", "SOLVER.IMS_PER_BATCH", "18", "TRANSFER.NEW", "()", cwd=place,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    tensors, _ = weights.load(place / "statistics" / "model.safetensors")
    refuse_untrained_norms(tensors, "model.safetensors")
    before = net.state_dict()
    assert torch.equal(tensors["res4.1.conv2.weight"], before["res4.1.conv2.weight"])
    files = sorted((place / "data" / "train").rglob("*.*"))
    pixels = [np.asarray(Image.open(f).convert("RGB").resize((18, 18)))[1:17, 1:17] for f in files]
    x = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float().sub(60).div(50)
    maps = torch.nn.functional.conv2d(x, before["stem.conv1.weight"], padding=1)
    mean = maps.mean((0, 2, 3))
    assert mean.abs().max() > 0.1  # or 0 would pass
    torch.testing.assert_close(tensors["stem.conv1.norm.running_mean"], mean, rtol=0.2, atol=0.05)


def test_the_log_opens_with_what_was_found_before_the_folder_was_made(place):
    """Warnings and counts of the data sets stand in log.txt, too."""
    log = (place / "one" / "log.txt").read_text(encoding="utf-8")
    assert "SOLVER.WARMUP_ITERS 2 is more than a tenth of SOLVER.MAX_ITER 10" in log


def test_a_profiled_training_is_the_same_to_the_bit(place):
    """Weights, BN statistics and errors; every part of the command has its rows."""
    done = children.run_cli(
        "pretrain_cls", "--config", "c.yaml", "--output", "profiled", "--profile", cwd=place
    )
    assert done.returncode == 0, done.stderr
    one, _ = weights.load(place / "one" / "model.safetensors")
    two, _ = weights.load(place / "profiled" / "model.safetensors")
    assert one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in one)
    before, after = Run.open(place / "one"), Run.open(place / "profiled")
    assert before.read("classification.json") == after.read("classification.json")
    sections = {s["name"]: s for s in after.read("profile.json")["sections"]}
    assert list(sections) == ["training", "statistics of norms", "scoring"]
    training = sections["training"]
    assert (training["first"]["calls"], training["steps"]["calls"]) == (3, 7)
    assert list(sections["scoring"]["steps"]["parts"]) == ["wait for data", "forward"]
    assert "Where the time of pretrain_cls went" in done.stdout
    assert before.read("profile.json") is None


NO_NETWORK = """
import socket, sys
def connect(self, address):
    if self.family != socket.AF_UNIX:
        print("CONNECTS", address)
        raise OSError(101, "Network is unreachable")
    return unix(self, address)
unix = socket.socket.connect
socket.socket.connect = connect
socket.getaddrinfo = lambda *a, **k: connect(socket.socket(socket.AF_INET), a)
from resdet.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def test_nobody_is_asked_where_no_address_is_given_or_the_network_is_off(place, tmp_path):
    """F73: a training from files is the same without a network."""
    words = ("pretrain_cls", "--config", "c.yaml", "--output")
    done = children.python(
        "-c", NO_NETWORK, *words, "offline", "SOLVER.MAX_ITER", "1", cwd=place, OMP_NUM_THREADS="1"
    )
    assert done.returncode == 0, done.stderr
    assert "CONNECTS" not in done.stdout
    address = "https://download.pytorch.org/models/resnet18-f37072fd.pth"
    done = children.python(
        "-c", NO_NETWORK, *words, "no", "MODEL.WEIGHTS", address, cwd=place, HF_HUB_OFFLINE="1",
        TORCH_HOME=str(tmp_path),
    )  # fmt: skip
    assert done.returncode == 2 and "CONNECTS" not in done.stdout
    assert f"{address} is not in the cache" in done.stderr
