"""A classifier's file scored into a folder of its own, against the logits of torchvision's net."""

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

pytest.importorskip("detectron2")

from resdet import weights
from resdet.run.folder import Run
from tests.support import children, tiny, trainings
from tests.support.foreign_nets import randomised

SIDE, CROP = 18, 16
SIZES = ["PRETRAIN.CROP", str(CROP), "PRETRAIN.TEST_SIDE", str(SIDE)]
MEAN = torch.tensor([123.675, 116.28, 103.53]).view(1, 3, 1, 1)
STD = torch.tensor([58.395, 57.12, 57.375]).view(1, 3, 1, 1)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("scores")
    tiny.class_folders(place / "data")
    net = randomised(torchvision.models.resnet18(num_classes=3))
    torch.save(net.state_dict(), place / "theirs.pth")
    trunk = {n: t for n, t in net.state_dict().items() if not n.startswith("fc.")}
    torch.save(trunk, place / "trunk.pth")
    more = torchvision.models.resnet18(num_classes=4).state_dict()
    torch.save({**trunk, **{n: more[n] for n in ("fc.weight", "fc.bias")}}, place / "four.pth")
    torch.save({"student": net.state_dict(), "teacher": net.state_dict()}, place / "two.pth")
    return place


def scored(place, *opts, output="scores"):
    return children.run_cli("pretrain_cls", "--eval-only", "--output", output, *opts, cwd=place)


def wrong_by_torchvision(place):
    """Of all pictures of data/val: Pillow's resize and crop, torchvision's net, argmax."""
    net = torchvision.models.resnet18(num_classes=3).eval()
    net.load_state_dict(torch.load(place / "theirs.pth", weights_only=True))
    wrong, folders = [], sorted(p for p in (place / "data" / "val").iterdir() if p.is_dir())
    for label, folder in enumerate(folders):
        for path in sorted(folder.iterdir()):
            image = Image.open(path).convert("RGB")
            scale = SIDE / min(image.size)
            image = image.resize([round(v * scale) for v in image.size], Image.Resampling.BILINEAR)
            left, top = ((v - CROP) // 2 for v in image.size)
            image = image.crop((left, top, left + CROP, top + CROP))
            pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float()
            with torch.no_grad():
                wrong.append(int(net((pixels - MEAN) / STD).argmax()) != label)
    return wrong


def test_a_foreign_classifier_is_scored_by_its_origins_rules(place):
    """torchvision's net on the same crops errs on as many; no training set, no config, no run."""
    opts = ("MODEL.WEIGHTS", "theirs.pth", "PRETRAIN.VAL", "data/val", *SIZES)
    done = scored(place, *opts)
    assert done.returncode == 0, done.stderr
    wrong = wrong_by_torchvision(place)
    run = Run.open(place / "scores")
    found = run.read("classification.json")["data/val"]
    assert found["images"]["evaluated"] == len(wrong) == 18
    assert found["top1_error"] == pytest.approx(100 * sum(wrong) / len(wrong))
    assert "does not name its classes: those of data/val" in done.stderr + done.stdout
    assert run.read("card.json")["origin"] == "torchvision"
    assert run.state == "finished" and not (place / "scores" / "model.safetensors").exists()
    for words in (opts, opts[:4], ()):  # the folder knows the rest
        again = scored(place, *words)
        assert again.returncode == 0, again.stderr
        assert run.read("classification.json")["data/val"] == found
    other = scored(place, *opts[:4], "PRETRAIN.TEST_SIDE", str(SIDE + 8))
    assert other.returncode == 2
    assert f"TEST_SIDE is {SIDE + 8} (command line), the run was made with {SIDE}" in other.stderr
    other = scored(place, "MODEL.WEIGHTS", "trunk.pth")
    assert other.returncode == 2 and "the run of another model" in other.stderr


def test_our_own_file_brings_classes_input_and_crops(place):
    """The numbers of the training itself, in a folder of its own."""
    (place / "c.yaml").write_text(
        trainings.classifier({"MODEL.PIXEL_MEAN": [60.0] * 3, "MODEL.PIXEL_STD": [50.0] * 3,
                              "SOLVER.MAX_ITER": 2}), encoding="utf-8"
    )  # fmt: skip
    done = children.run_cli("pretrain_cls", "--config", "c.yaml", "--output", "one", cwd=place)
    assert done.returncode == 0, done.stderr
    file = "one/model.safetensors"
    done = scored(place, "MODEL.WEIGHTS", file, "PRETRAIN.VAL", "data/val", output="ours")
    assert done.returncode == 0, done.stderr
    one, ours = (Run.open(place / n).read("classification.json") for n in ("one", "ours"))
    assert one["data/val"] == ours["data/val"]
    again = scored(place, output="one")  # its own classifier, without --config
    assert again.returncode == 0, again.stderr
    assert f"top-1 error {one['data/val']['top1_error']:.2f} %" in again.stdout
    assert weights.load(place / file)[1].classes == ("blue", "green", "red")


@pytest.mark.parametrize(
    ("opts", "words"),
    [
        ([], "nothing to score. Give a file, MODEL.WEIGHTS FILE"),
        (["MODEL.WEIGHTS", "trunk.pth"], "without its last layer"),
        (["MODEL.WEIGHTS", "four.pth"], "4 outputs and names no classes, and data/val has 3"),
        (["MODEL.WEIGHTS", "two.pth"], "--part student"),
        (
            ["MODEL.WEIGHTS", "theirs.pth", "INPUT.FORMAT", "BGR"],
            "(the card of theirs.pth)",
        ),
        (["MODEL.WEIGHTS", "theirs.pth", "MODEL.WEIGHTS_PART", "ema"], "no part 'ema'"),
        (["MODEL.WEIGHTS_PART", "ema"], "MODEL.WEIGHTS is empty"),
    ],
)
def test_what_cannot_be_scored_is_refused_and_leaves_no_folder(place, opts, words):
    done = scored(place, *opts, "PRETRAIN.VAL", "data/val", output="bad")
    assert done.returncode == 2, done.stderr
    assert words in done.stderr and "Traceback" not in done.stderr
    assert not (place / "bad").exists()


def test_a_part_is_named_by_a_key(place):
    """Student and teacher in one file; the page's words, typed."""
    opts = ("MODEL.WEIGHTS", "two.pth", "MODEL.WEIGHTS_PART", "teacher", *SIZES)
    done = scored(place, *opts, "PRETRAIN.VAL", "data/val", output="teacher")
    assert done.returncode == 0, done.stderr
    assert Run.open(place / "teacher").read("card.json")["net"] == "resnet18"
