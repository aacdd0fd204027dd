"""Recipes of the runs of a comparison: what follows from one recipe, and where two differ.

Backbones are compared under one recipe. Where the recipes differ, the gap is that of backbone and
recipe together, and nobody may read it as the backbone's: such a comparison is refused, unless it
is asked for.

Not for: what a recipe is (`resdet.config.recipes`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from resdet.config.recipes.transfer_recipes import KEY, RECIPE_KEYS, RECIPES
from resdet.report.comparison.config_differences import ConfigDifference
from resdet.report.runs import Column

OPTION = "--across-recipes"
RECIPE = "recipe"


def with_recipes(
    columns: Sequence[Column], differences: Sequence[ConfigDifference]
) -> list[ConfigDifference]:
    """The differences, those of recipes in their own bins: "net" for what one recipe makes of each
    net, "recipe" where recipes differ."""
    follows = following_keys(columns)

    def kind_of(difference: ConfigDifference) -> str:
        if difference.kind != "other" or difference.key not in RECIPE_KEYS:
            return difference.kind
        return "net" if difference.key in follows else RECIPE

    binned = [dataclasses.replace(d, kind=kind_of(d)) for d in differences]
    if any(d.kind == RECIPE and d.key != KEY for d in binned):
        return binned
    # The key alone is no difference: all that it sets is the same.
    return [dataclasses.replace(d, kind="bookkeeping") if d.key == KEY else d for d in binned]


def following_keys(columns: Sequence[Column]) -> set[str]:
    """Keys that the one recipe of all runs sets by the net, and none of them otherwise.

    None where they have several recipes, or where a run does not record what its net's values are.
    """
    names = {column.recipe.name if column.recipe.is_stated else "" for column in columns}
    if names == {""} or len(names) > 1:
        return set()
    unknown = {
        key
        for column in columns
        for key in RECIPES[column.recipe.name].of_net
        if key not in ((column.run.info.get("recipe") or {}).get("by_net") or {})
    }
    departing = {key for column in columns for key in column.recipe.departures}
    return set(RECIPES[names.pop()].of_net) - departing - unknown


def names_of(differences: Sequence[ConfigDifference]) -> list[str]:
    """The keys in which recipes differ, but for the one that names them."""
    return [d.key for d in differences if d.kind == RECIPE and d.key != KEY]


def are_stated(columns: Sequence[Column]) -> bool:
    """Whether TRANSFER.RECIPE names a recipe of one of them."""
    return any(column.recipe.is_stated for column in columns)
