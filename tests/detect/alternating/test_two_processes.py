"""Alternating training by two processes: steps shared, proposals of all images, one detector."""

import pytest
import torch

pytest.importorskip("detectron2")

from resdet.formats.proposal_file import ProposalFile
from resdet.run.folder import Run
from tests.support import children, tiny, trainings


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("two")
    tiny.voc_tree(place / "voc")
    text = trainings.detector(trainings.HANDED_OVER, {"SOLVER.SCHEME": "alternating"})
    (place / "c.yaml").write_text(text, encoding="utf-8")
    trainings.net_to_hand_over(place / "net.safetensors")
    return place


def train(place, output, *more):
    words = ("train_det", "--config", "c.yaml", "--output", output,
             "MODEL.WEIGHTS", "net.safetensors", *more)  # fmt: skip
    return children.run_cli(*words, cwd=place, processes=2)


def test_two_processes_make_one_detector(place):
    """Both train, both propose, and the first one writes."""
    done = train(place, "two")
    assert done.returncode == 0, done.stderr
    assert Run.open(place / "two").state == "finished"
    steps = sorted((place / "two" / "alternating").iterdir())
    assert [path.name[0] for path in steps] == ["1", "2", "3", "4"]
    files = sorted((place / "two").rglob("proposals.safetensors"))
    assert [ProposalFile(path).image_ids for path in files] == [("000000", "000001", "000002")] * 2
    assert not list((place / "two").rglob("part_*"))
    models = [
        torch.load(folder / "model_final.pth", weights_only=True)["model"]
        for folder in (place / "two", steps[1])
    ]
    shared = "backbone.res4.0.conv1.weight"
    assert torch.equal(models[0][shared], models[1][shared])


def test_a_batch_that_they_cannot_share_is_refused_before_a_step(place):
    done = train(place, "uneven", "SOLVER.RPN.IMS_PER_BATCH", "1")
    assert done.returncode != 0
    assert "SOLVER.RPN.IMS_PER_BATCH is 1, which 2 processes cannot share" in done.stderr
    assert not (place / "uneven" / "alternating").exists()


def test_a_damaged_step_ends_both_by_its_page(place):
    """The main process alone looks; the other one waited for it."""
    (place / "two/alternating/1_rpn/run.json").write_text("{", encoding="utf-8")
    words = (
        "--config",
        "c.yaml",
        "--output",
        "two",
        "--resume",
        "MODEL.WEIGHTS",
        "net.safetensors",
    )
    done = children.run_cli("train_det", *words, cwd=place, processes=2)
    assert done.returncode != 0
    assert done.stderr.count("1_rpn/run.json is not readable as JSON") == 2
    assert "another process of this command ended" not in done.stderr
