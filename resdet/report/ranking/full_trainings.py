"""Full trainings of the backbones of a ranking: the AP that stands beside the quick verdict.

Not for: training them (`resdet.cli.rank.finalists`), or how far both agree (`leaderboard`).
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from resdet.errors import ConfigError, ResdetError, RunError
from resdet.report.runs import Column, net_title, read_columns
from resdet.report.scores import Metric, SetScores, read_scores
from resdet.run import layout

logger = logging.getLogger("resdet.report")


def labelled(labels: Sequence[str], word: str) -> tuple[str, Path]:
    """The label and the run folder of LABEL=RUN; a label may have an equals sign, as a file may.

    Raises:
        ConfigError: it names no row, or no run folder.
    """
    fitting = [label for label in labels if word.startswith(f"{label}=")]
    if not fitting:
        raise ConfigError(
            f"--full {word}: expected LABEL=RUN with a label of the ranking ({', '.join(labels)})."
        )
    label = max(fitting, key=len)
    run = Path(word.removeprefix(f"{label}="))
    if not (run / layout.RUN).exists():
        raise ConfigError(f"--full {word}: {run} is no run folder: it has no {layout.RUN}.")
    return label, run


def full_trainings(
    facts: Mapping[str, Mapping[str, Any]],
    words: Sequence[str],
    quick: SetScores,
    remembered: Collection[str] = (),
) -> tuple[dict[str, tuple[float, ...]], Metric | None]:
    """AP of the full trainings of each label, and which: the ranking's, or where one of them has
    none, as on a whole set of VOC, their own.

    Args:
        facts: of each label what is known of its backbone: "net", "sha256".
        words: LABEL=RUN.
        quick: of a row of the ranking.
        remembered: words that an earlier call named; one that cannot be read any more is left out,
            and told.

    Raises:
        ConfigError: a word that names no row. RunError, DataError, CheckFailed: another net, no
            results, those of several sets, of other classes, or by other rules than the others'.
    """
    read: list[tuple[str, str, SetScores]] = []
    for word in words:
        try:
            label, run = labelled(list(facts), word)
            (column,) = read_columns([run], fewest=1)
            _refuse_other_net(word, column, facts[label])
            read.append((word, label, _full_scores(word, column, quick)))
        except ResdetError as error:
            if word not in remembered:
                raise
            logger.warning("left out, as it cannot be read any more: %s", error)
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


def _refuse_other_net(word: str, column: Column, facts: Mapping[str, Any]) -> None:
    """Another net's number is refused; one of other weights of the net counts, and is told."""
    net = column.config.get("MODEL.NET.NAME")
    expected = facts.get("net")
    if net and expected and net != expected:
        raise RunError(
            f"--full {word}: its backbone is a {net_title(str(net))}, and the row's a "
            f"{net_title(str(expected))}. Name a training of the row's backbone."
        )
    known = str(facts.get("sha256") or "")
    if known and column.loaded and column.loaded != known:
        logger.warning(
            "--full %s: it started from other weights (hash %s) than the row (%s)",
            word, column.loaded[:12], known[:12],
        )  # fmt: skip


def _full_scores(word: str, column: Column, quick: SetScores) -> SetScores:
    path = column.run.path
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
