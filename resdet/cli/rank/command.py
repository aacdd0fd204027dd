"""`rank`: plans, runs the rows side by side, prints the table, writes the page.

    rank --backbones A B … --data SET [--test SET]     a new ranking, or the same one gone on with
    rank --add C --output RANKING                      one row more; the others stay
    rank --output RANKING                              goes on, or shows the table again

Every training is a `train_det` that could be typed; rows/LABEL/seed_N/run.json has its command.

Not for: what a row measures (`resdet.rank`), or the numbers of the table (`resdet.report.ranking`).
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
import shlex
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from resdet.cli.rank.arguments import IMAGES, SEEDS, SIZE, STEPS, TEST_IMAGES
from resdet.cli.rank.arguments import add_arguments as add_arguments  # as all commands have
from resdet.cli.steps import FileStep, Step, in_words, run_all, usable_cores
from resdet.errors import ConfigError
from resdet.file_names import file_name
from resdet.printable import show, show_json
from resdet.rank import budget
from resdet.rank.candidates import RankedBackbone, candidates_of, file_of_source, refuse_same_labels
from resdet.rank.quick_detector import CONFIG, keys_of_row
from resdet.rank.ranking_folder import COST, LEADERBOARD, PAGE, RANKING, SCORES, Ranking, RankPlan

logger = logging.getLogger("resdet.cli.rank")


def run(args: argparse.Namespace) -> int:
    if args.part:
        return _part(args)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    began = time.monotonic()
    ranking = _ranking(args)
    jobs = _jobs(args)
    ranking = _with_costs(ranking, args, jobs)
    _run_rows(ranking, args, jobs)
    return _report(ranking, args, time.monotonic() - began)


def _part(args: argparse.Namespace) -> int:
    from resdet.cli.rank import row_parts

    part, label = args.part
    ranking = Ranking.read(Path(args.output))
    work = {"cost": row_parts.measure_cost, "scores": row_parts.compute_scores}[part]
    work(ranking, ranking.candidate(label))
    return 0


def _jobs(args: argparse.Namespace) -> int:
    if args.jobs:
        return int(max(1, args.jobs))
    import torch

    return 1 if torch.cuda.is_available() else min(4, usable_cores())


# -- what is ranked ------------------------------------------------------------------------


def _ranking(args: argparse.Namespace) -> Ranking:
    """The ranking of --output, new, gone on with, or with further rows.

    Raises:
        ConfigError: the words do not make a ranking, or not the one that is there.
    """
    path = _folder(args)
    if (path / RANKING).exists():
        return _gone_on_with(Ranking.read(path), args)
    if args.add:
        raise ConfigError(
            f"--add needs a ranking, and {path} has none. Start one with --backbones, or name its "
            "folder: --output RANKING."
        )
    if not args.backbones or not args.data:
        raise ConfigError(
            "rank needs --backbones A B … and --data SET, such as: resdet rank --backbones "
            "runs/pretrain_resnet runs/pretrain_vgg random:resnet18 --data digits_train --test "
            "digits_test"
        )
    candidates = candidates_of(args.backbones)
    if len(candidates) < 2:
        raise ConfigError("--backbones names one backbone; a ranking needs two at least.")
    for candidate in candidates:
        _require(candidate)
    ranking = Ranking(path, _first_plan(args), tuple(candidates))
    ranking.write()
    return ranking


def _folder(args: argparse.Namespace) -> Path:
    if args.output:
        return Path(args.output)
    if not args.data:
        raise ConfigError("rank needs --data SET, or --output RANKING of a ranking that is there.")
    return Path("runs") / f"rank_{file_name(args.data.replace(':', '-').replace('/', '-'))}"


def _gone_on_with(ranking: Ranking, args: argparse.Namespace) -> Ranking:
    stated: dict[str, Any] = {
        "data": args.data, "test": args.test, "size": args.size, "steps": args.steps,
        "seeds": args.seeds, "keys": tuple(args.opts) or None,
    }  # fmt: skip
    for name, value in stated.items():
        found = getattr(ranking.plan, name)
        if value is not None and value != found and not (name == "steps" and ranking.plan.budget):
            raise ConfigError(
                f"{ranking.path} was planned with {name} {found}, and {value} is given. Leave it "
                "out, or start another ranking: --output OTHER."
            )
    if args.backbones and candidates_of(args.backbones) != list(
        ranking.candidates[: len(args.backbones)]
    ):
        raise ConfigError(
            f"{ranking.path} ranks {', '.join(c.label for c in ranking.candidates)}, and "
            f"--backbones names others. Add a row with --add, or name another --output."
        )
    known = {candidate.label for candidate in ranking.candidates}
    added = [c for c in candidates_of(args.add) if c not in ranking.candidates]
    if not added:
        return ranking
    refuse_same_labels([*ranking.candidates, *added])
    for candidate in added:
        _require(candidate)
        assert candidate.label not in known
    ranking = ranking.with_candidates([*ranking.candidates, *added])
    ranking.write()
    return ranking


def _require(candidate: RankedBackbone) -> None:
    """Raises ConfigError or WeightsError for what is not there, before anything is computed."""
    from resdet.weights.addresses.fetch import is_address, refuse_address

    source = candidate.source if candidate.is_random else file_of_source(candidate.source)
    if is_address(source):
        return  # fetched in the first part of its row, before any other work
    if not candidate.is_random:
        refuse_address(source)
        if not Path(source).exists():
            raise ConfigError(
                f"{source} does not exist. Name a run folder of pretrain_cls, a file of weights, "
                f"or an address; of a net without weights: random:{candidate.source}"
            )


def _first_plan(args: argparse.Namespace) -> RankPlan:
    """The plan before costs are known."""
    from resdet.cli.training.detection_sets import load_set, refuse_leak
    from resdet.config import presets, resolve
    from resdet.data import DataOptions, catalog
    from resdet.rank import held_out

    config = resolve(presets.find(CONFIG), args.opts)
    catalog.require([args.data, *([args.test] if args.test else [])], annotated=True)
    data = load_set(args.data, DataOptions())
    if args.test:
        test = load_set(args.test, DataOptions())
        if test.classes != data.classes:
            raise ConfigError(f"{args.data} and {args.test} have other classes.")
        refuse_leak(config.cfg, [data], [test])
        counts = (len(data), len(test))
    else:
        train, held = held_out.split(len(data))
        counts = (len(train), len(held))
    wanted = (
        IMAGES if args.images is None else args.images,
        TEST_IMAGES if args.test_images is None else args.test_images,
    )
    images, test_images = (
        min(count, most) if most else count for count, most in zip(counts, wanted, strict=True)
    )
    return RankPlan(
        data=args.data,
        test=args.test or "",
        train_set=args.data,
        test_set=args.test or args.data,
        images=images,
        test_images=test_images,
        size=args.size or _size_of(data.records),
        steps=args.steps or STEPS,
        batch=int(config.cfg.SOLVER.IMS_PER_BATCH),
        seeds=args.seeds or SEEDS,
        recipe=args.recipe,
        keys=tuple(args.opts),
        budget=budget.seconds_of(args.budget) if args.budget else 0.0,
        classes=tuple(data.classes),
    )


def _size_of(records: Sequence[dict[str, Any]]) -> int:
    """`SIZE`, or the longest side of the images where that is less; a multiple of 32."""
    longest = max(max(r["width"], r["height"]) for r in records)
    return min(SIZE, 32 * -(-longest // 32))


# -- costs, and the plan that fits -----------------------------------------------------------


def _with_costs(ranking: Ranking, args: argparse.Namespace, jobs: int) -> Ranking:
    """Measures each backbone, one after the other so that times are its own; fits the plan.

    Raises:
        ConfigError: the budget, or the room for maps, is too small.
    """
    is_planned = (ranking.path / "data").exists()
    plan: list[Step] = [_part_step(ranking, c, "cost", COST) for c in ranking.candidates]
    if any(not step.is_done() for step in plan):
        run_all(plan, 1, max(1, usable_cores() // jobs))
    if is_planned:
        return ranking
    costs = [ranking.read_row(c, COST) for c in ranking.candidates]
    rows = [budget.RowCost.of(cost) for cost in costs]
    fits = budget.fitted(ranking.plan, rows, jobs)
    fits = _within_room(fits, max(cost["map_bytes"] for cost in costs), args.cache_gb, jobs)
    ranking = dataclasses.replace(ranking, plan=_with_sets(ranking.path, fits))
    ranking.write()
    seconds = budget.estimate(fits, rows, jobs)
    logger.info(
        "plan: %d backbones, %d steps of %d images, %d seeds, %d training and %d test images of "
        "%d pixels, about %s",
        len(rows), fits.steps, fits.batch, fits.seeds, fits.images, fits.test_images, fits.size,
        in_words(seconds),
    )  # fmt: skip
    return ranking


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
    if fits.images < budget.FEWEST_IMAGES or fits.test_images < budget.FEWEST_TEST:
        raise ConfigError(
            f"--cache-gb {gigabytes:g} has room for the maps of {most} images of {plan.size} "
            f"pixels in {jobs} rows side by side. Give more, or a smaller --size, or --jobs 1."
        )
    return fits


def _with_sets(path: Path, plan: RankPlan) -> RankPlan:
    """The plan with sets of its images, written where they are a part of the user's."""
    from resdet.cli.training.detection_sets import load_set
    from resdet.data import DataOptions
    from resdet.rank import held_out

    folder = path / "data"
    folder.mkdir(parents=True, exist_ok=True)
    data = load_set(plan.data, DataOptions())
    if plan.test:
        test = load_set(plan.test, DataOptions())
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


# -- rows --------------------------------------------------------------------------------------


def _part_step(ranking: Ranking, candidate: RankedBackbone, part: str, makes: str) -> FileStep:
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


def _run_rows(ranking: Ranking, args: argparse.Namespace, jobs: int) -> None:
    plan: list[Step] = []
    for candidate in ranking.candidates:
        cost = budget.RowCost.of(ranking.read_row(candidate, COST))
        scores = _part_step(ranking, candidate, "scores", SCORES)
        images = ranking.plan.images + ranking.plan.test_images
        scores.weight = budget.PER_ROW + cost.trunk * images
        plan.append(scores)
        before = scores.name
        for seed in range(1, ranking.plan.seeds + 1):
            step = Step(
                f"{candidate.label}, seed {seed}",
                f"heads on {candidate.label}, seed {seed}",
                ["train_det", "--config", CONFIG, *keys_of_row(ranking, candidate, seed)],
                ranking.run(candidate, seed),
                budget.PER_RUN
                + cost.step * ranking.plan.steps
                + cost.detect * ranking.plan.test_images,
                needs=(before,),
            )
            plan.append(step)
            before = step.name
    cost_bytes = [ranking.read_row(c, COST)["map_bytes"] for c in ranking.candidates]
    images = ranking.plan.images + ranking.plan.test_images
    keeps = sum(cost_bytes) * images <= args.cache_gb * 1e9
    last = {f"{c.label}, seed {ranking.plan.seeds}": c for c in ranking.candidates}

    def done(step: Step) -> str:
        if step.name in last and not keeps:
            shutil.rmtree(ranking.features(last[step.name]), ignore_errors=True)
        return ""

    run_all(plan, jobs, max(1, usable_cores() // jobs), done)


def _report(ranking: Ranking, args: argparse.Namespace, seconds: float) -> int:
    from resdet.report.ranking.leaderboard import read_leaderboard
    from resdet.report.ranking.leaderboard_page import table, write_page

    rows = [
        (c.label, [ranking.run(c, seed) for seed in range(1, ranking.plan.seeds + 1)],
         {**ranking.read_row(c, COST), **ranking.read_row(c, SCORES)})
        for c in ranking.candidates
    ]  # fmt: skip
    plan = ranking.plan
    data = plan.test or f"a fifth of {plan.data}"
    board = read_leaderboard(rows, data=data, full=args.full, seconds=seconds)
    write_page(board, ranking.path / PAGE, ranking.path / LEADERBOARD)
    if args.json:
        show_json(board.to_json())
        return 0
    show(table(board))
    show(f"\nthe page: {ranking.path / PAGE}")
    if len(board.rows) > 1:
        two = [str(row.runs[0]) for row in board.rows[:2]]
        show(f"two rows in detail: resdet compare {shlex.join(two)}")
    logger.info("this took %s", in_words(seconds))
    return 0
