"""The card of a classifier that was trained here: provenance and conventions.

Not for: what a card holds (`resdet.weights.cards`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from resdet import weights
from resdet.engine.versions import versions
from resdet.run.folder import utc_now
from resdet.weights.cards import norm_of_net


def card_of(
    training: Any,
    scores: Mapping[str, Any],
    steps: int,
    seconds: float,
    *,
    best: Mapping[str, Any] | None = None,
) -> weights.Card:
    """Of the net as it stands after so many steps and seconds.

    Args:
        training: a `trainer.Pretraining`.
        scores: by set; the first set's are the card's.
        best: the record of a best model (`engine.evaluation`).
    """
    cfg, data = training.cfg, training.train_set
    main: dict[str, Any] = next(iter(scores.values()), {})
    has_norm = any(isinstance(m, torch.nn.BatchNorm2d) for m in training.net.modules())
    norm = {**norm_of_net(training.net), "statistics": training.statistics}
    return weights.Card(
        net=cfg.MODEL.NET.NAME,
        net_options=training.net_options,
        input=training.input,
        classes=data.classes,
        norm=norm if has_norm else {"kind": "none"},
        data={"name": data.name, "images": len(data), "hash": data.hash},
        metrics={k: main[k] for k in ("top1_error", "top5_error") if k in main},
        training={
            "samples": steps * cfg.SOLVER.IMS_PER_BATCH,
            "iterations": steps,
            "seconds": round(seconds, 1),
            "seed": cfg.SEED,
            "run": training.run.info["id"],
            **({"best": best} if best else {}),
        },
        config=cfg.dump(),
        parent=training.run.info.get("parent"),
        versions=versions(),
        created=utc_now(),
    )
