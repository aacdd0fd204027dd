"""Run folders of classifiers' trainings, as `pretrain_cls` writes them, without training."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from resdet.run import layout
from resdet.run.folder import Run, write_json


def write_run(
    folder: Path,
    net: str,
    train: Mapping[int, float],
    test: Mapping[int, float] | None = None,
    *,
    final: float | None = None,
    state: str = "finished",
    steps: Sequence[int] = (),
    max_iter: int = 100,
    seed: int = 1,
    decisions: Sequence[Mapping[str, Any]] = (),
    data_set: str = "mine_test",
    more: Mapping[str, Any] | None = None,
) -> Path:
    """A run of one training.

    Args:
        train, test: steps done to error in percent.
        final: the finished run's own score.
        more: sections that are added to the config.
    """
    config = {
        "MODEL": {"NET": {"NAME": net, "WIDTH": 1.0}},
        "PRETRAIN": {"TRAIN": "mine", "VAL": data_set, "TEST": "", "CROP": 32},
        "SOLVER": {"MAX_ITER": max_iter, "STEPS": list(steps), "IMS_PER_BATCH": 8},
        "SEED": seed,
    }
    for key, section in (more or {}).items():
        config[key] = {**config.get(key, {}), **section}  # type: ignore[dict-item]
    run = Run.create(folder, kind="classification", config_text=yaml.safe_dump(config),
                     command=["pretrain_cls"], seed=seed)  # fmt: skip
    rows: dict[int, dict[str, float]] = {}
    for step, error in train.items():
        rows.setdefault(step, {})["train_top1_error"] = error
    for step, error in (test or {}).items():
        rows.setdefault(step, {})[f"{data_set}/top1_error"] = error
    lines = [json.dumps({"iteration": step - 1, **row}) for step, row in sorted(rows.items())]
    (folder / layout.METRICS).write_text("".join(f"{line}\n" for line in lines))
    if final is not None:
        write_json(folder / layout.CLASSIFICATION,
                   {data_set: {"top1_error": final, "top5_error": 0.0}})  # fmt: skip
    run.update(state=state, rate_decisions=list(decisions))
    return folder
