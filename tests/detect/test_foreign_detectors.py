"""`--eval-only` of files that no run of ours wrote: scored with every tensor counted, or a page.

Files are made with Detectron2, torchvision and timm themselves, their weights random; Detectron2's
configs are those of its model zoo, narrower.
"""

from __future__ import annotations

import json
import pickle
import re
from pathlib import Path

import pytest
import timm
import torch

pytest.importorskip("detectron2")

from detectron2 import model_zoo
from detectron2.modeling import build_model
from torchvision.models import detection
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

from resdet.cli.main import run_command
from tests.support import tiny, trainings
from tests.support.foreign_nets import randomised

ZOO = "COCO-Detection/faster_rcnn_R_50_{}_1x.yaml"
NARROW = ["MODEL.RESNETS.WIDTH_PER_GROUP", "8", "MODEL.RESNETS.STEM_OUT_CHANNELS", "8",
          "MODEL.RESNETS.RES2_OUT_CHANNELS", "32", "MODEL.DEVICE", "cpu"]  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes, and files of several makers."""
    place = tmp_path_factory.mktemp("foreign")
    tiny.voc_tree(place / "voc", images=4)
    torch.manual_seed(0)
    for kind in ("C4", "FPN"):
        cfg = model_zoo.get_config(ZOO.format(kind))
        cfg.merge_from_list([*NARROW, "MODEL.WEIGHTS", "", "MODEL.ROI_HEADS.NUM_CLASSES", 2])
        arrays = {name: t.numpy() for name, t in build_model(cfg).state_dict().items()}
        content = {"model": arrays, "__author__": "Detectron2 Model Zoo"}
        (place / f"{kind}.pkl").write_bytes(pickle.dumps(content))
    backbone = resnet_fpn_backbone(backbone_name="resnet18", weights=None)
    faster = randomised(detection.FasterRCNN(backbone, num_classes=3))
    torch.save(faster.state_dict(), place / "torchvision.pth")
    retina = detection.RetinaNet(backbone, num_classes=3)
    torch.save(retina.state_dict(), place / "retina.pth")
    for name, classes in (("timm", 10), ("headless", 0)):
        net = randomised(timm.create_model("resnet18", num_classes=classes))
        torch.save(net.state_dict(), place / f"{name}.pth")
    convnext = timm.create_model("convnext_atto", num_classes=0)
    torch.save(convnext.state_dict(), place / "convnext.pth")
    own = trainings.detector({"SOLVER.MAX_ITER": 1, "MODEL.RPN.POST_NMS_TOPK_TRAIN": 10})
    (place / "own.yaml").write_text(own, encoding="utf-8")
    return place


@pytest.fixture(autouse=True)
def here(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setenv("RESDET_CACHE", str(place / "cache"))


def score(output: Path, config: str, file: str, *opts: str) -> int:
    words = ["--config", config, "--output", str(output), "--eval-only", "MODEL.WEIGHTS", file]
    return run_command("train_det", [*words, "DATASETS.TEST", "('voc:voc:test',)", *opts])


def of_zoo(kind: str) -> str:
    return model_zoo.get_config_file(ZOO.format(kind))


@pytest.mark.parametrize("kind", ["C4", "FPN"])
def test_a_file_of_the_model_zoo_is_scored_whole(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every array of the file but anchors and pixel statistics, which the config makes."""
    names = pickle.loads(Path(f"{kind}.pkl").read_bytes())["model"]
    count = sum("anchor_generator" not in n and not n.startswith("pixel_") for n in names)
    assert count > 250
    assert score(tmp_path, of_zoo(kind), f"{kind}.pkl", "INPUT.MIN_SIZE_TEST", "64", *NARROW) == 0
    counted = f"{kind}.pkl: expected {count}, arrived {count}, new by declaration 0, left over 0"
    assert counted in capsys.readouterr().err


def test_a_file_of_another_kind_of_detector_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing may be new where nothing trains, so TRANSFER.NEW is no way out."""
    assert score(tmp_path / "r", of_zoo("C4"), "FPN.pkl", *NARROW) == 2
    page = capsys.readouterr().err
    assert "FPN.pkl does not fit the net" in page
    assert "of the FPN kind for 2 classes" in page
    assert "faster_rcnn_R_50_FPN_1x.yaml" in page
    assert "TRANSFER.NEW" not in page


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("torchvision.pth", "a detector of torchvision, a Faster, Mask or Keypoint R-CNN"),
        ("retina.pth", "a detector of torchvision, one without regions"),
        ("timm.pth", "a classifier, resnet18; .* pretrain_cls --eval-only MODEL.WEIGHTS timm.pth"),
        ("headless.pth", "a classifier, resnet18, without its last layer; .* leave --eval-only"),
        ("convnext.pth", "convnext.pth holds no detector .* docs/own_net.md"),
    ],
)
def test_what_is_no_detector_here_is_named_with_what_to_type(
    file: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert score(tmp_path / "r", "own.yaml", file) == 2
    page = " ".join(capsys.readouterr().err.split())
    assert re.search(words, page), page
    assert not (tmp_path / "r").exists()


def test_the_net_inside_starts_a_training(tmp_path: Path) -> None:
    """The advice of torchvision's page, typed: --eval-only left out."""
    words = ["--config", "own.yaml", "--output", str(tmp_path), "MODEL.WEIGHTS", "torchvision.pth"]
    assert run_command("train_det", words) == 0


@pytest.mark.parametrize("names", [[], ["ape", "bee"]])
def test_a_file_of_the_model_zoo_detects_on_pictures(
    names: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its classes are stated, and its boxes are those of --eval-only; without names: a page."""
    keys = ["INPUT.MIN_SIZE_TEST", "64", "MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.0", *NARROW]
    keys += ["DATASETS.TEST", "()", "MODEL.ROI_HEADS.NUM_CLASSES", "2"]
    (tmp_path / "names.txt").write_text("ape\n\nbee\n", encoding="utf-8")
    file = str(tmp_path / "tame.pkl")
    content = pickle.loads(Path("C4.pkl").read_bytes())
    for name in content["model"]:
        # Random maps of fifty layers are large: all of the softmax would be one class's.
        if "box_predictor" in name:
            content["model"][name] = content["model"][name] * 1e-4
    Path(file).write_bytes(pickle.dumps(content))
    stated = ["--classes", str(tmp_path / "names.txt")] if names else []
    words = [file, "voc/JPEGImages/000002.jpg", "--config", of_zoo("C4"), "--json", *stated]
    code = run_command("detect", [*words, *keys, "DATASETS.TRAIN", "()"])
    if not names:
        assert code == 2
        assert "State them: --classes FILE, a name a line" in capsys.readouterr().err
        return
    assert code == 0
    result = json.loads(capsys.readouterr().out)
    assert [category["name"] for category in result["categories"]] == names
    assert score(tmp_path / "run", of_zoo("C4"), file, *keys[:4], *NARROW) == 0
    (path,) = (tmp_path / "run" / "results").glob("*/coco_instances_results.json")
    own = [r for r in json.loads(path.read_text(encoding="utf-8")) if r["image_id"] == "000002"]
    assert len(own) > 3
    by_score = sorted(own, key=lambda r: -r["score"])
    assert [(r["bbox"], r["score"]) for r in by_score] == [
        (a["bbox"], a["score"]) for a in result["annotations"]
    ]
