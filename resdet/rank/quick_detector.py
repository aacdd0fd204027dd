"""The config of one row: configs/rank/rank_frozen.yaml with what the plan decides.

Not for: what the keys do (`resdet.config`).
"""

from __future__ import annotations

from resdet.rank.candidates import RankedBackbone
from resdet.rank.ranking_folder import COST, Ranking, RankPlan

CONFIG = "rank_frozen"


def keys_of_plan(plan: RankPlan) -> list[str]:
    """KEY VALUE words that all rows have."""
    size = plan.size
    return [
        "DATASETS.TRAIN", f"({plan.train_set!r},)", "DATASETS.TEST", f"({plan.test_set!r},)",
        "INPUT.MIN_SIZE_TRAIN", f"({size},)", "INPUT.MAX_SIZE_TRAIN", str(size),
        "INPUT.MIN_SIZE_TEST", str(size), "INPUT.MAX_SIZE_TEST", str(size),
        "INPUT.SQUARE_PAD", str(size), "SOLVER.MAX_ITER", str(plan.steps),
        "SOLVER.WARMUP_ITERS", str(max(1, plan.steps // 10)), "SOLVER.IMS_PER_BATCH",
        str(plan.batch), "DATALOADER.FILTER_EMPTY_ANNOTATIONS", "True", *plan.keys,
    ]  # fmt: skip


def keys_of_row(ranking: Ranking, candidate: RankedBackbone, seed: int) -> list[str]:
    """KEY VALUE words of one training; once its cost is measured, with what that found."""
    image_size = ranking.read_row(candidate, COST).get("image_size", 0)
    square = ["MODEL.NET.IMAGE_SIZE", str(image_size)] if image_size else []
    return [
        *keys_of_plan(ranking.plan), "MODEL.WEIGHTS", ranking.weights(candidate),
        "ENGINE.TRUNK_CACHE", str(ranking.features(candidate)), "SEED", str(seed), *square,
    ]  # fmt: skip
