"""FPN and DC5 from the command line: hand-over, two steps, a score."""

import json
from pathlib import Path

import pytest
import torch

pytest.importorskip("detectron2")

from resdet import nets, weights
from resdet.run.folder import Run
from resdet.weights import Card, Input
from tests.support import tiny

BASE = Path(__file__).resolve().parents[2] / "configs" / "base"
CONFIG = """
_BASE_: {base}
MODEL:
  DEVICE: cpu
  NET: {{NAME: resnet18, WIDTH: 0.125}}
  FPN: {{OUT_CHANNELS: 16}}
  ANCHOR_GENERATOR: {{SIZES: {sizes}}}
  RPN: {{BATCH_SIZE_PER_IMAGE: 16, POST_NMS_TOPK_TRAIN: 30, POST_NMS_TOPK_TEST: 10}}
  ROI_HEADS: {{BATCH_SIZE_PER_IMAGE: 8, SCORE_THRESH_TEST: 0.0}}
  ROI_BOX_HEAD: {{FC_DIM: 16}}
INPUT: {{MIN_SIZE_TRAIN: [64, 80], MIN_SIZE_TEST: 72}}
DATASETS: {{TRAIN: ['voc:voc:train'], TEST: ['voc:voc:test']}}
SOLVER: {{IMS_PER_BATCH: 2, BASE_LR: 0.01, MAX_ITER: 2, STEPS: [], WARMUP_ITERS: 0}}
"""


@pytest.mark.parametrize(
    ("detector", "sizes"),
    [
        pytest.param("fpn", "[[16], [24], [32], [48], [64]]", id="fpn"),
        pytest.param("dc5", "[[32, 64]]", id="dc5"),
    ],
)
def test_a_detector_trains_from_a_classifier_and_is_scored(tmp_path, detector, sizes):
    """20 convolutions with five tensors arrive, the last layer stays; three images are scored."""
    tiny.voc_tree(tmp_path / "voc")
    base = [str(BASE / "detection.yaml"), str(BASE / f"{detector}.yaml")]
    text = CONFIG.format(base=base, sizes=sizes)
    (tmp_path / "c.yaml").write_text(text, encoding="utf-8")
    torch.manual_seed(0)
    net = nets.build("resnet18", 3, width=0.125)
    net(torch.randn(4, 3, 64, 64))  # statistics of something
    card = Card("resnet18", Input("RGB", (60.0,) * 3, (50.0,) * 3), {"width": 0.125})
    weights.save(tmp_path / "net.safetensors", net.state_dict(), card)
    command = ["train_det", "--config", "c.yaml", "--output", "run"]
    done = tiny.run_cli(*command, "MODEL.WEIGHTS", "net.safetensors", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    run = Run.open(tmp_path / "run")
    transfer = run.read("transfer.json")
    assert (transfer["expected"], transfer["arrived"], len(transfer["left_over"])) == (100, 100, 2)
    assert "res5 " in done.stderr + done.stdout  # stage by stage, what trains
    (name,) = run.result_sets()
    images, voc, found = (
        json.loads((run.results(name) / f"{n}.json").read_text(encoding="utf-8"))
        for n in ("images", "voc", "coco_instances_results")
    )
    assert images["evaluated"] == ["000003", "000004", "000005"]
    assert voc["11-point"]["images"] == {"expected": 3, "evaluated": 3, "missing": 0}
    assert len(found) > 0 and run.state == "finished"
