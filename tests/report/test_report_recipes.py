"""Which recipe each side of a comparison had, and what is made of two."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from resdet.cli import main
from resdet.config.recipes.transfer_recipes import FINETUNE, FROZEN, RECIPES, TransferRecipe
from resdet.report.document import gather
from resdet.report.render.plain_text import terminal_text
from resdet.report.render.report_json import to_json
from tests.support.fabricate import fabricate_run

BATCH = 4


def keys_of(recipe: TransferRecipe, **of_net: Any) -> dict[str, Any]:
    """The keys of a run under a recipe, with those that its net decides."""
    values = {"TRANSFER.RECIPE": recipe.name, "SOLVER.BASE_LR": recipe.rate_for(BATCH)}
    values |= recipe.values
    return values | {key.replace("__", "."): value for key, value in of_net.items()}


def frozen(parts: int) -> dict[str, Any]:
    return keys_of(FROZEN, MODEL__BACKBONE__FREEZE_AT=parts)


def run_under(folder: Path, keys: dict[str, Any], **options: Any) -> Path:
    """A run with these keys; its run.json has what the recipe sets by the net, as they have it."""
    info = {}
    if recipe := RECIPES.get(keys.get("TRANSFER.RECIPE", "")):
        by_net = {key: keys[key] for key in recipe.of_net if key in keys}
        info = {"recipe": {"name": recipe.name, "by_net": by_net}}
    options = {"info": info, **options}
    return fabricate_run(folder, num_images=12, num_samples=0, overrides=keys, **options)


def runs_with(tmp_path: Path, *overrides: dict[str, Any], nets: tuple[str, ...]) -> list[Path]:
    return [
        run_under(tmp_path / f"run_{place}", keys, net=net, skill=0.5 + 0.2 * place)
        for place, (net, keys) in enumerate(zip(nets, overrides, strict=True))
    ]


TWO = ("vgg11", "resnet18")


def test_one_recipe_is_comparable_and_named(tmp_path: Path) -> None:
    """How many parts a net has follows from it: all of 5 and all of 7 are one recipe."""
    runs = runs_with(tmp_path, frozen(5), frozen(7), nets=TWO)
    report = gather(runs)
    assert report.verdict.stamp == "COMPARABLE"
    assert "Recipe: frozen in A and B." in report.verdict.notes
    assert not any("FREEZE_AT" in caution for caution in report.verdict.cautions)
    (row,) = [r for r in report.nets.rows if r[0].text == "recipe"]
    assert [cell.text for cell in row[1:]] == ["frozen", "frozen"]
    kinds = {d.key: d.kind for d in report.verdict.differences}
    assert kinds["MODEL.BACKBONE.FREEZE_AT"] == "net"


def test_what_a_net_decides_is_a_recipes_own_only_where_the_run_records_it(tmp_path: Path) -> None:
    """0.8 is the recipe's for a net of 24 blocks, and a departure for one of 12."""
    vit = RECIPES["finetune-vit"]
    keys = [keys_of(vit, SOLVER__LAYER_DECAY=d, MODEL__NET__DROP_PATH=0.1) for d in (0.7, 0.8)]

    def verdict(name: str, decay_of_b: float) -> Any:
        by_net = {"SOLVER.LAYER_DECAY": decay_of_b, "MODEL.NET.DROP_PATH": 0.1}
        info = {"recipe": {"name": vit.name, "by_net": by_net}}
        return gather([
            run_under(tmp_path / f"{name}_a", keys[0], net="vgg11"),
            run_under(tmp_path / f"{name}_b", keys[1], net="resnet18", info=info),
        ]).verdict  # fmt: skip

    assert verdict("deep", 0.8).stamp == "COMPARABLE"
    (reason,) = verdict("shallow", 0.7).reasons
    assert "(but for SOLVER.LAYER_DECAY 0.8 instead of 0.7) in B (SOLVER.LAYER_DECAY)" in reason


def test_as_many_parts_without_a_recipe_are_another_training(tmp_path: Path) -> None:
    """The same keys, not stated as a recipe: nobody knows that 5 and 7 are all of each net."""
    both = [{**frozen(parts), "TRANSFER.RECIPE": ""} for parts in (5, 7)]
    verdict = gather(runs_with(tmp_path, *both, nets=TWO)).verdict
    assert verdict.reasons == ("MODEL.BACKBONE.FREEZE_AT is 5 in A, 7 in B",)


def test_two_recipes_are_refused_by_name_and_with_the_option(tmp_path: Path) -> None:
    runs = runs_with(
        tmp_path, frozen(5), keys_of(RECIPES["finetune-vit"], SOLVER__LAYER_DECAY=0.7), nets=TWO
    )
    verdict = gather(runs).verdict
    (reason,) = verdict.reasons
    assert reason.startswith("the recipe is frozen in A, finetune-vit in B (")
    assert "SOLVER.LAYER_DECAY" in reason
    assert reason.endswith("--across-recipes compares backbone and recipe together")
    assert verdict.stamp == "NOT COMPARABLE" and not verdict.across_recipes


def test_across_recipes_the_gap_is_of_both(tmp_path: Path) -> None:
    """Never COMPARABLE: stamp, sentence, headline and caution name backbone and recipe."""
    runs = runs_with(tmp_path, frozen(5), keys_of(FINETUNE), nets=TWO)
    report = gather(runs, across_recipes=True)
    verdict = report.verdict
    assert verdict.comparable and verdict.stamp == "ACROSS RECIPES"
    assert verdict.sentence.startswith("The backbone and its recipe differ")
    assert "The recipe is frozen in A, finetune in B: a gap is that of backbone and recipe" in (
        " ".join(verdict.cautions)
    )
    assert report.headline.endswith("each under its recipe")
    assert report.meaning == ()
    assert report.sets[0].gains
    text = terminal_text(report)
    assert "ACROSS RECIPES: the backbone and its recipe differ" in text
    assert "only the backbone differs" not in text.lower()
    stored = to_json(report)
    assert stored["verdict"] == "ACROSS RECIPES"
    assert {d["kind"] for d in stored["config_differences"] if "SOLVER" in d["key"]} == {"recipe"}
    assert stored["runs"]["B"]["recipe"] == {
        "name": "finetune", "stated": True, "departures": {}, "words": "finetune"
    }  # fmt: skip


def test_one_net_under_two_recipes_has_a_side_each(tmp_path: Path) -> None:
    report = gather(
        runs_with(tmp_path, frozen(5), keys_of(FINETUNE), nets=("resnet18", "resnet18")),
        across_recipes=True,
    )
    labels = [c.label for c in report.columns]
    assert labels == ["ResNet-18, pretrained, frozen", "ResNet-18, pretrained, finetune"]


def test_what_pretraining_gives_is_not_read_across_recipes(tmp_path: Path) -> None:
    """From scratch under another recipe: no sentence names the gap a gain of pretraining."""
    folders = [
        run_under(
            tmp_path / "a",
            keys_of(FINETUNE, MODEL__BACKBONE__FREEZE_AT=0),
            pretrained=False,
            skill=0.4,
        ),
        run_under(tmp_path / "b", frozen(5), skill=0.7),
    ]
    report = gather(folders, across_recipes=True)
    assert [g.pair.kind for g in report.sets[0].gains] == ["other"]
    assert "Pretraining gives" not in report.headline


def test_asked_across_recipes_one_recipe_is_comparable(tmp_path: Path) -> None:
    runs = runs_with(tmp_path, frozen(5), frozen(5), nets=TWO)
    assert gather(runs, across_recipes=True).verdict.stamp == "COMPARABLE"


def test_what_is_no_part_of_a_recipe_is_refused_all_the_same(tmp_path: Path) -> None:
    other = {**keys_of(FINETUNE), "TEST.DETECTIONS_PER_IMAGE": 100}
    verdict = gather(runs_with(tmp_path, frozen(5), other, nets=TWO), across_recipes=True).verdict
    assert verdict.stamp == "NOT COMPARABLE"
    assert verdict.reasons == ("TEST.DETECTIONS_PER_IMAGE is 50 in A, 100 in B",)
    assert "differ in more than the backbone" in verdict.sentence


def test_a_departure_is_named_and_no_part_of_the_same_recipe(tmp_path: Path) -> None:
    other = {**frozen(5), "SOLVER.WEIGHT_DECAY": 0.2}
    (reason,) = gather(runs_with(tmp_path, frozen(5), other, nets=TWO)).verdict.reasons
    assert reason.startswith(
        "the recipe is frozen in A, frozen (but for SOLVER.WEIGHT_DECAY 0.2 instead of 0.05) in B "
        "(SOLVER.WEIGHT_DECAY)"
    )


def test_runs_without_the_key_have_a_recipe_by_their_keys(tmp_path: Path) -> None:
    """Two rates are refused as before, and the option is named; a run of before has no such key."""
    runs = runs_with(tmp_path, {}, {"SOLVER.BASE_LR": 0.03}, nets=TWO)
    report = gather(runs)
    assert report.verdict.reasons == ("SOLVER.BASE_LR is 0.02 in A, 0.03 in B",)
    (caution,) = [c for c in report.verdict.cautions if "--across-recipes" in c]
    assert "by keys (SGD at 0.02 for 4 images, FREEZE_AT 0) in A" in caution


@pytest.mark.parametrize("older", [{}, {"TRANSFER.RECIPE": ""}])
def test_the_key_alone_is_no_difference(tmp_path: Path, older: dict[str, Any]) -> None:
    """A run of before the key, with the values that the recipe sets."""
    keys = keys_of(FINETUNE)
    del keys["TRANSFER.RECIPE"]
    runs = runs_with(tmp_path, keys | older, keys_of(FINETUNE), nets=TWO)
    verdict = gather(runs).verdict
    assert verdict.stamp == "COMPARABLE"
    assert "Recipe: finetune (by its keys) in A, finetune in B." in verdict.notes


def test_a_rate_that_follows_the_batch_is_the_recipes(tmp_path: Path) -> None:
    runs = runs_with(tmp_path, frozen(5), frozen(5), nets=TWO)
    config = runs[0] / "config.yaml"
    tree = yaml.safe_load(config.read_text("utf-8"))
    tree["SOLVER"]["BASE_LR"] = 0.1 + 0.2
    config.write_text(yaml.safe_dump(tree), "utf-8")
    words = gather(runs, across_recipes=True).columns[0].recipe.words
    assert words == "frozen (but for SOLVER.BASE_LR 0.3 instead of 2.5e-05)"


def test_the_command_ends_with_0_across_recipes_and_1_without(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [str(r) for r in runs_with(tmp_path, frozen(5), keys_of(FINETUNE), nets=TWO)]
    output = ["--output", str(tmp_path / "report")]
    assert main.main(["compare", *runs, *output]) == 1
    assert main.main(["compare", *runs, *output, "--across-recipes"]) == 0
    assert "ACROSS RECIPES" in capsys.readouterr().out
    page = (tmp_path / "report" / "report.html").read_text("utf-8")
    assert "ACROSS RECIPES" in page and "<strong>COMPARABLE" not in page


def test_results_of_other_tools_have_no_recipe(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--results", "a=a.json", "b=b.json", "--gt", "gt.json", "--across-recipes"]
    assert main.main(["compare", *given]) == 2
    assert "--across-recipes belongs to run folders" in capsys.readouterr().err
