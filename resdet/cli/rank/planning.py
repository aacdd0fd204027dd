"""What `rank` ranks, on which images, for how many steps: from its words, or from what is there.

Nothing is fixed before every backbone was built and measured once (`fitting`): until then the same
command, or a corrected one, begins anew.

Not for: running the rows (`command`).
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import logging
import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from resdet.cli.rank.arguments import IMAGES, SEEDS, SIZE, STEPS, TEST_IMAGES
from resdet.cli.training.detection_sets import load_set, refuse_leak, sets_to_score
from resdet.config import Config, data_options, presets, resolve
from resdet.config.key_checks.dependent_keys import check_dependent
from resdet.data import DataOptions, DetectionSet, catalog
from resdet.errors import ConfigError
from resdet.file_names import file_name
from resdet.rank import budget, held_out
from resdet.rank.candidates import (
    RANDOM,
    RankedBackbone,
    candidates_of,
    file_of_source,
    refuse_same_labels,
)
from resdet.rank.quick_detector import CONFIG, keys_of_plan
from resdet.rank.ranking_folder import RANKING, Ranking, RankPlan
from resdet.weights.addresses.fetch import is_address, refuse_address

logger = logging.getLogger("resdet.cli.rank")

# Words that make a ranking; the same, or none, go on with it.
MAKING = ("data", "test", "size", "steps", "seeds", "images", "test_images", "budget", "opts")
# Keys that are the same for no two rankings, or no two rows, and what states them.
STATED_BY = {
    "DATASETS.TRAIN": "--data", "DATASETS.TEST": "--test", "MODEL.WEIGHTS": "--backbones",
    "INPUT.SQUARE_PAD": "--size", "INPUT.MIN_SIZE_TRAIN": "--size",
    "INPUT.MAX_SIZE_TRAIN": "--size", "INPUT.MIN_SIZE_TEST": "--size",
    "INPUT.MAX_SIZE_TEST": "--size", "SOLVER.MAX_ITER": "--steps", "SEED": "--seeds",
    "TRANSFER.RECIPE": "--recipe", "ENGINE.TRUNK_CACHE": "the folder of the ranking",
}  # fmt: skip


class UserSets:
    """The user's sets, whole, each read and its counts printed once in a call of `rank`."""

    def __init__(self) -> None:
        self.train = functools.cache(load_set)
        self.test = functools.cache(self._test)

    def _test(self, name: str, train: str, options: DataOptions) -> DetectionSet:
        """One that is scored, beside the set that trains; raises as `set_to_score`."""
        return set_to_score(name, options, self.train(train, options))

    def forget(self) -> None:
        """Lets them go before rows need the memory."""
        self.train.cache_clear()
        self.test.cache_clear()


def ranking_of(args: argparse.Namespace, sets: UserSets) -> Ranking:
    """The ranking of --output: new, gone on with, or with further rows.

    Raises:
        ConfigError: the words do not make a ranking, or not the one that is there.
    """
    path = folder_of(args)
    if not (math.isfinite(args.cache_gb) and args.cache_gb > 0):
        raise ConfigError(f"--cache-gb is {args.cache_gb:g}, expected more than 0.")
    if args.test is not None and args.test == args.data:
        raise ConfigError(
            f"--test is {args.test}, which trains. Leave --test out, and a fifth of {args.data} is "
            "held out and scored; or name another set."
        )
    if (path / RANKING).exists():
        there = Ranking.read(path)
        if there.is_planned or not args.backbones:
            return _gone_on_with(there, args)
    if args.add:
        raise ConfigError(
            f"--add needs a ranking, and {path} has none. Start one with --backbones, or name its "
            "folder: --output RANKING."
        )
    if not args.backbones or not args.data:
        absent = f"{path} has no ranking to go on with. " if args.output else ""
        raise ConfigError(
            f"{absent}rank needs --backbones A B … and --data SET, such as: resdet rank "
            "--backbones runs/pretrain_resnet runs/pretrain_vgg random:resnet18 --data "
            "digits_train --test digits_test"
        )
    candidates = candidates_of(args.backbones)
    if len(candidates) < 2:
        raise ConfigError("--backbones names one backbone; a ranking needs two at least.")
    for candidate in candidates:
        _require(candidate)
    if (path / "rows").exists() and not (path / RANKING).exists():
        # Of another plan, and finished: they would be taken for rows of this one.
        raise ConfigError(
            f"{path} has rows of a ranking, and no {RANKING}. Bring it back, move the folder away, "
            "or name another one: --output OTHER."
        )
    ranking = Ranking(path, _first_plan(args, sets), tuple(candidates), _typed(args))
    if (path / RANKING).exists():  # of another try, of which nothing was trained
        for name in ("rows", "weights"):
            shutil.rmtree(path / name, ignore_errors=True)
    ranking.write()
    return ranking


def folder_of(args: argparse.Namespace) -> Path:
    """That of the ranking. Raises ConfigError where nothing names it."""
    if args.output:
        return Path(args.output)
    if not args.data:
        raise ConfigError("rank needs --data SET, or --output RANKING of a ranking that is there.")
    return Path("runs") / f"rank_{file_name(args.data.replace(':', '-').replace('/', '-'))}"


def _typed(args: argparse.Namespace) -> dict[str, Any]:
    """The words that make a ranking, as they were typed; what was left out is not there."""
    values = {name: getattr(args, name) for name in MAKING}
    return {name: value for name, value in values.items() if value not in (None, [])}


def _gone_on_with(ranking: Ranking, args: argparse.Namespace) -> Ranking:
    for name, value in _typed(args).items():
        if value != ranking.typed.get(name):
            word = "KEY VALUE" if name == "opts" else f"--{name.replace('_', '-')}"
            before = ranking.typed.get(name)
            started = f"without {word}" if before is None else f"with {word} {_words(before)}"
            raise ConfigError(
                f"{ranking.path} was started {started}, and {_words(value)} is given. Leave it "
                "out, or start another ranking: --output OTHER."
            )
    if args.backbones and candidates_of(args.backbones) != list(
        ranking.candidates[: len(args.backbones)]
    ):
        raise ConfigError(
            f"{ranking.path} ranks {', '.join(c.label for c in ranking.candidates)}, and "
            f"--backbones names others. Add a row with --add, or name another --output."
        )
    added = [c for c in candidates_of(args.add) if c not in ranking.candidates]
    refuse_same_labels([*ranking.candidates, *added])
    for candidate in added:
        _require(candidate)
        _clear(ranking, candidate)
    return dataclasses.replace(ranking, candidates=(*ranking.candidates, *added))


def _words(value: Any) -> str:
    return " ".join(value) if isinstance(value, list) else str(value)


def _clear(ranking: Ranking, candidate: RankedBackbone) -> None:
    """Removes what an earlier try of this label left, which may have been another backbone.

    Raises:
        ConfigError: there are trainings.
    """
    row = ranking.row(candidate)
    if any(row.glob("seed_*")):
        raise ConfigError(
            f"{row} has trainings of a row that {RANKING} does not name. Move it away, or give the "
            f"backbone another name: NAME={RANDOM * candidate.is_random}{candidate.source}"
        )
    for folder in (row, ranking.features(candidate)):
        shutil.rmtree(folder, ignore_errors=True)
    if candidate.is_random:
        Path(ranking.weights(candidate)).unlink(missing_ok=True)


def _require(candidate: RankedBackbone) -> None:
    """Raises ConfigError or WeightsError for what is not there, before anything is computed."""
    source = candidate.source if candidate.is_random else file_of_source(candidate.source)
    if candidate.is_random and not (is_address(source) or Path(source).exists()):
        _require_net(source)
    if candidate.is_random or is_address(source):
        return  # made or fetched in the first part of its row, before any other work
    refuse_address(source)
    if not Path(source).exists():
        raise ConfigError(
            f"{source} does not exist. Name a run folder of pretrain_cls, a file of weights, or an "
            f"address; of a net without weights: random:{candidate.source}"
        )


def _require_net(name: str) -> None:
    """Raises ConfigError for what is no net's name; one's own net is built in its row alone."""
    import torch

    from resdet import nets

    if name in nets.registered():
        return
    try:
        with (
            torch.device("meta"),
            contextlib.suppress(RuntimeError),
        ):  # some need memory to be built
            nets.build(name, 2)
    except ValueError as error:
        raise ConfigError(f"{RANDOM}{name}: no file, run folder or address, and {error}") from None


# -- the plan ----------------------------------------------------------------------------------


def _first_plan(args: argparse.Namespace, sets: UserSets) -> RankPlan:
    """The plan before costs are known.

    Raises:
        ConfigError: a number out of range, sets that do not fit. DataError: a set, or a leak.
    """
    for name, least in (
        ("steps", 1),
        ("seeds", 1),
        ("images", 0),
        ("test_images", 0),
        ("size", 32),
    ):
        value = getattr(args, name)
        if value is not None and value < least:
            word = name.replace("_", "-")
            raise ConfigError(f"--{word} is {value}, expected {least} or more.")
    for key in args.opts[::2]:
        if key in STATED_BY:
            raise ConfigError(f"{key} is what {STATED_BY[key]} states. Leave the key out.")
    config = resolve(presets.find(CONFIG), args.opts)
    options = DataOptions(**data_options(config.cfg))
    catalog.require([args.data, *([args.test] if args.test else [])], annotated=True)
    data = sets.train(args.data, options)
    counts = _counts(args, config, sets, options)
    wanted = (
        IMAGES if args.images is None else args.images,
        TEST_IMAGES if args.test_images is None else args.test_images,
    )
    images, test_images = (
        min(count, most) if most else count for count, most in zip(counts, wanted, strict=True)
    )
    plan = RankPlan(
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
    check_dependent(resolve(presets.find(CONFIG), keys_of_plan(plan)))
    return plan


def _counts(
    args: argparse.Namespace, config: Config, sets: UserSets, options: DataOptions
) -> tuple[int, int]:
    """Images that can train, and that can be scored."""
    data = sets.train(args.data, options)
    if not args.test:
        train, held = held_out.split(len(data))
        return len(train), len(held)
    test = sets.test(args.test, args.data, options)
    refuse_leak(config.cfg, [data], [test])
    return len(data), len(test)


def set_to_score(name: str, options: DataOptions, data: DetectionSet) -> DetectionSet:
    """The set that is scored, whole, its classes in the order of the training set's.

    Raises:
        ConfigError: it has others. DataError: it is damaged.
    """
    (test,) = sets_to_score([name], options, data.classes)
    if test.classes != data.classes:
        odd = sorted(set(test.classes) ^ set(data.classes))
        raise ConfigError(
            f"{data.name} has {len(data.classes)} classes and {name} {len(test.classes)}; not in "
            f"both: {', '.join(odd[:6])}{', …' if len(odd) > 6 else ''}. A detector is trained and "
            "tested on one list."
        )
    return test


def _size_of(records: Sequence[dict[str, Any]]) -> int:
    """`SIZE`, or the longest side of the images where that is less; a multiple of 32."""
    longest = max(max(r["width"], r["height"]) for r in records)
    return min(SIZE, 32 * -(-longest // 32))


def data_options_of(keys: Sequence[str]) -> DataOptions:
    """How a row with these KEY VALUE words reads its sets."""
    return DataOptions(**data_options(resolve(presets.find(CONFIG), keys).cfg))
