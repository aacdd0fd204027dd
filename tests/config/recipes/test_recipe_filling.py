"""TRANSFER.RECIPE: what it sets, over what it is laid, what stays, what is refused."""

from pathlib import Path

import pytest

pytest.importorskip("detectron2")

from resdet.config import (
    check_reference_batch,
    flatten,
    get_cfg,
    refuse_keys_of_other,
    resolve,
)
from resdet.config.recipes.transfer_recipes import (
    FINETUNE,
    FROZEN,
    RECIPE_KEYS,
    RECIPES,
    departures,
    recipe_of,
)
from resdet.errors import ConfigError

CONFIGS = Path(__file__).resolve().parents[3] / "configs"
FPN = CONFIGS / "fpn" / "coco_r50_fpn.yaml"
PAPER = CONFIGS / "coco_r101.yaml"


def flat(config):
    return dict(flatten(config.cfg))


def test_off_touches_no_key():
    """A config without a recipe is what it was: no value, no reason."""
    off, without = resolve(FPN, ["TRANSFER.RECIPE", ""]), resolve(FPN)
    assert flat(off) == flat(without)
    assert off.derived == {} and off.stated.keys() - {"TRANSFER.RECIPE"} == without.stated.keys()
    assert get_cfg().TRANSFER.RECIPE == ""


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_sets_its_own_keys_and_no_other(name):
    before, after = flat(resolve(FPN)), flat(resolve(FPN, ["TRANSFER.RECIPE", name]))
    changed = {key for key in after if before[key] != after[key]}
    assert changed <= {"TRANSFER.RECIPE", *RECIPES[name].keys} <= RECIPE_KEYS
    assert departures(RECIPES[name], after, {}) == {}
    assert recipe_of(after, {}).words == name


def test_every_key_of_a_recipe_exists():
    keys = dict(flatten(get_cfg()))
    for recipe in RECIPES.values():
        assert set(recipe.keys) <= keys.keys()
        assert set(recipe.strict) <= set(recipe.keys)


def test_finetune_is_what_the_papers_presets_state():
    """configs/coco_r101.yaml has the rates of He et al., appendix A, by the linear rule."""
    before, after = flat(resolve(PAPER)), flat(resolve(PAPER, ["TRANSFER.RECIPE", "finetune"]))
    assert {key for key in after if before[key] != after[key]} == {"TRANSFER.RECIPE"}
    assert recipe_of(before, {}).words == "finetune (by its keys)"
    assert FINETUNE.rate_for(16) == pytest.approx(0.008)


def test_a_recipe_gives_way_to_what_is_stated_beside_it_or_above(tmp_path):
    """The base states a rate and a decay, the leaf a recipe and a decay, who types a rate."""
    (tmp_path / "base.yaml").write_text(
        "SOLVER: {BASE_LR: 0.02, WEIGHT_DECAY: 0.3, OPTIMIZER: SGD, GAMMA: 0.2}\n", "utf-8"
    )
    # The leaf of another folder has the name of its base.
    leaf = tmp_path / "mine" / "base.yaml"
    leaf.parent.mkdir()
    leaf.write_text(
        "_BASE_: ../base.yaml\nSOLVER: {WEIGHT_DECAY: 0.2}\n"
        "TRANSFER: {RECIPE: finetune-vit}\n", "utf-8"
    )  # fmt: skip
    config = resolve(leaf)
    solver = config.cfg.SOLVER
    assert (solver.OPTIMIZER, solver.WEIGHT_DECAY) == ("AdamW", 0.2)
    assert pytest.approx(1e-4 * 16 / 64) == solver.BASE_LR
    assert "over base.yaml, line 1" in config.derived["SOLVER.BASE_LR"]
    assert config.derived["SOLVER.GAMMA"] == "not read with TRANSFER.RECIPE finetune-vit"
    assert "departs from TRANSFER.RECIPE finetune-vit: 0.1" in config.explain()
    typed = resolve(leaf, ["SOLVER.BASE_LR", "0.003"])
    assert typed.cfg.SOLVER.BASE_LR == 0.003
    words = recipe_of(flat(typed), {}).words
    assert words == (
        "finetune-vit (but for SOLVER.BASE_LR 0.003 instead of 2.5e-05, "
        "SOLVER.WEIGHT_DECAY 0.2 instead of 0.1)"
    )


def test_a_recipe_of_a_base_gives_way_to_its_leaf(tmp_path):
    (tmp_path / "base.yaml").write_text("TRANSFER: {RECIPE: finetune}\n", "utf-8")
    (tmp_path / "leaf.yaml").write_text("_BASE_: base.yaml\nSOLVER: {GAMMA: 0.5}\n", "utf-8")
    assert resolve(tmp_path / "leaf.yaml").cfg.SOLVER.GAMMA == 0.5


def test_the_order_on_the_command_line_does_not_matter():
    opts = ["SOLVER.WEIGHT_DECAY", "0.3"], ["TRANSFER.RECIPE", "finetune-vit"]
    one, two = resolve(FPN, [*opts[0], *opts[1]]), resolve(FPN, [*opts[1], *opts[0]])
    assert flat(one) == flat(two) and one.cfg.SOLVER.WEIGHT_DECAY == 0.3


@pytest.mark.parametrize("batch", [4, 16, 64])
def test_the_rate_follows_the_batch(batch):
    """SOLVER.SCALE_LR linear on top of a recipe is the recipe's own rule; "keep" departs."""
    opts = ["TRANSFER.RECIPE", "frozen", "SOLVER.IMS_PER_BATCH", str(batch), "SOLVER.SCALE_LR"]
    scaled, kept = resolve(FPN, [*opts, "linear"]), resolve(FPN, [*opts, "keep"])
    for config in (scaled, kept):
        check_reference_batch(config)
    assert pytest.approx(1e-4 * batch / 16) == scaled.cfg.SOLVER.BASE_LR
    assert recipe_of(flat(scaled), {}).words == "frozen"
    assert ("SOLVER.BASE_LR" in recipe_of(flat(kept), {}).departures) == (batch != 16)


def test_a_stored_config_reads_as_it_was_written(tmp_path):
    """A run's config.yaml states every key beside the recipe, and none gives way."""
    config = resolve(FPN, ["TRANSFER.RECIPE", "frozen", "SOLVER.BASE_LR", "0.5"])
    (tmp_path / "config.yaml").write_text(config.to_yaml(), "utf-8")
    again = resolve(tmp_path / "config.yaml")
    keys = (*RECIPES["frozen"].keys, "TRANSFER.RECIPE", "SOLVER.STEPS")
    assert {key: flat(again)[key] for key in keys} == {key: flat(config)[key] for key in keys}
    assert again.cfg.SOLVER.BASE_LR == 0.5


@pytest.mark.parametrize(
    ("config", "opts", "text"),
    [
        pytest.param(
            PAPER, (), "heads are the net's own last stage.*configs/frozen, or set", id="c4"
        ),
        pytest.param(
            FPN,
            ("MODEL.NET.NORM", "BN"),
            r"MODEL.NET.NORM is 'BN' \(command line\), expected 'auto' \(TRANSFER.RECIPE frozen",
            id="live-norms",
        ),
        pytest.param(
            FPN,
            ("SOLVER.LAYER_DECAY", "0.7"),
            r"SOLVER.LAYER_DECAY is 0.7 .*expected 1.0 \(TRANSFER.RECIPE frozen",
            id="rates-of-what-is-fixed",
        ),
        pytest.param(
            CONFIGS / "alternating" / "coco_r101_alternating.yaml",
            (),
            "SOLVER.SCHEME alternating, whose steps have schedules of their own",
            id="alternating",
        ),
    ],
)
def test_what_would_not_be_frozen_is_refused(config, opts, text):
    with pytest.raises(ConfigError, match=f"(?s){text}"):
        resolve(config, ["TRANSFER.RECIPE", "frozen", *opts])


def test_a_rate_that_would_never_fall_is_refused(tmp_path):
    """A config of a cosine states no steps, and Detectron2's own lie behind its end."""
    (tmp_path / "c.yaml").write_text(
        "SOLVER: {LR_SCHEDULER_NAME: WarmupCosineLR, MAX_ITER: 4000}\n", "utf-8"
    )
    opts = ["TRANSFER.RECIPE", "finetune"]
    with pytest.raises(ConfigError, match=r"has \(30000,\), none before .*4000.*as \(3000,\)\."):
        resolve(tmp_path / "c.yaml", opts)
    stated = resolve(tmp_path / "c.yaml", [*opts, "SOLVER.STEPS", "(3000,)"])
    assert stated.cfg.SOLVER.LR_SCHEDULER_NAME == "WarmupMultiStepLR"


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("pretrain_cls", "TRANSFER.RECIPE is read by train_det alone"),
        ("train_loc", "TRANSFER.RECIPE is read by another command alone"),
    ],
)
def test_a_recipe_is_of_detectors_alone(command, message):
    """Another command would pass over it."""
    config = resolve(None, ["TRANSFER.RECIPE", "finetune"])
    with pytest.raises(ConfigError, match=message):
        refuse_keys_of_other(config, command)


def test_an_unknown_recipe_lists_those_that_there_are():
    with pytest.raises(ConfigError, match="expected one of '', 'frozen', 'finetune', 'finetune-v"):
        resolve(FPN, ["TRANSFER.RECIPE", "Frozen"])


def test_a_config_of_no_recipe_is_told_by_its_keys():
    found = recipe_of(flat(resolve(FPN)), {})
    assert (found.name, found.is_stated) == ("", False)
    assert found.words == (
        "by keys (SGD at 0.02 for 16 images, falling in steps, decay 0.0001, FREEZE_AT 2)"
    )
    assert recipe_of({}, {}).words == "by keys (SGD)"
    assert FROZEN.name not in recipe_of({}, {}).words
