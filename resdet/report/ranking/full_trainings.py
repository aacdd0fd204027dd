"""Full trainings of the backbones of a ranking: the AP that stands beside the quick verdict.

Not for: training them (`resdet.cli.rank.finalists`), or how far both agree (`leaderboard`).
"""

from __future__ import annotations

from collections.abc import Sequence

from resdet.errors import ConfigError, RunError
from resdet.report.runs import read_columns
from resdet.report.scores import Metric, SetScores, read_scores


def full_trainings(
    labels: Sequence[str], words: Sequence[str], quick: SetScores
) -> tuple[dict[str, tuple[float, ...]], Metric | None]:
    """AP of the full trainings of each label, and which: the ranking's, or where one of them has
    none, as on a whole set of VOC, their own.

    Args:
        words: LABEL=RUN.
        quick: of a row of the ranking.

    Raises:
        ConfigError: a word that names no row. RunError, DataError, CheckFailed: no results, those
            of several sets, of other classes, or by other rules than the others'.
    """
    read: list[tuple[str, str, SetScores]] = []
    for word in words:
        # A label may have an equals sign, as a file may.
        fitting = [label for label in labels if word.startswith(f"{label}=")]
        if not fitting:
            raise ConfigError(
                f"--full {word}: expected LABEL=RUN with a label of the ranking "
                f"({', '.join(labels)})."
            )
        label = max(fitting, key=len)
        read.append((word, label, _full_scores(word, word.removeprefix(f"{label}="), quick)))
    metric = quick.gain_metric
    if any(scores.value(metric) is None for _, _, scores in read):
        metric = read[0][2].gain_metric
    found: dict[str, tuple[float, ...]] = {}
    for word, label, scores in read:
        value = scores.value(metric)
        if value is None:
            raise RunError(
                f"--full {word}: it has no {metric.title}, by which {read[0][0]} counts."
            )
        found[label] = (*found.get(label, ()), value)
    return found, metric if read else None


def _full_scores(word: str, path: str, quick: SetScores) -> SetScores:
    (column,) = read_columns([path], fewest=1)
    sets = column.run.result_sets()
    if quick.data_set in sets:
        sets = [quick.data_set]
    if len(sets) != 1:
        raise RunError(
            f"--full {word}: {path} has results of {len(sets)} sets ({', '.join(sets) or '–'}), "
            f"expected those of one, or of {quick.data_set} among them."
        )
    scores = read_scores(column, sets[0])
    if odd := sorted(set(scores.classes) ^ set(quick.classes)):
        raise RunError(
            f"--full {word}: {sets[0]} has other classes than {quick.data_set}; not in both: "
            f"{', '.join(odd[:5])}{', …' if len(odd) > 5 else ''}. Name a training on the data of "
            "the ranking."
        )
    return scores
