"""Recipes in whole trainings: off is a plain loop to the bit, on as stated, resume exact."""

import copy
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

pytest.importorskip("detectron2")

from resdet import weights
from resdet.engine.loop import _mix
from resdet.pretrain.recipe import error_schedule
from resdet.pretrain.recipe.label_mixing import LabelMixing
from resdet.run.folder import Run
from tests.support import children, recipes, tiny


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("recipes")
    tiny.class_folders(place / "data")
    return place


def by_hand(training, steps, *, smoothing=0.0, mixing=None, rates=None):
    """A plain loop of torch over the training's batches; gives the net after each step."""
    net, prepare = copy.deepcopy(training.net).train(), training.prepare
    # Detectron2 decays norms by a key of their own, 0 by default.
    norms = {id(p) for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d)
             for p in m.parameters()}  # fmt: skip
    groups = [
        {"params": [p], "weight_decay": 0.0 if id(p) in norms else 0.0001} for p in net.parameters()
    ]
    optimizer = torch.optim.SGD(groups, lr=0.05, momentum=0.9)
    for step, (images, labels, _) in enumerate(itertools.islice(training._batches(0), steps)):
        torch.manual_seed(_mix(3, step, 0))
        x = prepare(images)
        if mixing:
            x, labels = mixing(x, labels)
        for group in optimizer.param_groups:
            group["lr"] = rates[step] if rates else 0.05
        optimizer.zero_grad()
        F.cross_entropy(net(x), labels, label_smoothing=smoothing).backward()
        optimizer.step()
        yield net


def trained(place, name, changes):
    training = recipes.training_in(place, name, changes)
    training.train(resuming=False)
    return training


def same(one, other):
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize(
    ("changes", "how"),
    [
        pytest.param({}, {}, id="off"),
        pytest.param({"PRETRAIN.LABEL_SMOOTHING": 0.1}, {"smoothing": 0.1}, id="smoothing"),
        pytest.param(recipes.MIXING, {"mixing": LabelMixing(0.2, 1.0, 3)}, id="mixing"),
    ],
)
def test_a_training_is_a_plain_loop_of_torch_to_the_bit(place, changes, how, request):
    """The same batches, torch's SGD and F.cross_entropy; off has no mixing and no smoothing."""
    name = f"plain {request.node.callspec.id}"
    changes = {**changes, "SOLVER.MAX_ITER": 4}
    start = recipes.training_in(place, f"{name} start", changes)
    training = trained(place, name, changes)
    *_, net = by_hand(start, 4, **how)
    assert same(training.net, net)


def test_the_kept_net_is_the_average_of_the_steps(place):
    """a = 0.8 a + 0.2 w after steps 0, 2, 4, … of the loop by hand; statistics likewise."""
    changes = {**recipes.AVERAGE, "SOLVER.MAX_ITER": 6}
    start = recipes.training_in(place, "average start", changes)
    training = trained(place, "average", changes)
    average = None
    for step, net in enumerate(by_hand(start, 6)):
        if step % 2 == 0:
            state = {k: t.clone() for k, t in net.state_dict().items() if t.is_floating_point()}
            average = state if average is None else {
                k: 0.8 * t + 0.2 * state[k] for k, t in average.items()
            }  # fmt: skip
    kept, _ = weights.load(place / "average" / "model.safetensors")
    for name, tensor in average.items():
        # 0.8 a + 0.2 w and torch's a + 0.2 (w - a) round apart: 3 updates of values below 2.
        torch.testing.assert_close(kept[name], tensor, rtol=1e-6, atol=1e-6, msg=name)
    assert same(training.net, training.average.module)


def test_the_rates_of_a_plateau_are_those_that_were_decided(place):
    """The loop by hand with the rates of the record: gamma ** drops, from the step after each."""
    changes = {**recipes.PLATEAU}
    start = recipes.training_in(place, "rates start", changes)
    training = trained(place, "rates", changes)
    decisions = Run.open(place / "rates").info["rate_decisions"]
    assert len(decisions) >= 3
    assert all(d["why"] == "plateau" and d["step"] % 2 == 0 for d in decisions)
    rates = [
        0.05 * 0.5 ** sum(d["step"] <= step for d in decisions) for step in range(recipes.STEPS)
    ]
    *_, net = by_hand(start, recipes.STEPS, rates=rates)
    assert same(training.net, net)


def test_what_was_decided_is_in_the_curves(place):
    """metrics.json has the error, the lowest and the drops of the last measurement of a line."""
    trained(place, "curves", {**recipes.PLATEAU, "PRETRAIN.PLATEAU": "val"})
    run = Run.open(place / "curves")
    lines = [json.loads(x) for x in (run.path / "metrics.json").read_text().splitlines()]
    last = lines[-1]
    assert last["rate_drops"] == len(run.info["rate_decisions"]) > 0
    assert last["plateau_lowest"] <= run.info["rate_decisions"][-1]["error"]
    assert last[f"{place / 'data/val'}/top1_error"] == last["plateau_error"]
    assert last["lr"] < 0.05


# -- stopped and resumed -------------------------------------------------------------------------

RECIPES = {
    "plateau of training": recipes.PLATEAU,
    "mixing": recipes.MIXING,
    "average": recipes.AVERAGE,
    "warm-up": {"PRETRAIN.WARMUP_UNTIL_ERROR": 60.0, "SOLVER.WARMUP_FACTOR": 0.1},
    "everything": recipes.EVERYTHING,
}


@pytest.mark.parametrize("recipe", RECIPES)
def test_killed_and_resumed_equals_one_go_to_the_bit(place, recipe, monkeypatch):
    """Ended at the eighth step, resumed from the fifth: weights, file, rates, decisions, scores."""
    monkeypatch.setattr(error_schedule, "WINDOW", 3)
    changes = RECIPES[recipe]
    one = trained(place, f"{recipe} one", changes)
    recipes.killed_at(recipes.training_in(place, f"{recipe} two", changes), 8)
    two = recipes.training_in(place, f"{recipe} two", changes, resuming=True)
    two.train(resuming=True)
    assert two.loop.start_iter == 5
    assert same(one.net, two.net)
    runs = [Run.open(place / f"{recipe} {name}") for name in ("one", "two")]
    tensors = [weights.load(run.path / "model.safetensors")[0] for run in runs]
    assert all(torch.equal(tensors[0][k], tensors[1][k]) for k in tensors[0])
    assert runs[0].read("classification.json") == runs[1].read("classification.json")
    assert runs[0].info.get("rate_decisions") == runs[1].info.get("rate_decisions")
    if "PLATEAU" in str(changes) or "WARMUP" in str(changes):
        assert runs[0].info["rate_decisions"]
    rates = [training.loop.optimizer.param_groups[0]["lr"] for training in (one, two)]
    assert rates[0] == rates[1]


def test_a_checkpoint_without_these_keys_is_as_before(place):
    """No state of a recipe that is off."""
    training = trained(place, "as before", {"SOLVER.MAX_ITER": 2})
    assert set(training.loop.state_dict()) == {"model", "optimizer", "scheduler", "iteration"}
    assert set(training.loop.scheduler.state_dict()) == {"base_lrs", "last_epoch"}
    assert "rate_decisions" not in Run.open(place / "as before").info


# -- statistics ----------------------------------------------------------------------------------


def test_statistics_over_all_images_are_those_of_the_first_norm_by_hand(place):
    """Every crop of the first epoch once, 18 in batches of 6, through the first convolution."""
    training = trained(place, "statistics", {"PRETRAIN.BN_IMAGES": -1, "SOLVER.MAX_ITER": 2})
    batches = list(training._epoch())
    seen = [index for _, _, indices in batches for index in indices]
    assert sorted(seen) == list(range(18))
    crops = torch.cat([images for images, _, _ in batches])
    conv = training.net.stem.conv1
    with torch.no_grad():
        maps = F.conv2d(training.prepare(crops), conv.weight, None, conv.stride, conv.padding)
    values = maps.double().numpy().transpose(1, 0, 2, 3).reshape(maps.shape[1], -1)
    # Maps of float32 round to 6e-8 of their largest value, here at most 30 times a mean.
    np.testing.assert_allclose(conv.norm.running_mean, values.mean(1), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(conv.norm.running_var, values.var(1), rtol=1e-5)
    _, card = weights.load(place / "statistics" / "model.safetensors")
    assert card.norm["statistics"] == "over 18 training images"


def test_batches_of_an_epoch_have_nearly_equal_sizes(place):
    """18 images by at most 5: four batches of 4 or 5, none of the rest of 3."""
    training = recipes.training_in(place, "sizes", {"SOLVER.IMS_PER_BATCH": 5})
    assert sorted(len(images) for images, _, _ in training._epoch()) == [4, 4, 5, 5]


# -- several processes ---------------------------------------------------------------------------


def test_two_processes_decide_alike_and_resume_to_the_bit(tmp_path):
    """Plateau, mixing, smoothing, average, statistics; ended at the eighth step, then resumed.

    A plateau falls in the steps in which it falls with one process.
    """
    tiny.class_folders(tmp_path / "data")
    script = Path(recipes.__file__).with_name("recipes_in_two.py")
    done = children.python(script, tmp_path, processes=2, OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr
    one, other = (json.loads((tmp_path / f"found_{n}.json").read_text()) for n in range(2))
    assert one["begun"] == 5
    assert one["equal"] and other["equal"]
    assert one["decisions"] and {**one, "rank": 1} == other
    assert one["statistics"] == "over 18 training images"
    # One process decides the same from the same images: in the same steps, by the same errors.
    for way, decisions in one["plateaus"].items():
        changes = {**recipes.PLATEAU, **recipes.ALONE, "PRETRAIN.PLATEAU": way}
        training = trained(tmp_path, f"one {way}", changes)
        assert len(decisions) >= 3 and training.loop.scheduler.decisions == decisions
