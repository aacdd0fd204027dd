"""A training goes on with the data that it began with: hashes in run.json, held against a resume.

Not for: what a hash covers (`resdet.data.records`), or whether two runs had the same data (report).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from resdet.errors import RunError
from resdet.run.folder import Run

logger = logging.getLogger("resdet.engine.data_hashes")


def hold_against(run: Run, sets: Sequence[Mapping[str, Any]], *, changed_allowed: bool) -> None:
    """Compares the training sets with those of run.json, if a training wrote some.

    Args:
        sets: "name", "hash" and "images" (their number) of each.
        changed_allowed: ENGINE.ALLOW_CHANGED_DATA: a difference is a warning, and is recorded.

    Raises:
        RunError: a set is not what it was.
    """
    before = run.info.get("train_sets")
    if not before:
        return
    was, now = ({s["name"]: s for s in side} for side in (before, sets))
    changes = [_change(name, was.get(name), now.get(name)) for name in {**was, **now}]
    changes = [text for text in changes if text]
    if not changes:
        return
    if not changed_allowed:
        raise RunError(
            f"resume of {run.path}: {'; '.join(changes)}. Images, sizes or annotations are not "
            "those that the training began with. Restore them, start a new run with another "
            "--output, or go on all the same: ENGINE.ALLOW_CHANGED_DATA True."
        )
    logger.warning("%s: %s", run.path, "; ".join(changes))
    run.update(data_changes=[*run.info.get("data_changes", []), *changes])


def _change(name: str, before: Mapping[str, Any] | None, now: Mapping[str, Any] | None) -> str:
    if before is None or now is None:
        return f"{name} was {'not there' if before is None else 'there'} at the start"
    if before["hash"] == now["hash"]:
        return ""
    if before["images"] != now["images"]:
        return f"{name} had {before['images']:,} images, and has {now['images']:,}"
    return f"{name} has the hash {now['hash'][:12]}, it had {before['hash'][:12]}"
