"""Which run, and which of its models, `--eval-only` scores.

Not for: a file that is no run's (`starting_point`, `resdet.pretrain.file_scores`).
"""

from __future__ import annotations

import argparse
from pathlib import Path

from resdet.cli.training.stored_config import as_in_run, config_of
from resdet.cli.training.training_command import folder_of
from resdet.config import Config
from resdet.errors import ConfigError, RunError
from resdet.run import layout
from resdet.run.folder import Run, write_text


def run_of_best(args: argparse.Namespace, config: Config, name: str, file: str) -> Run | None:
    """--best: the run whose best model is scored, as the run was made; args.output is DIR_best.

    Args:
        file: the run's best model (`layout`).

    Returns:
        None without --best.

    Raises:
        ConfigError: --best without --eval-only, or beside MODEL.WEIGHTS of something else.
        RunError: there is no such run, it is not finished, or it kept no best model.
    """
    if not args.best:
        return None
    if not args.eval_only:
        raise ConfigError("--best states what --eval-only scores. Add --eval-only.")
    run = Run.open(folder_of(args, name))
    path, stated = run.path / file, config.cfg.MODEL.WEIGHTS
    if stated and stated not in (config_of(run)["MODEL"]["WEIGHTS"], str(path)):
        raise ConfigError(
            f"MODEL.WEIGHTS is {stated}, and --best scores {path}. Leave one of the two out."
        )
    if not path.exists() or not run.info.get("best"):
        raise RunError(
            f"{run.path} kept no best model. A training keeps one, as {file}, with "
            "TEST.BEST_METRIC and TEST.EVAL_PERIOD."
        )
    if run.state != "finished":
        raise RunError(
            f"{run.path} is {run.state}: its best model is not known yet. Finish it with --resume, "
            f"or score the best so far: --output DIR MODEL.WEIGHTS {path}"
        )
    as_in_run(config, run)
    args.output = f"{run.path}_best"
    return run


def record_best(run: Run, source: Run, config: Config) -> None:
    """States in the run which training its model is the best of and by what; call in its lock."""
    run.update(
        **source.facts_of_training(), best_of={**source.info["best"], "folder": str(source.path)}
    )
    if run.writes:
        # The training may have gone on since its best was scored before.
        write_text(run.path / layout.CONFIG, config.to_yaml())


def run_to_score(config: Config, folder: Path, own: str, best: str) -> Run | None:
    """The run in the folder of --eval-only, whose values the config takes; None for a new folder.

    Args:
        own, best: its models (`layout`).

    Raises:
        RunError: MODEL.WEIGHTS is another file than its own, or a stated key differs.
    """
    if not (folder / layout.RUN).exists():
        return None
    run, stated = Run.open(folder), config.cfg.MODEL.WEIGHTS
    made_from = config_of(run)["MODEL"]["WEIGHTS"]
    if stated == str(folder / best) != made_from:
        raise RunError(
            f"MODEL.WEIGHTS is {stated}, the best model of this run. Leave it out and add --best: "
            f"the results of {folder} are those of its last model."
        )
    if stated and stated not in (made_from, str(folder / own)):
        raise RunError(
            f"MODEL.WEIGHTS is {stated}, but {folder} is the run of another model, made from "
            f"{made_from or 'random weights'}. Leave MODEL.WEIGHTS out, or score that file into a "
            "folder of its own: --output DIR."
        )
    as_in_run(config, run)
    return run
