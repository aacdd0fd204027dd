"""The commands of docs/recipes.md, "Three starts", on tiny images."""

import json
import re
from pathlib import Path

import pytest

pytest.importorskip("detectron2")

from resdet.config import presets, resolve
from resdet.detect import from_run
from resdet.detect.architecture.model import fill_from_weights_and_net
from tests.support import children, tiny, trainings

# As the page says below them: no card gives random weights their preprocessing.
OF_THE_CARD = (
    "INPUT.FORMAT", "RGB", "MODEL.PIXEL_MEAN", "[60.0,60.0,60.0]",
    "MODEL.PIXEL_STD", "[50.0,50.0,50.0]",
)  # fmt: skip
OPTS = ("TRANSFER.FROM_SCRATCH", "True", "MODEL.DEVICE", "cpu")
DOCS = Path(__file__).parents[3] / "docs" / "recipes.md"


FILES = {
    "configs/fpn/voc07_r50_fpn.yaml": "c.yaml",
    "runs/pretrain_r50/model.safetensors": "net.safetensors",
    "runs/coco_r50_fpn/model_final.pth": "d/model_final.pth",
}


def commands():
    """The words of each command there, with the files of the test."""
    block = re.search(r"### Three starts.*?```\n(.*?)```", DOCS.read_text("utf-8"), re.DOTALL)[1]
    found = []
    for line in block.splitlines():
        words = line.split("#")[0].split()
        assert words[0] == "python"
        name = Path(words[1]).stem
        found.append([name, *(FILES.get(word, word) for word in words[2:])])
    return found


def test_the_commands_end_in_a_comparison_across_starts(tmp_path):
    tiny.voc_tree(tmp_path / "voc")
    text = trainings.detector(trainings.HANDED_OVER, {"MODEL.NET.WIDTH": 0.125})
    (tmp_path / "c.yaml").write_text(text, encoding="utf-8")
    trainings.net_to_hand_over(tmp_path / "net.safetensors")
    net = ("MODEL.WEIGHTS", "net.safetensors")
    done = children.run_cli("train_det", "--config", "c.yaml", "--output", "d", *net, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    nothing, *others, compare = commands()
    for words in ([*nothing, *OF_THE_CARD], *others, [*compare, "--output", "report"]):
        done = children.run_cli(*words, cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
    assert (
        "ACROSS STARTS: what training starts from differs: nothing in A, the backbone in B, a "
        in (done.stdout)
    )
    assert "trained on voc:voc:train" in done.stdout
    stored = json.loads((tmp_path / "report" / "report.json").read_text())
    starts = [run["start"] for run in stored["runs"].values()]
    assert starts == ["from scratch", "pretrained", "from a detector"]


def test_the_detector_that_is_named_there_fits_the_config():
    """All but the predictors, whose classes are others, has one shape."""
    shapes = {}
    for name, classes in (("voc07_r50_fpn", 20), ("coco_r50_fpn", 80)):
        config = resolve(presets.find(name), OPTS)
        fill_from_weights_and_net(config, None)
        config.fill({"MODEL.ROI_HEADS.NUM_CLASSES": classes}, "the test")
        model = from_run.build(config.cfg)
        shapes[name] = {key: tensor.shape for key, tensor in model.state_dict().items()}
    voc, coco = shapes.values()
    assert voc.keys() == coco.keys()
    assert {key for key in voc if voc[key] != coco[key]} == {
        f"roi_heads.box_predictor.{part}.{kind}"
        for part in ("cls_score", "bbox_pred")
        for kind in ("weight", "bias")
    }
