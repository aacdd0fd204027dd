"""Configs of run folders as older versions of resdet wrote them."""

from __future__ import annotations

import yaml


def with_old_names(text: str) -> str:
    """A config.yaml of today with the keys of the averaged weights where they once were."""
    tree = yaml.safe_load(text)
    for name in ("EMA_DECAY", "EMA_STEPS"):
        tree["PRETRAIN"][name] = tree["SOLVER"].pop(name)
    return yaml.safe_dump(tree)
