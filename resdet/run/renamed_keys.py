"""Config keys that had another name when older run folders were made.

Not for: config files that a person writes, where an old name is refused like any unknown key.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Old name to the one of today, with the same values.
RENAMED = {
    "PRETRAIN.EMA_DECAY": "SOLVER.EMA_DECAY",
    "PRETRAIN.EMA_STEPS": "SOLVER.EMA_STEPS",
}


def with_new_names(config: Mapping[str, Any]) -> dict[str, Any]:
    """A run's config by dotted keys, each by its name of today.

    >>> with_new_names({"SEED": 1, "PRETRAIN.EMA_DECAY": 0.9})
    {'SEED': 1, 'SOLVER.EMA_DECAY': 0.9}
    """
    return {RENAMED.get(key, key): value for key, value in config.items()}
