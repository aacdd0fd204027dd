"""A file whose net was trained with a mean image, scored by both commands as it was trained.

Each image lies in the folder of the class that the net finds with the mean image, worked out here
by Pillow, numpy and torch: then the error is 0, and with a mean per channel it is not.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("detectron2")

from resdet import nets, weights
from resdet.cli.main import main
from resdet.evaluation.classification.score_files import load_scores
from resdet.pretrain.trainer import Pretraining
from resdet.run.folder import Run
from tests.support import trainings
from tests.support.foreign_nets import randomised
from tests.support.small_classifiers import images_in

SIDE, PAD, STD = 16, 2, (40.0, 60.0, 80.0)
CLASSES = ("blue", "green", "red")
IMAGES = 60
CENTRED = "MODEL.WEIGHTS", "net.safetensors", "PRETRAIN.VAL", "data"


def noise(seed: int, side: int = SIDE) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)


def probabilities(net: torch.nn.Module, centred: np.ndarray) -> np.ndarray:
    """(K,) of one image less its mean, RGB; the net takes BGR."""
    x = torch.from_numpy(centred[:, :, ::-1].copy()).permute(2, 0, 1)[None].float()
    with torch.no_grad():
        logits = net(x / torch.tensor(STD).view(1, 3, 1, 1))
    return torch.softmax(logits.double(), 1)[0].numpy()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, torch.nn.Module, np.ndarray]:
    """The folder, the net and its mean image in RGB, which has another value at every pixel."""
    place = tmp_path_factory.mktemp("mean image")
    net = randomised(nets.build("cifar_resnet8", 3, width=0.5))
    mean = np.random.default_rng(9).uniform(0, 255, (SIDE, SIDE, 3)).astype(np.float32)
    logs = np.log([probabilities(net, noise(seed) - mean) for seed in range(IMAGES)])
    with torch.no_grad():  # so that the classes are about equally frequent
        net.linear.bias -= torch.from_numpy(logs.mean(0))
        for tensor in net.linear.parameters():
            tensor /= logs.std(0).mean()
    card = weights.Card(
        net="cifar_resnet8",
        net_options={"width": 0.5},
        input=weights.Input.of_mean_image("BGR", mean[:, :, ::-1], STD),
        classes=CLASSES,
        norm={"kind": "BN", "eps": 1e-5, "statistics": "made up", "folded": False},
    )
    weights.save(place / "net.safetensors", net.state_dict(), card)
    for name in CLASSES:
        (place / "data" / name).mkdir(parents=True)
    for seed in range(IMAGES):
        ordered = np.sort(found := probabilities(net, noise(seed) - mean))
        # No rounding turns this class into another one.
        if ordered[-1] - ordered[-2] > 0.02:
            folder = place / "data" / CLASSES[int(found.argmax())]
            Image.fromarray(noise(seed)).save(folder / f"{seed}.png")
    return place, net, mean


@pytest.fixture
def here(made: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(made[0])
    monkeypatch.setenv("RESDET_CACHE", str(made[0] / "cache"))
    return Path(made[0])


def read(place: Path) -> list[np.ndarray]:
    return [np.array(Image.open(path).convert("RGB")) for path in images_in(place / "data")]


def scores_of(capsys: Any, *words: str) -> np.ndarray:
    """The probabilities that `evaluate cls` keeps, float64."""
    capsys.readouterr()
    assert main(["evaluate", "cls", "net.safetensors", "--data", "data", *words, "--json"]) == 0
    scores = load_scores(json.loads(capsys.readouterr().out)["scores"])
    return np.exp(scores.log_probabilities.astype(np.float64))


def test_labels_tell_a_mean_image_from_a_mean_per_channel(made: Any) -> None:
    """Else the tests below could not fail."""
    place, net, mean = made
    labels = [CLASSES.index(path.parent.name) for path in images_in(place / "data")]
    per_channel = mean.mean((0, 1))
    found = [int(probabilities(net, image - per_channel).argmax()) for image in read(place)]
    assert len(labels) >= 30 and np.mean(np.array(found) != labels) > 0.1


def test_pretrain_cls_scores_such_a_file(here: Path) -> None:
    assert main(["pretrain_cls", "--eval-only", "--output", "one", *CENTRED]) == 0
    (found,) = Run.open(here / "one").read("classification.json").values()
    assert found["images"]["evaluated"] >= 30 and found["top1_error"] == 0.0


def test_evaluate_cls_scores_such_a_file(here: Path, made: Any, capsys: Any) -> None:
    _, net, mean = made
    expected = [probabilities(net, image - mean) for image in read(here)]
    found = scores_of(capsys, "--output", "centre")
    # float32 through eight convolutions.
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_ten_crops_lie_in_the_centred_image_with_zeros_around_it(
    here: Path, made: Any, capsys: Any
) -> None:
    """As the training images were padded: the mean image is subtracted before."""
    _, net, mean = made
    expected = []
    for image in read(here):
        padded = np.pad(image - mean, ((PAD, PAD), (PAD, PAD), (0, 0)))
        crops = [
            padded[top : top + SIDE, left : left + SIDE]
            for top, left in ((0, 0), (0, 4), (4, 0), (4, 4), (2, 2))
        ]
        views = [*crops, *(crop[:, ::-1] for crop in crops)]
        expected.append(np.mean([probabilities(net, view) for view in views], axis=0))
    found = scores_of(capsys, "--protocol", "10-crop", "--output", "ten")
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_dense_at_the_size_of_the_mean_image_is_the_centre_crop(here: Path, capsys: Any) -> None:
    centre = scores_of(capsys, "--output", "centre")
    words = ("--protocol", "dense", "--sizes", str(SIDE), "--no-flip", "--output", "dense")
    np.testing.assert_allclose(scores_of(capsys, *words), centre, atol=1e-4)


def test_dense_at_another_size_takes_the_mean_image_of_that_size(
    here: Path, made: Any, capsys: Any
) -> None:
    """Twice the size: the net over the resized image less the mean image, resized by Pillow."""
    _, net, mean = made
    size = (2 * SIDE, 2 * SIDE)
    channels = [np.ascontiguousarray(mean[:, :, c]) for c in range(3)]
    larger = np.stack(
        [Image.fromarray(c).resize(size, Image.Resampling.BILINEAR) for c in channels], axis=2
    )
    expected = []
    for image in read(here):
        resized = Image.fromarray(image).resize(size, Image.Resampling.BILINEAR)
        expected.append(probabilities(net, np.array(resized) - larger))
    words = ("--protocol", "dense", "--sizes", str(2 * SIDE), "--no-flip", "--output", "twice")
    np.testing.assert_allclose(scores_of(capsys, *words), expected, atol=1e-4)


def test_scores_that_are_kept_tell_mean_images_apart(here: Path, capsys: Any) -> None:
    """The card's mean image is part of what decides the numbers, by its digest."""
    scores_of(capsys, "--output", "kept")
    (path,) = (here / "kept" / "scores").glob("*.npz")
    facts = load_scores(path).net["input"]
    assert len(facts["mean_image"]) == 64 and facts["size"] == SIDE


def test_what_cannot_be_scored_so_is_refused(here: Path, capsys: Any, tmp_path: Path) -> None:
    """Another crop, and an image that is not square, before anything is scored."""
    words = ["pretrain_cls", "--eval-only", "--output"]
    assert main([*words, "crop", *CENTRED, "PRETRAIN.CROP", "12"]) == 2
    assert "mean for each pixel of 16 x 16: leave PRETRAIN.CROP out" in capsys.readouterr().err
    for name in CLASSES:
        (tmp_path / "wide" / name).mkdir(parents=True)
        Image.new("RGB", (20, 16)).save(tmp_path / "wide" / name / "0.png")
    wide = str(tmp_path / "wide")
    assert main([*words, "wide", "MODEL.WEIGHTS", "net.safetensors", "PRETRAIN.VAL", wide]) == 2
    assert "blue/0.png: 20 x 16 pixels" in capsys.readouterr().err
    assert main(["evaluate", "cls", "net.safetensors", "--data", wide, "--output", "w"]) == 2
    assert "blue/0.png: 20 x 16 pixels" in capsys.readouterr().err


@pytest.mark.parametrize("order", ["RGB", "BGR"])
def test_a_file_of_a_training_scores_as_the_training_did(
    here: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch, order: str
) -> None:
    """The run's own scores, the file's by pretrain_cls, and the file's by evaluate cls."""
    text = trainings.classifier(
        {
            "PRETRAIN.TRAIN": "copy", "PRETRAIN.VAL": "data", "PRETRAIN.TEST_SIDE": SIDE,
            "PRETRAIN.AUGMENTATION": "pad", "PRETRAIN.MEAN_IMAGE": "on", "INPUT.FORMAT": order,
            "SOLVER.MAX_ITER": 3, "PRETRAIN.BN_IMAGES": -1,
        }
    )  # fmt: skip
    (here / f"{order}.yaml").write_text(text, encoding="utf-8")
    shutil.copytree(here / "data", here / "copy")
    folder = f"run {order}"
    assert main(["pretrain_cls", "--config", f"{order}.yaml", "--output", folder]) == 0
    own = Run.open(here / folder).read("classification.json")
    file = f"{folder}/model.safetensors"
    _, card = weights.load(here / file)
    images = read(here)
    expected = np.mean(images, axis=0, dtype=np.float64)
    array = card.input.mean_image_array()
    assert array is not None
    array = array if order == "RGB" else array[:, :, ::-1]
    np.testing.assert_allclose(array, expected, rtol=1e-6)

    # The training images change; the mean image does not.
    for path in images_in(here / "copy"):
        Image.new("RGB", (SIDE, SIDE)).save(path)
    used: list[np.ndarray] = []
    score = Pretraining.score

    def noting(training: Any) -> dict[str, Any]:
        used.append(training.mean_image.image)
        return score(training)

    monkeypatch.setattr(Pretraining, "score", noting)
    config = ["--config", f"{order}.yaml", "--output", folder]
    assert main(["pretrain_cls", "--eval-only", *config]) == 0
    assert np.array_equal(used[0], array)
    assert Run.open(here / folder).read("classification.json") == own
    shutil.rmtree(here / "copy")

    words = ["MODEL.WEIGHTS", file, "PRETRAIN.VAL", "data"]
    assert main(["pretrain_cls", "--eval-only", "--output", f"again {order}", *words]) == 0
    assert Run.open(here / f"again {order}").read("classification.json") == own
    capsys.readouterr()
    assert main(["evaluate", "cls", file, "--data", "data", "--output", order, "--json"]) == 0
    (one,) = json.loads(capsys.readouterr().out)["classifiers"]
    assert one["top1_error"] == pytest.approx(own["data"]["top1_error"] / 100)
