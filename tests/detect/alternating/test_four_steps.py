"""Alternating training: four steps that share files alone, killed in each and gone on with."""

import json
import shutil

import pytest
import torch

pytest.importorskip("detectron2")

from resdet.formats.proposal_file import ProposalFile
from resdet.run.folder import Run
from tests.support import tiny, trainings
from tests.support.forked import Forked, run_forked

CONFIG = trainings.detector(
    trainings.HANDED_OVER, {"SOLVER.MAX_ITER": 4, "SOLVER.CHECKPOINT_PERIOD": 2}
)
SCHEME = ("SOLVER.SCHEME", "alternating", "SOLVER.RPN.MAX_ITER", "6", "SOLVER.RPN.STEPS", "(5,)",
          "SOLVER.RPN.IMS_PER_BATCH", "1", "SOLVER.RPN.BASE_LR", "0.02",
          "MODEL.RPN.PRE_NMS_TOPK_TRAIN", "1000000")  # fmt: skip
WEIGHTS = ("MODEL.WEIGHTS", "net.safetensors")
STEPS = ("1_rpn", "2_fast_rcnn", "3_rpn", "4_fast_rcnn")

# From one kill to the next: 6 steps and 3 images of the first RPN, 4 of Fast R-CNN, and again.
KILLS = (("step", 3), ("image", 1), ("step", 3), ("step", 4), ("image", 2), ("step", 1))


STEP_ONE = ("SOLVER.MAX_ITER", "6", "SOLVER.STEPS", "(5,)", "SOLVER.IMS_PER_BATCH", "1",
            "SOLVER.BASE_LR", "0.02")  # fmt: skip
OF_STEP_ONE = "one/alternating/1_rpn/proposals/voc%3Avoc%3Atrain/proposals.safetensors"
OF_THE_TEST = "rpn/results/voc%3Avoc%3Atest/proposals.safetensors"
OTHER_LENGTH = [*SCHEME[:3], "8", *SCHEME[4:]]


def train(output, *more, flags=()):
    return ["train_det", "--config", "c.yaml", "--output", output, *flags, *WEIGHTS, *more]


AGAIN = train("two", *SCHEME, flags=("--resume", "auto"))
JOBS = {
    "one": Forked(train("one", *SCHEME)),
    **{f"killed {n}": Forked(AGAIN, *kill) for n, kill in enumerate(KILLS)},
    "two": Forked(AGAIN),
    "rpn": Forked(train("rpn", "MODEL.META_ARCHITECTURE", "ProposalNetwork", *STEP_ONE)),
    "fast": Forked(
        train(
            "fast", "MODEL.LOAD_PROPOSALS", "True",
            "DATASETS.PROPOSAL_FILES_TRAIN", f"('{OF_STEP_ONE}',)",
            "DATASETS.PROPOSAL_FILES_TEST", f"('{OF_THE_TEST}',)",
            "DATASETS.PRECOMPUTED_PROPOSAL_TOPK_TRAIN", "30",
        )
    ),
    "scored": Forked(
        ["train_det", "--config", "c.yaml", "--eval-only", "--output", "one", *SCHEME]
    ),
    # Norms that train, and no card; a tail that begins at random, by the fast forms.
    "scratch": Forked(
        ["train_det", "--config", "c.yaml", "--output", "scratch", *SCHEME,
         "TRANSFER.FROM_SCRATCH", "True", "MODEL.NET.WIDTH", "0.125"]
    ),
    "fast forms": Forked(
        train("forms", *SCHEME, "TRANSFER.NEW", "('res5.*', 'res4.*')", "ENGINE.FAST_TRAINING",
              "on", "ENGINE.FAST_INFERENCE", "on", "MODEL.BACKBONE.FREEZE_AT", "1")
    ),
    "recall": Forked(["evaluate", "proposals", "rpn", "--output", "recall"]),
    "of one": Forked(
        ["train_det", "--config", "c.yaml", "--eval-only", "--output", "rpn_of_one",
         "MODEL.WEIGHTS", "one/model_final.pth", "MODEL.META_ARCHITECTURE", "ProposalNetwork"]
    ),
    "compared": Forked(["compare", "one", "rpn"]),
    "exported": Forked(["convert_weights", "export", "rpn", "-o", "rpn.onnx"]),
    "longer": Forked(train("one", *OTHER_LENGTH, flags=("--resume",))),
    "grown": Forked(train("one", *SCHEME, "SOLVER.MAX_ITER", "8", flags=("--resume",))),
    "as it was": Forked(train("one", *SCHEME, flags=("--resume",))),
    "explained": Forked(train("none", *SCHEME, flags=("--explain",))),
}  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("alternating")
    tiny.voc_tree(place / "voc")
    (place / "c.yaml").write_text(CONFIG, encoding="utf-8")
    trainings.net_to_hand_over(place / "net.safetensors")
    return place


@pytest.fixture(scope="module")
def ended(place):
    """How each command ended; all are run by one process, for what a start of Python costs."""
    return dict(zip(JOBS, run_forked(list(JOBS.values()), place), strict=True))


@pytest.fixture(autouse=True)
def _trained(ended):
    for name in (
        "one",
        "two",
        "rpn",
        "fast",
        "scored",
        "scratch",
        "fast forms",
        "recall",
        "of one",
    ):
        assert ended[name].returncode == 0, (name, ended[name].stderr)


def model_in(folder):
    return torch.load(folder / "model_final.pth", weights_only=True)["model"]


def equal(one, two):
    return one.keys() == two.keys() and all(torch.equal(one[n], two[n]) for n in one)


def step(place, name, run="one"):
    return place / run / "alternating" / name


def test_killed_in_each_step_it_goes_on_with_the_same_numbers(place, ended):
    """One training, killed while each step trains and while either RPN makes proposals."""
    for number in range(len(KILLS)):
        killed = ended[f"killed {number}"]
        assert killed.returncode == -9, killed.stderr
    for name in STEPS:
        assert equal(model_in(step(place, name)), model_in(step(place, name, "two"))), name
    assert equal(model_in(place / "one"), model_in(place / "two"))
    for file in sorted((place / "one").rglob("proposals.safetensors")):
        other = place / "two" / file.relative_to(place / "one")
        assert other.read_bytes() == file.read_bytes()
    name = "results/voc%3Avoc%3Atest/coco_instances_results.json"
    assert (place / "two" / name).read_bytes() == (place / "one" / name).read_bytes()
    log = (place / "two" / "log.txt").read_text(encoding="utf-8")
    assert "step 3 of 4, RPN on the shared stages of step 2, which stay: done before" in log


def test_damaged_proposals_that_a_step_still_needs_are_made_again(place):
    """It stopped at the image whose rows had changed, at each --resume. The last step trains anew,
    on the same proposals; those of step 1, which no step needs any more, stay as they are."""
    shutil.copytree(place / "one", place / "hurt")
    name = "proposals/voc%3Avoc%3Atrain/proposals.safetensors"
    files = [step(place, s, "hurt") / name for s in ("1_rpn", "3_rpn")]
    whole = [file.read_bytes() for file in files]
    hurt = []
    for file, raw in zip(files, whole, strict=True):
        hurt.append(bytearray(raw))
        hurt[-1][4096 + 11] ^= 1  # in the rows of the first image
        file.write_bytes(hurt[-1])
    last = step(place, "4_fast_rcnn", "hurt")
    shutil.rmtree(last / "checkpoints")
    (last / "model_final.pth").unlink()
    (done,) = run_forked([Forked(train("hurt", *SCHEME, flags=("--resume",)))], place)
    assert done.returncode == 0, done.stderr
    log = (place / "hurt" / "log.txt").read_text(encoding="utf-8")
    assert "the rows of image '000000' changed" in log and "They are made again." in log
    assert [file.read_bytes() for file in files] == [bytes(hurt[0]), whole[1]]
    assert equal(model_in(place / "one"), model_in(place / "hurt"))


def test_step_one_is_an_rpn_trained_alone_to_the_bit(place, ended):
    """The same schedule typed for an RPN by itself; neither knows of the other."""
    assert equal(model_in(place / "rpn"), model_in(step(place, "1_rpn")))
    recall = json.loads(
        (place / "rpn/results/voc%3Avoc%3Atest/recall.json").read_text(encoding="utf-8")
    )
    assert recall["objects"] == 3 and 0 <= recall["AR50"] <= recall["AR1000"] <= 1
    assert "Recall of proposals, classes aside, on 3 of 3 images" in ended["rpn"].stdout


def test_fast_rcnn_by_itself_on_the_same_proposals_is_step_two_to_the_bit(place, ended):
    """The file is what the steps share; a detector of it is tested on a file, too."""
    assert equal(model_in(place / "fast"), model_in(step(place, "2_fast_rcnn")))
    assert "mean of 2 of 2 classes" in ended["fast"].stdout


def test_the_detector_is_made_of_three_steps_and_shares_the_second_s_stages(place):
    whole = model_in(place / "one")
    steps = {name: model_in(step(place, name)) for name in STEPS}
    for name, tensor in whole.items():
        part = name.split(".")[0]
        origin = {
            "backbone": "2_fast_rcnn",
            "proposal_generator": "3_rpn",
            "roi_heads": "4_fast_rcnn",
        }
        assert torch.equal(tensor, steps[origin[part]][name])
        if part == "backbone":
            assert torch.equal(tensor, steps["3_rpn"][name])
            assert torch.equal(tensor, steps["4_fast_rcnn"][name])
    first = steps["1_rpn"]["backbone.res4.0.conv1.weight"]
    assert not torch.equal(first, whole["backbone.res4.0.conv1.weight"])
    rpn = "proposal_generator.rpn_head.conv.weight"
    assert not torch.equal(steps["1_rpn"][rpn], whole[rpn])
    head = "roi_heads.box_predictor.cls_score.weight"
    assert not torch.equal(steps["2_fast_rcnn"][head], whole[head])


def test_each_step_is_a_run_of_its_own_schedule(place):
    runs = {name: Run.open(step(place, name)) for name in STEPS}
    assert {name: run.info["max_iter"] for name, run in runs.items()} == dict(
        zip(STEPS, (6, 4, 6, 4), strict=True)
    )
    assert [run.info["samples"] for run in runs.values()] == [6, 8, 6, 8]
    assert {run.state for run in runs.values()} == {"finished"}
    info = Run.open(place / "one").info
    assert (info["samples"], info["state"]) == (28, "finished")
    assert info["train_seconds"] > 0 and info["train_sets"][0]["images"] == 3
    rates = {row["lr"] for row in runs["1_rpn"].metrics()}
    assert min(rates) == pytest.approx(0.002)  # 0.02, and a tenth from step 5 on


def test_the_proposals_are_of_the_training_images_without_a_cut_before_nms(place):
    file = ProposalFile(step(place, "3_rpn") / "proposals/voc%3Avoc%3Atrain/proposals.safetensors")
    assert file.image_ids == ("000000", "000001", "000002")
    assert file.data_set == "voc:voc:train"
    for image_id in file.image_ids:
        boxes, _ = file.of(image_id)
        # POST_NMS_TOPK_TRAIN, where the test keeps 10; in pixels of the original image.
        assert len(boxes) == 30 and boxes[:, 2].max() <= 96 and boxes.min() >= 0


def test_it_is_scored_again_as_any_run(ended):
    assert "mean of 2 of 2 classes" in ended["scored"].stdout


def test_a_step_of_another_length_is_not_gone_on_with(place, ended):
    """A joint training may grow; steps that have ended may not, and the run stays as it was."""
    for name, key in (("longer", "SOLVER.RPN.MAX_ITER"), ("grown", "SOLVER.MAX_ITER")):
        refused = ended[name]
        assert refused.returncode == 2 and f"{key} is 8" in refused.stderr, refused.stderr
    assert ended["as it was"].returncode == 0, ended["as it was"].stderr
    assert Run.open(place / "one").info["max_iter"] == 4


def test_the_plan_names_all_four(ended):
    assert (
        "in four, RPN 6 steps of 1 image, Fast R-CNN 4 steps of 2 images, and both again"
        in ended["explained"].stdout
    )


def test_norms_that_train_are_fixed_with_what_is_shared_and_train_in_the_tail(place):
    """From random weights: steps 3 and 4 keep step 2's statistics of the shared stages."""
    models = [model_in(step(place, name, "scratch")) for name in STEPS]
    mean = "backbone.res3.0.conv1.norm.running_mean"
    assert torch.equal(models[1][mean], models[2][mean])
    assert torch.equal(models[1][mean], models[3][mean])
    assert not torch.equal(models[0][mean], models[1][mean])
    tail = "roi_heads.res5.0.conv1.norm.running_mean"
    assert not torch.equal(models[1][tail], models[3][tail])
    whole = model_in(place / "scratch")
    assert torch.equal(whole[mean], models[1][mean]) and torch.equal(whole[tail], models[3][tail])


def test_what_was_declared_new_is_new_in_the_first_two_steps_alone(place):
    """TRANSFER.NEW names a shared stage and the tail; the shared one is fixed later as any."""
    models = {name: model_in(step(place, name, "forms")) for name in STEPS}
    shared, tail = "backbone.res4.0.conv1.weight", "roi_heads.res5.0.conv1.weight"
    assert torch.equal(models["2_fast_rcnn"][shared], models["4_fast_rcnn"][shared])
    assert not torch.equal(models["2_fast_rcnn"][tail], models["4_fast_rcnn"][tail])
    transfer = json.loads((step(place, "1_rpn", "forms") / "transfer.json").read_text("utf-8"))
    assert {name.split(".")[0] for name in transfer["new"]} == {"res4"}


def test_recall_of_a_run_has_its_picture(place, ended):
    recall = json.loads((place / "recall" / "recall.json").read_text(encoding="utf-8"))
    own = place / "rpn/results/voc%3Avoc%3Atest"
    assert recall == json.loads((own / "recall.json").read_text(encoding="utf-8"))
    picture = (place / "recall" / "recall.svg").read_text(encoding="utf-8")
    assert picture == (own / "recall.svg").read_text(encoding="utf-8")
    assert picture.startswith("<svg") and picture.count("IoU 0.50") >= 1
    assert "1,000" in ended["recall"].stdout


def test_the_rpn_of_a_whole_detector_is_scored_by_itself(place):
    """Its heads are left behind; the proposals are those that its own test had, 10 an image."""
    file = ProposalFile(place / "rpn_of_one/results/voc%3Avoc%3Atest/proposals.safetensors")
    assert [len(file.of(i)[0]) for i in file.image_ids] == [10, 10, 10]


def test_an_rpn_alone_is_named_where_a_detector_is_expected(ended):
    for name in ("compared", "exported"):
        assert ended[name].returncode == 2, ended[name].stderr
        assert "an RPN alone" in ended[name].stderr
