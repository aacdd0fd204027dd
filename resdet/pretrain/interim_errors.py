"""The errors of a classifier while it trains, in between: for its curve, the best one, a plateau.

Not for: how a set is scored (`set_scores`), or what follows from the errors (`resdet.engine`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from resdet.data.records import ClassificationSet, part_of
from resdet.engine.parallel import average_buffers
from resdet.pretrain.set_scores import score_sets

SCALARS = ("top1_error", "top5_error")


class InterimErrors:
    """Of what a training scores and keeps (its net, or the average) on its test sets.

    Args:
        training: a `trainer.Pretraining`, with everything but its loop.
    """

    def __init__(self, training: Any):
        self._training = training
        # The step of the last scores, and these by set.
        self._last: tuple[int, dict[str, Any]] = (-1, {})

    @property
    def latest(self) -> dict[str, Any]:
        """The last scores of whole test sets, by set."""
        sets = self._training.test_sets
        return {name: known for name, known in self._last[1].items() if name in sets}

    def keep(self, step: int, scores: dict[str, Any]) -> None:
        """Scores that were made elsewhere, after so many steps."""
        self._last = (step, scores)

    def scalars(self) -> dict[str, float]:
        """Of every test set, or of TEST.EVAL_IMAGES of each (`part_of`)."""
        images = self._training.cfg.TEST.EVAL_IMAGES
        sets = self._training.test_sets.values()
        return scalars_of(self._scores(part_of(data, images) for data in sets))

    def of_val(self) -> float:
        """Of the whole of PRETRAIN.VAL, as TEST.EVAL_IMAGES may change on a resume."""
        training = self._training
        data = training.test_sets[training.cfg.PRETRAIN.VAL]
        scalars = scalars_of(self._scores([data]))
        training.loop.storage.put_scalars(**scalars, smoothing_hint=False)
        return scalars[f"{data.name}/top1_error"]

    def _scores(self, sets: Iterable[ClassificationSet]) -> dict[str, Any]:
        """By set; a second call in one step does not score again."""
        training = self._training
        step, known = self._last
        now = training.loop.storage.iter
        known = known if step == now else {}
        chosen = {data.name: data for data in sets}
        missing = {name: data for name, data in chosen.items() if name not in known}
        average_buffers(training.scored)
        scores = score_sets(
            training.cfg, training.scored, training.prepare, missing, training.mean_image
        )
        self._last = (now, {**known, **scores})
        return {name: self._last[1][name] for name in chosen}


def scalars_of(scores: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """By SET/NAME, as a curve has them."""
    return {f"{name}/{key}": values[key] for name, values in scores.items() for key in SCALARS}
