"""A run's own config beside that of a command: what may differ, and which values hold.

Not for: what a key means (`resdet.config`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import yaml

from resdet.config import Config, flatten, get_cfg, set_key
from resdet.config.keys import COUNTS
from resdet.errors import RunError, first_few
from resdet.run import layout
from resdet.run.folder import Run
from resdet.run.renamed_keys import with_new_names

# A name, or the beginning of names where it ends with a dot.
# Keys that may change between a run and its --resume: they do not shape the training.
FREE_ON_RESUME = ("OUTPUT_DIR", "SOLVER.MAX_ITER", "SOLVER.CHECKPOINT_PERIOD", "TEST.", "EVAL.",
                  "DATALOADER.NUM_WORKERS", "ENGINE.KEEP_CHECKPOINTS", "ENGINE.THREADS",
                  "ENGINE.WORKERS", "ENGINE.FUSED_OPTIMIZER", "ENGINE.COMPILE",
                  "ENGINE.ACTIVATION_CHECKPOINTING", "ENGINE.KEEP_MEMORY",
                  "ENGINE.ALLOW_CHANGED_DATA", "ENGINE.WORKER_TIMEOUT", "ENGINE.DISK_WAIT",
                  "ENGINE.TRUNK_CACHE", "DATASETS.TEST", "LOC.SCORES",
                  "LOC.RCNN_BATCH")  # fmt: skip
# Keys that may differ when a finished run is scored again: they do not shape what it detects.
FREE_ON_EVAL = ("OUTPUT_DIR", "DATASETS.TEST", "PRETRAIN.VAL", "PRETRAIN.TEST", "EVAL.SAMPLES",
                "EVAL.ENGINE", "EVAL.ALLOW_LEAK", "TEST.EVAL_IMAGES", "TEST.EVAL_PERIOD",
                "TEST.BEST_METRIC", "TEST.EARLY_STOP", "TEST.VALIDATION_LOSS",
                "TEST.EXPECTED_RESULTS", "MODEL.DEVICE", "DATALOADER.NUM_WORKERS", "ENGINE.THREADS",
                "ENGINE.WORKERS", "ENGINE.FUSED_OPTIMIZER", "ENGINE.COMPILE", "ENGINE.KEEP_MEMORY",
                "ENGINE.ACTIVATION_CHECKPOINTING", "ENGINE.WORKER_TIMEOUT",
                "ENGINE.DISK_WAIT", "ENGINE.TRUNK_CACHE", "LOC.TEST", "LOC.SIZES", "LOC.SCORES",
                "LOC.RCNN_BATCH")  # fmt: skip


# What is scored is looked at by itself (`scored_run`).
_WEIGHTS = ("MODEL.WEIGHTS", "MODEL.WEIGHTS_PART")


def _is_among(key: str, names: Iterable[str]) -> bool:
    """PRETRAIN.TEST is not PRETRAIN.TEST_SIDE."""
    return any(key == name or (name.endswith(".") and key.startswith(name)) for name in names)


def config_of(run: Run) -> dict[str, Any]:
    """The run's config.yaml as a tree; raises RunError where it holds none."""
    try:
        tree = yaml.safe_load(run.config_text)
    except (yaml.YAMLError, ValueError, RecursionError):
        tree = None
    # One key, by which weights are told from those that a command states, stands for the rest.
    model = tree.get("MODEL") if isinstance(tree, dict) else None
    if not isinstance(model, dict) or not isinstance(model.get("WEIGHTS"), str):
        raise RunError(
            f"{run.path / layout.CONFIG} is damaged: it holds no config of a run. Bring back a "
            "copy of it, or make the run again."
        )
    assert isinstance(tree, dict)
    return tree


def stored_keys(run: Run) -> dict[str, Any]:
    """Key to value of the run's config; a key that is newer than the run is off, as it was then."""
    keys = {**dict(flatten(get_cfg())), **with_new_names(dict(flatten(config_of(run))))}
    ensemble = run.further_detectors(keys["TEST.ENSEMBLE"])
    return {**keys, "TEST.ENSEMBLE": type(keys["TEST.ENSEMBLE"])(ensemble)}


def as_in_run(config: Config, run: Run) -> None:
    """Gives the config the values that the run was made with, to score it as it is.

    Raises:
        RunError: a stated key differs, and it is not one of `FREE_ON_EVAL`.
    """
    stored = stored_keys(run)
    now = dict(flatten(yaml.safe_load(config.to_yaml())))
    odd = [
        f"{key} is {now[key]!r} ({where}), the run was made with {stored.get(key)!r}"
        for key, where in sorted(config.stated.items())
        if now[key] != stored.get(key)
        and not _is_among(key, (*FREE_ON_EVAL, *COUNTS, "SOLVER.", *_WEIGHTS))
    ]
    if odd:
        # The two nets of a localizer are tested in their own run alone.
        elsewhere = (
            "train with the new ones: another --output without --eval-only."
            if run.kind == "localization"
            else f"score its weights into a new folder: MODEL.WEIGHTS {run.path}/… with another "
            "--output."
        )
        raise RunError(
            f"{run.path}: {first_few(odd, indent='')}\nIts results would be those of another "
            f"{'classifier' if run.kind == 'classification' else 'detector'}. Use the old values, "
            f"or {elsewhere}"
        )
    for key, value in stored.items():
        # Another test set has other faults; where these are not stated, the run's values hold.
        is_restated = key in COUNTS and key in config.stated
        if key in now and not _is_among(key, FREE_ON_EVAL) and not is_restated:
            set_key(config.cfg, key, value)


def refuse_other_config(run: Run, config: Config) -> None:
    before = stored_keys(run)
    after = dict(flatten(yaml.safe_load(config.to_yaml())))
    free: tuple[str, ...] = FREE_ON_RESUME
    if after["SOLVER.SCHEME"] != "joint" or run.kind == "localization":
        # The steps that have ended are as long as they are.
        free = tuple(key for key in free if key != "SOLVER.MAX_ITER")
    odd = [
        f"{key} is {after.get(key)!r}, the run was started with {before.get(key)!r}"
        for key in sorted(set(before) | set(after))
        if before.get(key) != after.get(key) and not _is_among(key, free)
    ]
    if odd:
        raise RunError(
            f"resume of {run.path}: {first_few(odd, indent='').replace(chr(10), '; ')}. "
            "Use the old values, or start a new run with another --output."
        )
    reached = max(before["SOLVER.MAX_ITER"], run.info.get("max_iter", 0))
    if reached > after["SOLVER.MAX_ITER"]:
        raise RunError(
            f"resume of {run.path}: SOLVER.MAX_ITER is {after['SOLVER.MAX_ITER']}, the run was "
            f"made for {reached}. It may grow, not shrink."
        )
