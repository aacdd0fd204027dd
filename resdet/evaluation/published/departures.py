"""Where a config departs from the protocol of a published number, key by key, with the source.

Not for: data, weights or the state of a run (`report.comparison.published_numbers`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from resdet.evaluation.published import published_protocols as protocols

NOT_KNOWN = "not known"
# Of the length, that a drop of the rate may lie off: steps of published schedules are round.
_DROP_SLACK = 0.01


@dataclass(frozen=True)
class Departure:
    """One thing that was otherwise in the paper.

    Attributes:
        what: in words. paper, run: both values. source: who states the paper's. key: of the
            resolved config, "" where it is none.
        decides: it makes the run another experiment.
    """

    what: str
    paper: str
    run: str
    source: str
    key: str = ""
    decides: bool = False

    def __str__(self) -> str:
        key = f"{self.key}: " if self.key else ""
        return f"{self.what} ({key}{self.run}; paper: {self.paper}, {self.source})"


def nearest_experiment(
    test: Collection[str], train: Collection[str], config: Mapping[str, Any], net: str
) -> protocols.PublishedExperiment | None:
    """What a training on these sets is held against; None where the papers have nothing like it.

    Of the experiments on one of the test sets, else of those on another part of the same benchmark
    (voc, coco: the first word of a set's name), the one with the most training sets in common; of
    several such (table 9's rows) the one from whose settings the config departs least.
    """
    benchmarks = {name.partition("_")[0] for name in (*test, *train)}
    every = protocols.experiments()
    found = [e for e in every if e.test in test] or [
        e for e in every if e.test.partition("_")[0] in benchmarks
    ]
    trained = set(train)
    return min(
        found,
        key=lambda e: (
            len(trained ^ set(e.numbers[0].train)),
            len(list(of_settings(config, e, net))),
        ),
        default=None,
    )


def of_schedule(
    config: Mapping[str, Any],
    experiment: protocols.PublishedExperiment,
    samples_seen: int | None = None,
) -> Iterator[Departure]:
    """Rate, batch, length and drops. Rates are compared for an image, by the linear rule.

    Args:
        samples_seen: images that the training has seen; None: as many as the config states.
    """
    # Of four steps those of Fast R-CNN; the RPN's are among the settings.
    in_steps = config.get("SOLVER.SCHEME") == "alternating"
    paper = experiment.alternating if in_steps else experiment.schedule
    rate, batch, steps = (
        config.get(f"SOLVER.{name}") for name in ("BASE_LR", "IMS_PER_BATCH", "MAX_ITER")
    )
    if not rate or not batch or not steps:
        yield Departure("schedule", f"{paper.rate:g} for {paper.batch} images", NOT_KNOWN,
                        paper.source, "SOLVER", decides=True)  # fmt: skip
        return
    stated = f"{paper.rate:g} for {paper.batch} images"
    factor = (rate / batch) / (paper.rate / paper.batch)
    if abs(factor - 1) > 1e-9:
        yield Departure("rate", stated, f"{rate:g} for {batch} images", paper.source,
                        "SOLVER.BASE_LR", decides=beyond(factor, paper.rate_within))  # fmt: skip
    elif batch != paper.batch:
        run = f"{batch}, the rate {rate:g} following by the linear rule"
        yield Departure("batch", f"{paper.batch} at {paper.rate:g}", run, paper.source,
                        "SOLVER.IMS_PER_BATCH")  # fmt: skip
    known = samples_seen if not in_steps else None
    seen = known if known is not None else steps * batch
    if seen != paper.images_seen:
        length = paper.images_seen / paper.batch
        yield Departure("length", f"{length:,.0f} steps of {paper.batch}",
                        f"{seen / batch:,.0f} steps of {batch}", paper.source, "SOLVER.MAX_ITER",
                        decides=beyond(seen / paper.images_seen, paper.within))  # fmt: skip
    if config.get("SOLVER.LR_SCHEDULER_NAME") not in (None, "WarmupMultiStepLR"):
        return  # a setting of its own
    drops = [step / steps for step in config.get("SOLVER.STEPS") or ()]
    if len(drops) != len(paper.drops) or any(
        abs(a - b) > _DROP_SLACK for a, b in zip(drops, paper.drops, strict=False)
    ):
        yield Departure("drops of the rate", _shares(paper.drops), _shares(drops), paper.source,
                        "SOLVER.STEPS")  # fmt: skip


# Whose weights of the paper's nets were trained by another recipe than the paper's.
OTHERS_WEIGHTS = {"torchvision": "torchvision's", "timm": "timm's"}


def of_weights(address: str) -> list[Departure]:
    """Where a detector starts from public weights of another recipe; of a path nothing is known."""
    whose = OTHERS_WEIGHTS.get(address.partition(":")[0])
    if not whose:
        return []
    return [Departure("recipe of the pretraining", "the paper's", whose, "He appendix A",
                      "MODEL.WEIGHTS", decides=True)]  # fmt: skip


def _shares(drops: Sequence[float]) -> str:
    if drops and min(drops) >= 1:
        return "none before the end"
    return f"at {' and '.join(f'{d:.0%}' for d in drops)} of the length" if drops else "none"


def beyond(factor: float, limit: float) -> bool:
    # A factor of exactly the limit is listed; float error must not decide.
    return not 1 / limit * (1 - 1e-9) <= factor <= limit * (1 + 1e-9)


def of_settings(
    config: Mapping[str, Any], experiment: protocols.PublishedExperiment, net: str
) -> Iterator[Departure]:
    """Each key on which the number depends. One that is missing from a config is not known."""
    for key, setting in experiment.settings.items():
        unread = setting.unless.items()
        if unread and all(any(_equal(config.get(k), v) for v in vs) for k, vs in unread):
            continue
        values = setting.of(net)
        if not values or (key in config and any(_equal(config[key], v) for v in values)):
            continue
        run = value_text(config[key]) if key in config else NOT_KNOWN
        yield Departure(setting.what, value_text(values[0]), run, setting.source, key,
                        decides=setting.decides)  # fmt: skip


def _equal(a: Any, b: Any) -> bool:
    """As a config has it: lists and tuples alike, 1 and 1.0 alike, true and 1 not."""
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(_equal(x, y) for x, y in zip(a, b, strict=True))
    return isinstance(a, bool) == isinstance(b, bool) and bool(a == b)


def value_text(value: Any) -> str:
    """A config value as it would be typed."""
    if isinstance(value, list | tuple):
        return "[" + ", ".join(value_text(v) for v in value) + "]"
    if isinstance(value, str):
        return value if value else '""'
    return repr(value)
