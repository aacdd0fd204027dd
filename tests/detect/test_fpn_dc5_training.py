"""FPN and DC5 from the command line: hand-over, two steps, a score."""

import json
from pathlib import Path

import pytest

pytest.importorskip("detectron2")

from resdet.run.folder import Run
from tests.support import children, tiny, trainings

BASE = Path(__file__).resolve().parents[2] / "configs" / "base"
# What the base files choose, and this one does not.
CHOSEN = ("MODEL.META_ARCHITECTURE", "MODEL.BACKBONE", "MODEL.ROI_HEADS.NAME", "SEED")


@pytest.mark.parametrize(
    ("detector", "sizes"),
    [
        pytest.param("fpn", [[16], [24], [32], [48], [64]], id="fpn"),
        pytest.param("dc5", [[32, 64]], id="dc5"),
    ],
)
def test_a_detector_trains_from_a_classifier_and_is_scored(tmp_path, detector, sizes):
    """20 convolutions with five tensors arrive, the last layer stays; three images are scored."""
    tiny.voc_tree(tmp_path / "voc")
    base = [str(BASE / "detection.yaml"), str(BASE / f"{detector}.yaml")]
    text = trainings.detector(
        trainings.HANDED_OVER,
        dict.fromkeys(CHOSEN),
        {
            "_BASE_": base,
            "MODEL.NET.WIDTH": 0.125,
            "MODEL.FPN.OUT_CHANNELS": 16,
            "MODEL.ANCHOR_GENERATOR.SIZES": sizes,
            "MODEL.ROI_BOX_HEAD.FC_DIM": 16,
        },
    )
    (tmp_path / "c.yaml").write_text(text, encoding="utf-8")
    trainings.net_to_hand_over(tmp_path / "net.safetensors")
    command = ["train_det", "--config", "c.yaml", "--output", "run"]
    done = children.run_cli(*command, "MODEL.WEIGHTS", "net.safetensors", cwd=tmp_path)
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
