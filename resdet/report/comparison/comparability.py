"""Are these runs comparable: do they differ in more than the backbone?

The resolved configs are compared key by key (`config_differences`); one difference in its bin
"other" is enough: NOT COMPARABLE. Runs under two recipes are so, too, unless the comparison is
asked to cross them (`recipe_differences`): then backbone and recipe differ: ACROSS RECIPES. Where
one run starts from a whole detector and another from a backbone alone, from nothing, or from
another detector around the same net, that differs, and the stamp says so: ACROSS STARTS.

What a config does not show is compared too: class lists, ground truth, evaluated images, the VOC
rule, training data, samples seen, seeds per backbone. Environment (versions, device) is named.

Not for: repairing a comparison; a report that is not comparable is written and stamped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from resdet.evaluation.published.departures import value_text
from resdet.printable import counted, listed
from resdet.report.comparison.config_differences import (
    CARD_KEYS,
    FREEZE_AT,
    ConfigDifference,
    config_differences,
)
from resdet.report.comparison.per_run import differ, per_run
from resdet.report.comparison.recipe_differences import (
    OPTION,
    RECIPE,
    are_stated,
    following_keys,
    names_of,
    with_recipes,
)
from resdet.report.comparison.start_differences import START, starts, whole_start, with_starts
from resdet.report.runs import Column, by_group
from resdet.report.scores import SetScores, blacklisted_pairs

COMPARABLE = "COMPARABLE"
NOT_COMPARABLE = "NOT COMPARABLE"
RESULTS_ONLY = "RESULTS ONLY"
ACROSS = "ACROSS {}"
NAME = "MODEL.NET.NAME"
# Of one net these change how a detector uses or trains it; which of two nets has which is its own.
_OF_ONE_NET = ("MODEL.NET.DROPOUT", "MODEL.NET.POOLED_SIZE", "MODEL.NET.RES5_DILATION")
_FEW = 5


@dataclass(frozen=True)
class Comparability:
    """Whether the runs are comparable, and why.

    Attributes:
        differences: all config keys that differ, sorted by key.
        reasons: why the runs are not comparable; empty where they are.
        cautions: what a reader must know before using a gain.
        notes: environment and other harmless differences.
        results_only: nothing but the results is known, so that no cause can be proven.
        across_recipes: the recipes differ, and the comparison was asked for all the same.
        starts: what each training started from, where that differs in more than the backbone; "".
        several_nets: the runs are of more than one.
    """

    differences: tuple[ConfigDifference, ...] = ()
    reasons: tuple[str, ...] = ()
    cautions: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    results_only: bool = False
    across_recipes: bool = False
    starts: str = ""
    several_nets: bool = False

    @property
    def across_starts(self) -> bool:
        return bool(self.starts)

    @property
    def comparable(self) -> bool:
        return not self.reasons

    @property
    def stamp(self) -> str:
        if not self.comparable:
            return NOT_COMPARABLE
        crossed = ["RECIPES"] * self.across_recipes + ["STARTS"] * self.across_starts
        if crossed:
            return ACROSS.format(" AND ".join(crossed))
        return RESULTS_ONLY if self.results_only else COMPARABLE

    @property
    def sentence(self) -> str:
        """What the stamp means."""
        if not self.comparable:
            return "These runs differ in more than the backbone:"
        if self.results_only:
            return (
                "Same images, same ground truth, same measure. How these detectors were made is "
                "not known, so the report states no cause of their difference."
            )
        if self.across_starts:
            what = "The backbone and what" if self.several_nets else "What"
            more = " So does the recipe." if self.across_recipes else ""
            return (
                f"{what} training starts from differ{'' if self.several_nets else 's'}: "
                f"{self.starts}.{more} From there on the same detector, data, number of images and "
                "measure."
            )
        if self.across_recipes:
            return (
                "The backbone and its recipe differ: same detector, same data, same number of "
                "images, same measure. A gap is that of both together."
            )
        return "Only the backbone differs: same detector, same data, same schedule, same measure."

    def of_kind(self, kind: str) -> tuple[ConfigDifference, ...]:
        return tuple(d for d in self.differences if d.kind == kind)


@dataclass
class _Findings:
    reasons: list[str] = field(default_factory=list)
    cautions: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def judge(
    columns: Sequence[Column],
    sets: Mapping[str, Sequence[SetScores]],
    *,
    across_recipes: bool = False,
    backbones: Sequence[Sequence[int]] | None = None,
) -> Comparability:
    """The verdict over all runs and the data sets that all of them were evaluated on.

    Args:
        columns: the runs.
        sets: data set to the scores of each run, in the order of `columns`.
        across_recipes: runs under other recipes are compared, too, and stamped as such.
        backbones: places of the runs of each, where the caller knows; else runs of one net, card
            and start are seeds of one backbone.
    """
    if any(c.foreign for c in columns):
        return _judge_results(columns, sets)
    found = config_differences(
        [c.config for c in columns], [c.card for c in columns], [c.loaded for c in columns]
    )
    differences = with_starts(columns, with_recipes(columns, found))
    findings = _Findings()
    for difference in differences:
        if difference.kind == "other":
            findings.reasons.append(f"{difference.key} is {per_run(columns, difference.values)}")
    crosses = _check_recipes(columns, differences, findings, across=across_recipes)
    _check_training(columns, findings)
    _check_runs_per_backbone(columns, findings, backbones)
    for scores in sets.values():
        _check_set(columns, scores, findings)
    _check_nets(columns, differences, findings)
    _check_twins(columns, differences, findings)
    _check_environment(columns, findings)
    return Comparability(
        tuple(differences),
        tuple(findings.reasons),
        tuple(findings.cautions),
        tuple(findings.notes),
        across_recipes=crosses and across_recipes,
        starts=starts(columns),
        several_nets=differ([c.net for c in columns]),
    )


def _judge_results(
    columns: Sequence[Column], sets: Mapping[str, Sequence[SetScores]]
) -> Comparability:
    """Of results without a run only this can be known: whether they are of the same test."""
    findings = _Findings()
    for scores in sets.values():
        _check_set(columns, scores, findings)
    for text, letters in _by_text(
        [(text, c) for c in columns for text in c.run.info.get("cautions") or []]
    ):
        findings.cautions.append(f"{listed(letters)}: {text}")
    return Comparability(
        reasons=tuple(findings.reasons), cautions=tuple(findings.cautions), results_only=True
    )


def _check_training(columns: Sequence[Column], findings: _Findings) -> None:
    seen = [c.samples_seen for c in columns]
    if differ(seen):
        texts = [
            "not known" if n is None else f"{n:,}{_ended_by(c)}"
            for n, c in zip(seen, columns, strict=True)
        ]
        findings.reasons.append(f"training samples seen: {per_run(columns, texts)}")
    hashes = [_training_hash(c) for c in columns]
    if differ([h for h in hashes if h]):
        texts = [_short(h) for h in hashes]
        findings.reasons.append(f"the training data differ (hash {per_run(columns, texts)})")
    elif None in hashes:
        unknown = [c.letter for c, h in zip(columns, hashes, strict=True) if h is None]
        findings.cautions.append(f"Training data not known by hash for {listed(unknown)}.")
    chosen = [_model_of_training(c) for c in columns]
    if differ(chosen):
        findings.reasons.append(f"model of the training: {per_run(columns, chosen)}")
    if differ(further := [_further_detectors(c) for c in columns]):
        texts = [", ".join(w[:12] for w in weights) or "none" for weights in further]
        findings.reasons.append(
            f"further detectors of the ensemble (hash of weights): {per_run(columns, texts)}"
        )
    for column in columns:
        if best := column.run.info.get("best_of"):
            findings.cautions.append(
                f"{column.letter} is the model after {best['step']:,} steps, chosen by "
                f"{best['metric']}: a number of that set is too good by an unknown amount."
            )
        if column.run.state != "finished":
            findings.cautions.append(
                f"{column.letter} is not finished: its run is {column.run.state}."
            )


def _check_runs_per_backbone(
    columns: Sequence[Column],
    findings: _Findings,
    backbones: Sequence[Sequence[int]] | None,
) -> None:
    """Where one has more seeds than another, a gap is of means of unlike trust."""
    if backbones is None:
        groups = by_group(columns)
        texts = [f"{len(p)} of {group.net} {group.start}" for group, p in groups.items()]
        backbones = list(groups.values())
    else:
        letters = [listed([columns[p].letter for p in places]) for places in backbones]
        texts = [f"{len(p)} ({names})" for p, names in zip(backbones, letters, strict=True)]
    if differ([len(places) for places in backbones]):
        findings.reasons.append(
            f"runs per backbone differ: {', '.join(texts)}; leave some out, or train as many of "
            "each"
        )


def _ended_by(column: Column) -> str:
    key = column.run.info.get("ended_by")
    return f" (ended by {key})" if key else ""


def _model_of_training(column: Column) -> str:
    best = column.run.info.get("best_of")
    return f"the best by {best['metric']}" if best else "the last"


def _further_detectors(column: Column) -> tuple[str, ...]:
    """The weights of an ensemble's members beside the run's own: TEST.ENSEMBLE has but paths."""
    return tuple(str(m["weights"]) for m in (column.run.info.get("ensemble") or [])[1:])


def _training_hash(column: Column) -> str | None:
    """The hashes of all training sets in one; None where one of them is not known."""
    hashes = [s.get("hash") for s in column.run.info.get("train_sets") or []]
    return "+".join(hashes) if hashes and all(hashes) else None


def _check_set(columns: Sequence[Column], scores: Sequence[SetScores], findings: _Findings) -> None:
    name = scores[0].data_set
    if differ([s.classes for s in scores]):
        texts = [f"{len(s.classes)} classes ({_names(s.classes)})" for s in scores]
        findings.reasons.append(f"{name}: the class lists differ: {per_run(columns, texts)}")
    if differ([s.truth_hash for s in scores]):
        texts = [_short(s.truth_hash) for s in scores]
        findings.reasons.append(
            f"{name}: the ground truth differs (hash {per_run(columns, texts)})"
        )
    left_out = [len(blacklisted_pairs(s.truth)) for s in scores]
    if differ(left_out):
        texts = [counted(n, "pair") for n in left_out]
        findings.reasons.append(
            f"{name}: the development kit's blacklist differs (image and class not scored: "
            f"{per_run(columns, texts)}); test one again with the same kit: resdet train_det "
            "--output RUN --eval-only"
        )
    if differ([frozenset(s.evaluated) for s in scores]):
        texts = [counted(len(s.evaluated), "image") for s in scores]
        others = set().union(*(s.evaluated for s in scores))
        common = set(scores[0].evaluated).intersection(*(s.evaluated for s in scores))
        odd = sorted(others - common, key=str)  # 1 in one run, "1" in another
        findings.reasons.append(
            f"{name}: the evaluated images differ: {per_run(columns, texts)}; "
            f"not in all runs, first: {_names([str(i) for i in odd])}"
        )
    if differ([s.primary for s in scores]):
        texts = [str(s.primary) for s in scores]
        findings.reasons.append(f"{name}: the AP rule differs: {per_run(columns, texts)}")
    for column, s in zip(columns, scores, strict=True):
        if missing := len(set(s.expected) - set(s.evaluated)):
            findings.cautions.append(
                f"{name}: {column.letter} covers {len(s.evaluated):,} of {len(s.expected):,} "
                f"images; {missing:,} are missing."
            )


def _check_recipes(
    columns: Sequence[Column],
    differences: Sequence[ConfigDifference],
    findings: _Findings,
    *,
    across: bool,
) -> bool:
    """Whether the recipes differ; then a reason against comparing, or, asked across, a caution."""
    named = per_run(columns, [c.recipe.words for c in columns])
    keys = [d for d in differences if d.kind == RECIPE]
    if not keys:
        findings.notes.append(f"Recipe: {named}.")
        return False
    if across:
        findings.cautions.append(
            f"The recipe is {named}: a gap is that of backbone and recipe together."
        )
        return True
    asked = f"{OPTION} compares backbone and recipe together"
    if are_stated(columns):
        listed = _names(names_of(keys))
        findings.reasons.append(f"the recipe is {named} ({listed}); {asked}")
    else:
        findings.reasons += [f"{d.key} is {per_run(columns, d.values)}" for d in keys]
        findings.cautions.append(f"What trained each net, and how: {named}. {asked}.")
    return True


def _check_twins(
    columns: Sequence[Column], differences: Sequence[ConfigDifference], findings: _Findings
) -> None:
    """From scratch there is no card to take the preprocessing from: what to type instead."""
    scratch = [c.letter for c in columns if not c.pretrained]
    others = [c for c in columns if c.pretrained]
    keys = [d.key for d in differences if d.kind == "other" and d.key in CARD_KEYS]
    if keys and scratch and others:
        stated = " ".join(f'{key} "{value_text(others[0].config.get(key))}"' for key in keys)
        findings.cautions.append(
            f"No card gives {listed(scratch)} its preprocessing; a twin from scratch is trained "
            f"with that of the others: {stated}."
        )


def _check_nets(
    columns: Sequence[Column], differences: Sequence[ConfigDifference], findings: _Findings
) -> None:
    """Differences within "backbone": start, other pretraining, how the net is used, leaks."""
    started, scratch = ({c.net for c in columns if c.pretrained is p} for p in (True, False))
    if len(started) == 1 and scratch and not started & scratch:
        findings.cautions.append(
            "The nets differ and only one of them was pretrained: the gain mixes two causes."
        )
    pretrained = [c for c in columns if c.pretrained]
    if differ(new := [c.config.get("TRANSFER.NEW") for c in pretrained]):
        findings.cautions.append(
            f"TRANSFER.NEW is {per_run(pretrained, new)}: not as much of each net was pretrained."
        )
    for text, letters in _by_text([(whole_start(c), c) for c in columns]):
        findings.cautions.append(f"{listed(letters)} started from a whole detector{text}")
    hashes = [(c.card.get("data") or {}).get("hash") for c in pretrained]
    if differ([h for h in hashes if h]):
        texts = [str((c.card.get("data") or {}).get("name", "not known")) for c in pretrained]
        findings.cautions.append(
            f"The classifiers were trained on different data: {per_run(pretrained, texts)}."
        )
    follows = following_keys(columns)
    for difference in differences:
        if difference.kind in ("other", RECIPE, START) or difference.key in follows:
            continue
        if difference.key in ("MODEL.NET.NORM", FREEZE_AT) or (
            difference.key in _OF_ONE_NET and not differ([c.config.get(NAME) for c in columns])
        ):
            findings.cautions.append(
                f"{difference.key} is {per_run(columns, difference.values)}: "
                "part of the gain may come from it."
            )
    for text, letters in _by_text([(str(c.run.info.get("leak") or ""), c) for c in columns]):
        findings.cautions.append(f"{text[0].upper()}{text[1:]} ({listed(letters)}).")
    if changed := [c.letter for c in columns if c.run.info.get("data_changes")]:
        findings.cautions.append(
            f"The training data of {listed(changed)} changed on the way "
            "(ENGINE.ALLOW_CHANGED_DATA)."
        )


def _by_text(cautions: Sequence[tuple[str, Column]]) -> list[tuple[str, list[str]]]:
    """Each text that is not empty, with the letters of the runs that have it."""
    texts = dict.fromkeys(text for text, _ in cautions if text)
    return [(text, [c.letter for other, c in cautions if other == text]) for text in texts]


def _check_environment(columns: Sequence[Column], findings: _Findings) -> None:
    if differ(seeds := [c.seed for c in columns]):
        findings.notes.append(f"Seeds differ: {per_run(columns, seeds)}.")
    versions = [c.run.info.get("versions") or {} for c in columns]
    for name in sorted(set().union(*versions)):
        values = [str(v.get(name, "not known")) for v in versions]
        if differ(values):
            findings.notes.append(f"{name} differs: {per_run(columns, values)}.")
    for key, title in (("device", "Device"), ("threads", "Threads"), ("host", "Host")):
        values = [str(c.run.info.get(key, "not known")) for c in columns]
        if differ(values):
            findings.notes.append(f"{title} differs: {per_run(columns, values)}.")


def _names(names: Sequence[str]) -> str:
    return ", ".join(names[:_FEW]) + (", …" if len(names) > _FEW else "")


def _short(text: str | None) -> str:
    return "not known" if text is None else text[:12]
