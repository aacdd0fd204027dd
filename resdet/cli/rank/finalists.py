"""`rank --finalists`: the full experiment for the first rows of a ranking.

    rank --output RANKING --finalists 3 --config FILE [KEY VALUE …]

Each finalist is the backbone of one and the same detector, FILE, trained on the ranking's whole
sets with as many seeds as its rows had: runs of train_det in RANKING/full/LABEL/seed_N, beside
which the table and the page then set the quick verdict.

Not for: the rows themselves (`command`).
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import logging
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resdet.cli import main
from resdet.cli.rank.planning import data_options_of
from resdet.cli.steps import Step, is_finished
from resdet.cli.training.detection_sets import load_set
from resdet.config import presets, resolve
from resdet.errors import ConfigError
from resdet.printable import counted, show
from resdet.rank import held_out
from resdet.rank.candidates import RankedBackbone
from resdet.rank.ranking_folder import FULL, Ranking
from resdet.run import layout
from resdet.run.folder import Run, read_json, write_json

if TYPE_CHECKING:
    from resdet.report.ranking.leaderboard import Leaderboard

logger = logging.getLogger("resdet.cli.rank")

SETTINGS = "settings.json"
# Of what is refused, what is shown.
PAGE_LINES = 8
# Keys that finalists have from the ranking.
_OF_EACH = {
    "DATASETS.TRAIN": "the ranking's set", "DATASETS.TEST": "the ranking's set",
    "MODEL.NET.NAME": "the net of its row", "MODEL.WEIGHTS": "the weights of its row",
    "MODEL.WEIGHTS_PART": "the weights of its row", "SEED": "1, 2, … as the rows have",
}  # fmt: skip
# For the ETA alone: how long a full training takes is not measured before it.
_WEIGHT = 100.0


def refuse_wrong_words(args: argparse.Namespace) -> None:
    """Raises ConfigError for --finalists without a config or a ranking, and the other way round."""
    if args.finalists is None:
        if args.config:
            raise ConfigError(
                f"--config {args.config} is the detector of --finalists. Rows of a ranking have "
                "configs/rank/rank_frozen.yaml; KEY VALUE changes it for all of them."
            )
        return
    if args.finalists < 0:
        raise ConfigError(f"--finalists is {args.finalists}, expected 1 or more.")
    if not args.config:
        raise ConfigError(
            "--finalists trains each under one detector: name its config, --config FILE, such as "
            "--config voc07_r18. Its net gives way to each finalist's."
        )
    presets.find(args.config)
    for key in args.opts[::2]:
        if key in _OF_EACH:
            raise ConfigError(
                f"{key} is set by the ranking in each full training ({_OF_EACH[key]}). Leave the "
                "key out."
            )


def finalists_of(board: Leaderboard, number: int) -> list[str]:
    """Labels of the first rows; 0: of all that cannot be told from the first one."""
    first = len(board.groups[0])
    if number > len(board.rows):
        logger.info(
            "--finalists %d: the ranking has %d rows, and all are taken", number, len(board.rows)
        )
    if number and number < first:
        logger.info(
            "%d of the first %d rows, which cannot be told apart; --finalists %d takes them all",
            number, first, first,
        )  # fmt: skip
    places = list(range(number)) if number else [*board.groups[0], *board.may_be_first]
    return [board.rows[place].label for place in places if place < len(board.rows)]


def steps_of(ranking: Ranking, labels: Sequence[str], args: argparse.Namespace) -> list[Step]:
    """A training of each finalist and seed.

    Raises:
        ConfigError: the ranking has full trainings under another config.
    """
    config = presets.find(args.config)
    _refuse_other_settings(ranking, config, args.opts)
    train, test = _whole_sets(ranking, masks=resolve(config, args.opts).cfg.MODEL.MASK_ON)
    sets = ["DATASETS.TRAIN", f"({train!r},)", "DATASETS.TEST", f"({test!r},)"]
    plan = []
    for label in labels:
        candidate = ranking.candidate(label)
        weights = ["MODEL.NET.NAME", "", "MODEL.WEIGHTS", ranking.weights(candidate)]
        for seed in range(1, ranking.plan.seeds + 1):
            keys = [*sets, *weights, "SEED", str(seed), *args.opts]
            plan.append(
                Step(
                    f"{label} in full, seed {seed}",
                    f"full training of {label}, seed {seed}",
                    ["train_det", "--config", str(config), *keys],
                    ranking.full_run(candidate, seed),
                    _WEIGHT,
                )
            )
    return plan


def tell_length(plan: Sequence[Step], args: argparse.Namespace) -> None:
    """How many trainings are left, and of how many steps."""
    if left := sum(not step.is_done() for step in plan):
        solver = resolve(presets.find(args.config), args.opts).cfg.SOLVER
        logger.info(
            "in full: %s of %d steps of %d images; what takes long says so after its first steps",
            counted(left, "training"), solver.MAX_ITER, solver.IMS_PER_BATCH,
        )  # fmt: skip


def check(plan: Sequence[Step]) -> None:
    """Explains one training of each finalist, so that none is refused when hours are spent.

    Raises:
        ConfigError: one cannot be built; with its page.
    """
    # Seeds of one finalist lie in one folder, and are built alike.
    first: dict[Path, Step] = {}
    for step in plan:
        if not step.is_done():
            first.setdefault(step.folder.parent, step)
    for step in first.values():
        name, flag, config, *keys = step.command
        words = [name, "--explain", flag, config, *keys]
        done = subprocess.run(
            [sys.executable, *main.program, *words], capture_output=True, text=True, check=False
        )
        if done.returncode:
            lines = done.stderr.strip().splitlines()[-PAGE_LINES:]
            raise ConfigError(f"{step.title} cannot begin:\n" + "\n".join(lines))


def named_trainings(ranking: Ranking, words: Sequence[str]) -> list[str]:
    """Words of --full with absolute paths, as a later call may be typed elsewhere.

    Raises:
        ConfigError: one names no row, or no run folder: before anything is measured or trained.
    """
    from resdet.report.ranking.full_trainings import labelled

    labels = [c.label for c in ranking.candidates]
    named = [labelled(labels, word) for word in words]
    return [f"{label}={run.resolve()}" for label, run in named]


def finished_words(ranking: Ranking) -> list[str]:
    """LABEL=RUN of the full trainings that the ranking has."""
    return [f"{c.label}={run}" for c in ranking.candidates for run in _finished(ranking, c)]


def show_comparison(ranking: Ranking, labels: Sequence[str]) -> None:
    """What to type for the report on the finalists."""
    runs = [str(run) for n in labels for run in _finished(ranking, ranking.candidate(n))]
    if len(labels) > 1:
        show(f"the finalists in detail: resdet compare {shlex.join(runs)}")


def _finished(ranking: Ranking, candidate: RankedBackbone) -> list[Path]:
    runs = [ranking.full_run(candidate, seed) for seed in range(1, ranking.plan.seeds + 1)]
    return [run for run in runs if is_finished(run)]


def note_settings(ranking: Ranking, args: argparse.Namespace) -> None:
    """What the full trainings are of; once nothing of them was refused."""
    folder = ranking.path / FULL
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / SETTINGS, _settings(presets.find(args.config), args.opts))


def _refuse_other_settings(ranking: Ranking, config: Path, opts: Sequence[str]) -> None:
    path = ranking.path / FULL / SETTINGS
    begun = [file.parent for file in path.parent.glob(f"*/seed_*/{layout.RUN}")]
    if all(Run.open(run).is_empty() for run in begun):
        return  # refused before their first step; they begin anew
    if path.exists() and read_json(path) != _settings(config, opts):
        raise ConfigError(
            f"{path.parent} holds full trainings with another config or other keys. Move it away, "
            "or type what they had: the config and command in their run folders."
        )


def _settings(config: Path, opts: Sequence[str]) -> dict[str, Any]:
    text = resolve(config, opts).cfg.dump()
    return {"config": hashlib.sha256(text.encode()).hexdigest(), "keys": list(opts)}


def _whole_sets(ranking: Ranking, *, masks: bool) -> tuple[str, str]:
    """The sets that were named; of one set all but a fifth, and that fifth."""
    plan = ranking.plan
    if plan.test:
        return plan.data, plan.test
    options = data_options_of(plan.keys)
    data = load_set(plan.data, dataclasses.replace(options, masks=masks, needs_masks=masks))
    folder = ranking.path / FULL / "data"
    folder.mkdir(parents=True, exist_ok=True)
    train, held = (
        held_out.written(data, places, folder / f"{name}.json")
        for name, places in zip(("train", "test"), held_out.split(len(data)), strict=True)
    )
    return train, held
