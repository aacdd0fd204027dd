"""The presets' files by recipe, and what one resolves to."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from resdet.config import check_reference_batch, get_key, resolve

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
PAPER_LEAVES = sorted(CONFIGS.glob("*.yaml"))
(
    STATED_LEAVES,
    ALTERNATING_LEAVES,
    MODERN_LEAVES,
    ADAMW_LEAVES,
    FPN_LEAVES,
    FROZEN_LEAVES,
    VIT_LEAVES,
    DC5_LEAVES,
    MASK_LEAVES,
    CONTEXT_LEAVES,
    FROM_COCO_LEAVES,
) = OF_FOLDERS = [
    sorted((CONFIGS / folder).glob("*.yaml"))
    for folder in (
        "stated", "alternating", "modern", "adamw", "fpn", "frozen", "vit", "dc5", "masks",
        "context", "from_coco",
    )
]  # fmt: skip
LEAVES = [*PAPER_LEAVES, *(path for leaves in OF_FOLDERS for path in leaves)]
IMAGENET = sorted(
    path for folder in ("imagenet", "localization") for path in (CONFIGS / folder).glob("*.yaml")
)
PRETRAIN = sorted(p for p in (CONFIGS / "pretrain").glob("*.yaml") if not p.name.startswith("base"))


def of(keys: Iterable[str], path: Path) -> dict[str, Any]:
    """The resolved values of these keys, after the schedule met the batch."""
    config = resolve(path)
    check_reference_batch(config)
    return {key: get_key(config.cfg, key) for key in keys}
