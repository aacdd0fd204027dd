"""The plan of a ranking, fitted to what each backbone was measured to take.

A row that is added and cannot be built leaves the ranking as it was.

Not for: the plan that the words ask for (`planning`), or the arithmetic of a budget
(`resdet.rank.budget`).
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from resdet.cli.rank.planning import UserSets, data_options_of
from resdet.cli.steps import FileStep, in_words, run_all, usable_cores
from resdet.errors import ConfigError, Interrupted, ResdetError
from resdet.rank import budget, held_out
from resdet.rank.candidates import RankedBackbone
from resdet.rank.ranking_folder import COST, Ranking, RankPlan

logger = logging.getLogger("resdet.cli.rank")

# A plan of all that was asked for, that takes less than this share of the budget, says so.
USED = 0.8


def with_costs(ranking: Ranking, args: argparse.Namespace, jobs: int, sets: UserSets) -> Ranking:
    """Measures each backbone, one after the other so that times are its own; fits the plan.

    Raises:
        ConfigError: the budget, or the room for maps, is too small.
        ResdetError: a backbone cannot be built; states which and why.
    """
    before = Ranking.read(ranking.path)
    ranking.write()
    try:
        _measure(ranking, jobs)
        if ranking.is_planned:
            _refuse_larger_maps(ranking, before, args.cache_gb)
    except Interrupted:
        raise
    except ResdetError:
        _without_unmeasured(before).write()
        raise
    if ranking.is_planned:
        return ranking
    by_label = {c.label: ranking.read_row(c, COST) for c in ranking.candidates}
    _tell_waiting(by_label, ranking.path)
    costs = list(by_label.values())
    rows = [budget.RowCost.of(cost) for cost in costs]
    fits = budget.fitted(ranking.plan, rows, jobs)
    beside = min(jobs, len(rows))
    fits = _within_room(fits, max(cost["map_bytes"] for cost in costs), args.cache_gb, beside)
    is_whole, seconds = fits == ranking.plan, budget.estimate(fits, rows, jobs)
    ranking = dataclasses.replace(
        ranking, plan=_with_sets(ranking.path, fits, sets), is_planned=True
    )
    ranking.write()
    logger.info(
        "plan: %d backbones, %d steps of %d images, %d seeds, %d training and %d test images of "
        "%d pixels, about %s",
        len(rows), fits.steps, fits.batch, fits.seeds, fits.images, fits.test_images, fits.size,
        in_words(seconds),
    )  # fmt: skip
    if is_whole and seconds < USED * fits.budget:
        logger.info(
            "nothing was cut for --budget, which is %s: another ranking with more --steps or "
            "--seeds would use what is left of it",
            in_words(fits.budget),
        )
    return ranking


def _measure(ranking: Ranking, jobs: int) -> None:
    """The cost of each backbone; of one that is added by as many threads as of the others."""
    plan = [part_step(ranking, c, "cost", COST) for c in ranking.candidates]
    known = [ranking.read_row(c, COST).get("threads") for c in ranking.candidates]
    threads = next(filter(None, known), max(1, usable_cores() // jobs))
    if any(not step.is_done() for step in plan):
        run_all(plan, 1, threads)


def _tell_waiting(costs: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    from resdet.report.ranking.leaderboard_page import waiting

    if busy := waiting(costs):
        logger.warning(
            "The machine had other work, a quota or a slow disk while costs were measured (%s): "
            "the plan takes the rows for as slow. For a plan of a quiet machine stop this command, "
            "remove %s, and type it again.",
            busy, path,
        )  # fmt: skip


def _without_unmeasured(ranking: Ranking) -> Ranking:
    """Of a ranking that is planned, the rows that could be built: one whose call was stopped before
    that was known would else fail in every later call."""
    if not ranking.is_planned:
        return ranking
    kept = []
    for candidate in ranking.candidates:
        row = ranking.row(candidate)
        if (row / COST).exists() or any(row.glob("seed_*")):
            kept.append(candidate)
        else:
            logger.warning(
                "%s is taken out of %s, as it was not measured yet: --add it again",
                candidate.label, ranking.path,
            )  # fmt: skip
    return dataclasses.replace(ranking, candidates=tuple(kept))


def _refuse_larger_maps(ranking: Ranking, before: Ranking, gigabytes: float) -> None:
    """Raises ConfigError for an added row whose maps alone are more than the room."""
    images = ranking.plan.images + ranking.plan.test_images
    for candidate in ranking.candidates[len(before.candidates) :]:
        need = ranking.read_row(candidate, COST)["map_bytes"] * images / 1e9
        if need > gigabytes:
            raise ConfigError(
                f"the maps of {candidate.label} on the {images:,} images of this ranking take "
                f"{need:.1f} GB, and --cache-gb is {gigabytes:g}. Give more: --cache-gb "
                f"{math.ceil(need)}"
            )


def _within_room(plan: RankPlan, map_bytes: int, gigabytes: float, jobs: int) -> RankPlan:
    """Fewer images where the maps of the rows side by side would take more than the room."""
    most = int(gigabytes * 1e9 / jobs / map_bytes)
    total = plan.images + plan.test_images
    if total <= most:
        return plan
    share = most / total
    fits = dataclasses.replace(
        plan, images=int(plan.images * share), test_images=int(plan.test_images * share)
    )
    room = (
        f"--cache-gb {gigabytes:g} has room for the maps of {most:,} images of {plan.size} pixels "
        f"in {jobs} rows side by side"
    )
    more = (
        f"--cache-gb {math.ceil(total * map_bytes * jobs / 1e9)}, a smaller --size, or fewer --jobs"
    )
    if fits.images < min(plan.images, budget.FEWEST_IMAGES) or fits.test_images < min(
        plan.test_images, budget.FEWEST_TEST
    ):
        raise ConfigError(f"{room}. Give more: {more}.")
    logger.warning(
        "%s: %s of %s training and %s of %s test images are taken. All of them need %s.",
        room, *(f"{n:,}" for n in (fits.images, plan.images, fits.test_images, plan.test_images)),
        more,
    )  # fmt: skip
    return fits


def _with_sets(path: Path, plan: RankPlan, sets: UserSets) -> RankPlan:
    """The plan with sets of its images, written where they are a part of the user's."""
    folder = path / "data"
    folder.mkdir(parents=True, exist_ok=True)
    options = data_options_of(plan.keys)
    data = sets.train(plan.data, options)
    if plan.test:
        test = sets.test(plan.test, plan.data, options)
        parts = [list(range(len(data))), list(range(len(test)))]
    else:
        test, parts = data, list(held_out.split(len(data)))
    names = []
    for whole, places, most, name in (
        (data, parts[0], plan.images, plan.train_set),
        (test, parts[1], plan.test_images, plan.test_set),
    ):
        kept = [places[i] for i in held_out.drawn(len(places), most)]
        if len(kept) == len(whole):
            names.append(name)
        else:
            split = "train" if not names else "test"
            names.append(held_out.written(whole, kept, folder / f"{split}.json"))
    return dataclasses.replace(plan, train_set=names[0], test_set=names[1])


def part_step(ranking: Ranking, candidate: RankedBackbone, part: str, makes: str) -> FileStep:
    title = {"cost": "measuring", "scores": "maps and scores of"}[part]
    row = ranking.row(candidate)
    return FileStep(
        f"{candidate.label}, {part}",
        f"{title} {candidate.label}",
        ["rank", "--part", part, candidate.label, "--output", str(ranking.path)],
        row,
        10.0,
        makes=row / makes,
    )
