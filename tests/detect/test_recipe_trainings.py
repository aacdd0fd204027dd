"""A training under each recipe, from a classifier's file to numbers; killed and gone on with."""

import json

import pytest
import torch

pytest.importorskip("detectron2")

from resdet.config.recipes.transfer_recipes import RECIPES
from resdet.run import layout
from resdet.run.folder import Run
from tests.support import children, tiny, trainings

KEYS = {"SOLVER.MAX_ITER": 3, "SOLVER.CHECKPOINT_PERIOD": 1, "SOLVER.IMS_PER_BATCH": 2}
WEIGHTS = ("MODEL.WEIGHTS", "net.safetensors")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("recipes")
    tiny.voc_tree(place / "voc")
    trainings.net_to_hand_over(place / "net.safetensors")
    text = trainings.detector(trainings.HANDED_OVER, trainings.PYRAMID, KEYS)
    (place / "c.yaml").write_text(text, encoding="utf-8")
    return place


def train(place, *opts, kill_at=None):
    words = ("train_det", "--config", "c.yaml", *opts, *WEIGHTS)
    done = children.run_cli(*words, cwd=place, kill_at=kill_at)
    assert done.returncode == (-9 if kill_at else 0), done.stderr[-3000:]
    return done


def model_of(path):
    return torch.load(path / "model_final.pth", weights_only=True)["model"]


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_run_under_a_recipe_is_gone_on_with_to_the_bit(place, recipe):
    """Three steps in one go equal two, a kill, and one more; scored from its own config."""
    keys = ("TRANSFER.RECIPE", recipe)
    train(place, "--output", f"{recipe}_one", *keys)
    train(place, "--output", f"{recipe}_two", *keys, kill_at=2)
    train(place, "--output", f"{recipe}_two", "--resume", *keys)
    one, two = (model_of(place / f"{recipe}_{n}") for n in ("one", "two"))
    assert all(torch.equal(one[name], two[name]) for name in one)
    run = Run.open(place / f"{recipe}_one")
    (name,) = run.result_sets()
    results = run.results(name) / layout.COCO_RESULTS
    before = results.read_bytes()
    assert len(json.loads(before)) > 0
    train(place, "--output", f"{recipe}_one", "--eval-only", *keys)
    assert results.read_bytes() == before


def test_a_frozen_run_ends_with_the_weights_that_it_began_with(place):
    """The file that was handed over, tensor by tensor, statistics of norms among it."""
    from safetensors.torch import load_file

    given = load_file(place / "net.safetensors")
    ended = model_of(place / "frozen_one")
    shared = {
        name: ended[f"backbone.bottom_up.{name}"]
        for name in given
        if f"backbone.bottom_up.{name}" in ended
    }
    assert len(shared) > 60
    assert all(torch.equal(tensor, given[name]) for name, tensor in shared.items())
    moved = model_of(place / "finetune_one")
    assert any(not torch.equal(moved[f"backbone.bottom_up.{n}"], given[n]) for n in shared)


def test_explain_has_the_recipe_with_the_source_of_each_value(place):
    done = train(place, "--explain", "TRANSFER.RECIPE", "frozen", "SOLVER.WEIGHT_DECAY", "0.2")
    lines = {line.split()[0]: line for line in done.stdout.splitlines() if line.strip()}
    assert "Recipe: frozen (but for SOLVER.WEIGHT_DECAY 0.2 instead of 0.05)" in done.stdout
    # Rates of the file give way, what is typed beside the recipe does not.
    assert "1.25e-05" in lines["SOLVER.BASE_LR"] and "over c.yaml, line" in lines["SOLVER.BASE_LR"]
    assert "departs from TRANSFER.RECIPE frozen: 0.05" in lines["SOLVER.WEIGHT_DECAY"]
    assert "TRANSFER.RECIPE frozen" in lines["MODEL.BACKBONE.FREEZE_AT"]
    assert "frozen     stem, res2, res3, res4, res5;" in done.stdout


def test_a_frozen_preset_is_explained_without_weights(tmp_path, monkeypatch):
    """Random weights are never frozen: it is explained as with those that it would take."""
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path / "empty"))
    words = ("train_det", "--config", "voc07_r50_frozen", "--explain", "MODEL.DEVICE", "cpu")
    done = children.run_cli(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Weights: detectron2://ImageNetPretrained/MSRA/R-50.pkl (not here yet)" in done.stdout
    assert "frozen     stem, res2, res3, res4, res5;" in done.stdout
    refused = children.run_cli(*words, "TRANSFER.FROM_SCRATCH", "True", cwd=tmp_path)
    assert refused.returncode == 2
    assert "what would stay fixed has random weights" in refused.stderr
