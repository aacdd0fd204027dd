"""`train_det --config configs/coco_r101.yaml` with data and no weights: the page, or what it is
from; a set of COCO's shape and names with four images."""

import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("detectron2")

from detectron2.data.datasets.builtin_meta import COCO_CATEGORIES

from resdet.cli.main import main
from resdet.config import resolve
from tests.support.file_server import serving
from tests.support.preset_files import CONFIGS
from tests.support.starting_weights import (
    MSRA,
    content_of_net,
    empty_caches,
    in_detectron2s_cache,
    pretrained,
)

COCO_R101 = ("train_det", "--config", str(CONFIGS / "coco_r101.yaml"))
URL = "/dl.fbaipublicfiles.com/detectron2/ImageNetPretrained/MSRA/R-101.pkl"
# One step on one small image, its classes and layers as they are.
FEW = ("SOLVER.MAX_ITER", "1", "SOLVER.STEPS", "()", "SOLVER.IMS_PER_BATCH", "1",
       "SOLVER.REFERENCE_BATCH", "1", "SOLVER.BASE_LR", "1e-9", "INPUT.MIN_SIZE_TRAIN", "(64,)",
       "DATASETS.TEST", "()", "MODEL.RPN.POST_NMS_TOPK_TRAIN", "10",
       "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", "4")  # fmt: skip


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    empty_caches(tmp_path, monkeypatch)
    monkeypatch.setenv("RESDET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "sets"))
    for number, split in enumerate(("train", "val")):
        coco_split(tmp_path / "sets" / "coco", split, 4 * number)


def coco_split(root: Path, split: str, first: int) -> None:
    """Four images of noise, one object each, under COCO's names, ids and 80 categories."""
    categories = [{"id": c["id"], "name": c["name"]} for c in COCO_CATEGORIES if c["isthing"]]
    images, objects = [], []
    (root / f"{split}2014").mkdir(parents=True)
    for number in range(first + 1, first + 5):
        name = f"COCO_{split}2014_{number:012d}.jpg"
        pixels = np.random.default_rng(number).integers(0, 255, (96, 128, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / f"{split}2014" / name)
        images.append({"id": number, "width": 128, "height": 96, "file_name": name})
        objects.append({"id": number, "image_id": number, "category_id": categories[number]["id"],
                        "bbox": [10, 10, 60, 50], "area": 3000, "iscrowd": 0})  # fmt: skip
    content = {"images": images, "annotations": objects, "categories": categories}
    path = root / "annotations" / f"instances_{split}2014.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


@pytest.mark.parametrize("more", [(), ("--estimate",), ("--resume", "auto")])
def test_offline_with_nothing_there_it_is_a_page(more, capsys):
    """Three ways on, no folder, no half-made cache; exit code 2."""
    assert main([*COCO_R101, *more]) == 2
    page = capsys.readouterr().err
    assert "runs/imagenet_resnet101 is not there" in page
    assert f"{MSRA}R-101.pkl is not in the cache" in page
    for way in ("python tools/pretrain_cls.py --config imagenet_resnet101\n",
                "MODEL.WEIGHTS FILE\n", "TRANSFER.FROM_SCRATCH True"):  # fmt: skip
        assert way in page
    assert not [p for p in Path().rglob("*") if p.is_file() and "sets" not in p.parts]
    assert not Path("runs").exists()


@pytest.mark.slow
def test_with_a_filled_cache_it_starts_and_states_from_what(capsys):
    """The whole ResNet-101, random but for its norms, in the place of He et al.'s."""
    content = content_of_net("resnet101")
    in_detectron2s_cache("R-101.pkl", content)
    assert main([*COCO_R101, *FEW]) == 0
    log = capsys.readouterr().err
    assert f"MODEL.WEIGHTS auto is {MSRA}R-101.pkl: He et al.'s own weights" in log
    assert "may be set beside the paper's row" in log
    cfg = resolve("runs/coco_r101/config.yaml").cfg
    assert (f"{MSRA}R-101.pkl", False) == (cfg.MODEL.WEIGHTS, cfg.TRANSFER.FROM_SCRATCH)
    assert (cfg.MODEL.BACKBONE.FREEZE_AT, cfg.INPUT.FORMAT) == (2, "BGR")
    source = json.loads(Path("runs/coco_r101/run.json").read_text("utf-8"))["weights_source"]
    assert source["sha256"] == hashlib.sha256(content).hexdigest()
    transfer = json.loads(Path("runs/coco_r101/transfer.json").read_text("utf-8"))
    assert transfer["arrived"] == transfer["expected"] > 500


def test_it_is_fetched_where_there_is_a_network(monkeypatch, capsys):
    """From a server on loopback that stands for Detectron2's, once; not by --explain."""
    monkeypatch.delenv("HF_HUB_OFFLINE")
    with serving() as files:
        monkeypatch.setenv("RESDET_MIRROR", files.url)
        files.content[URL] = b"no weights"
        assert main([*COCO_R101, "--explain"]) == 0
        out, log = capsys.readouterr()
        assert not files.asked and "--explain fetches nothing" in log
        assert f"Weights: {MSRA}R-101.pkl (not here yet)\n" in out
        assert "frozen     stem, res2; " in out and "norms of the net: FrozenBatchNorm2d" in out
        assert re.search(r"^INPUT\.FORMAT +\? +the card of the weights", out, re.MULTILINE)
        for _ in range(2):
            assert main([*COCO_R101, "--estimate"]) == 2  # what it read is no file of weights
            assert f"MODEL.WEIGHTS auto is {MSRA}R-101.pkl: " in capsys.readouterr().err
        assert files.asked == {URL: 1}
    assert not Path("runs").exists()


def test_a_pretraining_run_that_is_damaged_ends_before_a_folder_is_made(capsys):
    pretrained("imagenet_resnet101", "finished")  # whose file holds no weights
    assert main([*COCO_R101, *FEW]) == 2
    assert "runs/imagenet_resnet101/model.safetensors" in capsys.readouterr().err
    assert [p.name for p in Path("runs").iterdir()] == ["imagenet_resnet101"]
