"""Presets of the recipes: only net and recipe differ from Detectron2's stock FPN detector."""

import pytest

pytest.importorskip("detectron2")

from resdet.config import flatten, resolve
from resdet.config.recipes.transfer_recipes import RECIPE_KEYS, RECIPES, recipe_of
from tests.support.preset_files import CONFIGS, FROZEN_LEAVES, VIT_LEAVES


@pytest.mark.parametrize("path", [*FROZEN_LEAVES, *VIT_LEAVES], ids=lambda p: p.stem)
def test_only_net_and_recipe_differ_from_the_stock_detector(path):
    """So that `compare --across-recipes` sets it beside a preset of configs/fpn."""
    data = path.stem.split("_")[0]
    stock = dict(flatten(resolve(CONFIGS / "fpn" / f"{data}_r50_fpn.yaml").cfg))
    ours = dict(flatten(resolve(path).cfg))
    differing = {key for key in ours if ours[key] != stock[key]}
    assert differing <= RECIPE_KEYS | {"MODEL.NET.NAME"}
    assert "TRANSFER.RECIPE" in differing
    assert recipe_of(ours, {}).departures == {}


@pytest.mark.parametrize("path", VIT_LEAVES, ids=lambda p: p.stem)
def test_transformers_have_the_rate_of_vitdet_for_16_images(path):
    """1e-4 for 64 images (Detectron2, projects/ViTDet), by the linear rule a quarter of it."""
    solver = resolve(path).cfg.SOLVER
    assert solver.IMS_PER_BATCH == 16
    assert pytest.approx(1e-4 / 4) == solver.BASE_LR
    assert " at 0.000025, to 0 as a cosine;" in path.read_text("utf-8")
    assert (solver.OPTIMIZER, solver.WEIGHT_DECAY, solver.WEIGHT_DECAY_EMBED) == ("AdamW", 0.1, 0.0)


def test_every_frozen_preset_has_one_recipe():
    keys = RECIPES["frozen"].keys
    values = [{k: dict(flatten(resolve(p).cfg))[k] for k in keys} for p in FROZEN_LEAVES]
    assert len(values) == 6 and all(v == values[0] for v in values)
