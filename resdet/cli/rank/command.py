"""`rank`: plans, runs the rows side by side, prints the table, writes the page.

    rank --backbones A B … --data SET [--test SET]     a new ranking, or the same one gone on with
    rank --add C --output RANKING                      one row more; the others stay
    rank --output RANKING                              goes on, or shows the table again
    rank --output RANKING --finalists 3 --config FILE  the first rows in full

Every training is a `train_det` that could be typed; rows/LABEL/seed_N/run.json has its command.

Not for: what is ranked and how long (`planning`), what a row measures (`resdet.rank`), or the
numbers of the table (`resdet.report.ranking`).
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
import shlex
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from resdet.cli.rank import finalists, fitting, planning
from resdet.cli.rank.arguments import add_arguments as add_arguments  # as all commands have
from resdet.cli.steps import Step, in_words, run_all, usable_cores
from resdet.printable import show, show_json
from resdet.rank import budget
from resdet.rank.candidates import RankedBackbone
from resdet.rank.quick_detector import CONFIG, keys_of_row
from resdet.rank.ranking_folder import COST, LEADERBOARD, PAGE, SCORES, Ranking
from resdet.run import layout
from resdet.run.folder import utc_now
from resdet.run.lock import held

if TYPE_CHECKING:
    from resdet.report.ranking.leaderboard import Leaderboard

logger = logging.getLogger("resdet.cli.rank")


def run(args: argparse.Namespace) -> int:
    if args.part:
        return _part(args)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    began = time.monotonic()
    finalists.refuse_wrong_words(args)
    path = planning.folder_of(args)
    lock = held(path / layout.LOCK, utc_now())
    sets = planning.UserSets()
    if not path.is_dir():  # wrong words leave no folder
        ranking = planning.ranking_of(_of_rows(args), sets)
        with lock:
            return _rank(ranking, args, began, sets)
    with lock:
        return _rank(planning.ranking_of(_of_rows(args), sets), args, began, sets)


def _rank(ranking: Ranking, args: argparse.Namespace, began: float, sets: planning.UserSets) -> int:
    jobs = _jobs(args)
    args.full = finalists.named_trainings(ranking, args.full)
    ranking = fitting.with_costs(ranking, args, jobs, sets)
    sets.forget()
    if _run_rows(ranking, args, jobs):
        ranking = dataclasses.replace(ranking, seconds=ranking.seconds + time.monotonic() - began)
        ranking.write()
    if args.finalists is None:
        return _report(ranking, args, _board(ranking, args))
    labels = finalists.finalists_of(_board(ranking, args), args.finalists)
    full = finalists.steps_of(ranking, labels, args)
    finalists.check(full)
    finalists.note_settings(ranking, args)
    finalists.tell_length(full, args)
    run_all(full, jobs, max(1, usable_cores() // jobs))
    code = _report(ranking, args, _board(ranking, args))
    if not args.json:
        finalists.show_comparison(ranking, labels)
    return code


def _of_rows(args: argparse.Namespace) -> argparse.Namespace:
    """With --finalists KEY VALUE are of their detector, not of the rows'."""
    keys = args.opts if args.finalists is None else []
    return argparse.Namespace(**{**vars(args), "opts": keys})


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


# -- rows --------------------------------------------------------------------------------------


def _run_rows(ranking: Ranking, args: argparse.Namespace, jobs: int) -> bool:
    """Whether there was something to run."""
    rows = {c: _steps_of(ranking, c) for c in ranking.candidates}
    images = ranking.plan.images + ranking.plan.test_images
    sizes = {c: ranking.read_row(c, COST)["map_bytes"] * images for c in rows}
    room = args.cache_gb * 1e9
    keeps = sum(sizes.values()) <= room
    left = [c for c, steps in rows.items() if not all(step.is_done() for step in steps)]
    if left and not keeps:
        for candidate in rows.keys() - left:  # of a call in which all had room
            shutil.rmtree(ranking.features(candidate), ignore_errors=True)
        jobs = max(1, min(jobs, int(room // max(sizes[c] for c in left))))
    last = {steps[-1].name: c for c, steps in rows.items()}

    def done(step: Step) -> str:
        if step.name in last and not keeps:
            shutil.rmtree(ranking.features(last[step.name]), ignore_errors=True)
        return ""

    plan = [step for steps in rows.values() for step in steps]
    run_all(plan, jobs, max(1, usable_cores() // jobs), done)
    return bool(left)


def _steps_of(ranking: Ranking, candidate: RankedBackbone) -> list[Step]:
    """Maps and scores of a row, then the training of each seed, one after the other."""
    cost = budget.RowCost.of(ranking.read_row(candidate, COST))
    images = ranking.plan.images + ranking.plan.test_images
    scores = fitting.part_step(ranking, candidate, "scores", SCORES)
    scores.weight = budget.PER_ROW + cost.trunk * images
    steps: list[Step] = [scores]
    for seed in range(1, ranking.plan.seeds + 1):
        step = Step(
            f"{candidate.label}, seed {seed}",
            f"heads on {candidate.label}, seed {seed}",
            ["train_det", "--config", CONFIG, *keys_of_row(ranking, candidate, seed)],
            ranking.run(candidate, seed),
            budget.PER_RUN
            + cost.step * ranking.plan.steps
            + cost.detect * ranking.plan.test_images,
            needs=(steps[-1].name,),
        )
        steps.append(step)
    return steps


def _board(ranking: Ranking, args: argparse.Namespace) -> Leaderboard:
    from resdet.report.ranking.leaderboard import read_leaderboard

    rows = [
        (c.label, [ranking.run(c, seed) for seed in range(1, ranking.plan.seeds + 1)],
         {**ranking.read_row(c, COST), **ranking.read_row(c, SCORES)})
        for c in ranking.candidates
    ]  # fmt: skip
    plan = ranking.plan
    data = plan.test or f"a fifth of {plan.data}"
    logger.info("comparing %d trainings on their test images", sum(len(r) for _, r, _ in rows))
    known = [*ranking.full, *finalists.finished_words(ranking)]
    full = list(dict.fromkeys([*known, *args.full]))
    board = read_leaderboard(rows, data=data, full=full, remembered=known, seconds=ranking.seconds)
    if args.full:  # only what could be read is remembered
        dataclasses.replace(ranking, full=tuple(dict.fromkeys([*ranking.full, *args.full]))).write()
    return board


def _report(ranking: Ranking, args: argparse.Namespace, board: Leaderboard) -> int:
    from resdet.report.ranking.leaderboard_page import table, write_page

    write_page(board, ranking.path / PAGE, ranking.path / LEADERBOARD)
    if args.json:
        show_json(board.to_json())
        return 0
    show(table(board))
    show(f"\nthe page: {ranking.path / PAGE}")
    if len(board.rows) > 1:
        two = [str(row.runs[0]) for row in board.rows[:2]]
        show(f"two rows in detail: resdet compare {shlex.join(two)}")
    logger.info("its rows took %s", in_words(ranking.seconds))
    return 0
