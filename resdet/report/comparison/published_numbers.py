"""The paper's number beside ours where the run had its protocol, with all that is not the same.

A run is held against the experiment that gave the number (`resdet.evaluation.published`): data,
images tested on, rule, net, pretraining, schedule, and each key on which the number depends.
Three outcomes: `SAME`; `BUT_FOR`, with each departure listed beside the number; `OTHER`: something
differs that makes it another experiment, and no number is shown, so that none is mistaken for a
target. What is so in every run of resdet (`of_every_run`) is named below each number.

Not for: judging whether ours is good.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from resdet.evaluation.published import published_protocols as protocols
from resdet.evaluation.published import published_tables as published
from resdet.evaluation.published.departures import (
    NOT_KNOWN,
    Departure,
    beyond,
    of_schedule,
    of_settings,
    of_weights,
)
from resdet.report.runs import Column
from resdet.report.scores import SetScores

SAME = "same protocol"
BUT_FOR = "same protocol but for"
OTHER = "not the same experiment"


@dataclass(frozen=True)
class ProtocolMatch:
    """A published number that is of the run's net and test set, and what the run did otherwise.

    Attributes:
        metric: "mean_ap" of the primary VOC rule, "AP", "AP50".
        value: a fraction in [0, 1], to be shown only where `shown`. per_class: by class name.
    """

    metric: str
    value: float
    source: str
    paper: str
    departures: tuple[Departure, ...] = ()
    per_class: Mapping[str, float] = field(default_factory=dict)
    per_class_source: str = ""

    @property
    def outcome(self) -> str:
        if any(d.decides for d in self.departures):
            return OTHER
        return BUT_FOR if self.departures else SAME

    @property
    def shown(self) -> bool:
        return self.outcome != OTHER

    @property
    def listed(self) -> tuple[Departure, ...]:
        """What decides, where anything does; else every departure."""
        deciding = tuple(d for d in self.departures if d.decides)
        return deciding or self.departures


def numbers_for(column: Column, scores: SetScores) -> dict[str, ProtocolMatch]:
    """The matches whose number may stand beside the run's, by metric; usually none."""
    return {key: match for key, match in matches_for(column, scores).items() if match.shown}


def matches_for(column: Column, scores: SetScores) -> dict[str, ProtocolMatch]:
    """Metric to the published number of the run's net on this set, with all departures.

    Empty where the papers have none of this net on this set.
    """
    net = str(column.config.get("MODEL.NET.NAME") or "")
    candidates = [
        e
        for e in protocols.experiments()
        if e.test == scores.data_set and any(n.net == net for n in e.numbers)
    ]
    if not candidates:
        return {}
    trained = set(column.config.get("DATASETS.TRAIN") or ())
    # Of the experiments on these data that with the run's improvements of table 9, if any.
    experiment = min(
        candidates,
        key=lambda e: (
            len(trained ^ set(e.numbers[0].train)),
            sum(d.decides for d in of_settings(column.config, e, net)),
        ),
    )
    shared = [*_of_data(column, scores, experiment), *_of_start(column, experiment, net)]
    shared += of_schedule(column.config, experiment, column.samples_seen)
    shared += of_settings(column.config, experiment, net)
    matches = {}
    for metric, rule in experiment.metrics.items():
        number = experiment.number(net, metric)
        if number is None:
            continue
        used = scores.primary if metric == "mean_ap" else "COCO bbox" if scores.coco else None
        counted = [Departure("AP rule", rule, str(used), number.source, decides=True)]
        classes = [n for n in experiment.per_class if (n.net, n.value) == (net, number.value)]
        matches[metric] = ProtocolMatch(
            metric,
            number.fraction,
            number.source,
            number.paper,
            tuple(([] if used == rule else counted) + shared),
            {name: v / 100 for name, v in classes[0].per_class.items()} if classes else {},
            classes[0].source if classes else "",
        )
    return matches


def _of_data(
    column: Column, scores: SetScores, experiment: protocols.PublishedExperiment
) -> Iterator[Departure]:
    """What was trained and tested on."""
    number, config = experiment.numbers[0], column.config

    def other(what: str, paper: str, run: str, key: str = "") -> Departure:
        return Departure(what, paper, run, number.source, key, decides=True)

    trained = [str(name) for name in config.get("DATASETS.TRAIN") or ()]
    if sorted(trained) != sorted(number.train):
        yield other("training sets", " + ".join(number.train), " + ".join(trained) or "none",
                    "DATASETS.TRAIN")  # fmt: skip
    else:
        known = [s.get("images") for s in column.run.info.get("train_sets") or []]
        if known and None not in known and sum(known) != experiment.train_images:
            yield other("training images", f"{experiment.train_images:,}", f"{sum(known):,}")
    evaluated, expected = len(set(scores.evaluated)), len(set(scores.expected))
    if not evaluated == expected == experiment.images:
        yield other("test images", f"{experiment.images:,}", f"{evaluated:,} of {expected:,}")
    if len(scores.classes) != experiment.num_classes:
        yield other("classes", str(experiment.num_classes), str(len(scores.classes)))
    elif experiment.num_classes == 20 and set(scores.classes) != set(published.voc_classes()):
        yield other("names of classes", "VOC's", "others")
    if column.run.info.get("data_changes"):
        yield other("training data", "the same throughout", "changed on the way",
                    "ENGINE.ALLOW_CHANGED_DATA")  # fmt: skip
    if column.run.info.get("leak"):
        yield other("test images", "not trained on", "trained on")
    if best := column.run.info.get("best_of"):
        yield other("model", "the last of the training", f"the best by {best['metric']}")
    if column.run.state != "finished":
        yield other("training", "finished", column.run.state)


def _of_start(
    column: Column, experiment: protocols.PublishedExperiment, net: str
) -> Iterator[Departure]:
    """What the net was pretrained on, and for how long."""
    classifier, source = experiment.pretraining, experiment.pretraining.source
    if not column.pretrained:
        yield Departure("start", "pretrained on ImageNet", "random weights", "He appendix A",
                        "MODEL.WEIGHTS", decides=True)  # fmt: skip
        return
    if column.from_detector:
        yield Departure("start", "a classifier", "a whole detector", "He appendix A",
                        "MODEL.WEIGHTS", decides=True)  # fmt: skip
    noted = (column.run.info.get("weights_source") or {}).get("address")
    yield from of_weights(str(noted or column.config.get("MODEL.WEIGHTS")))
    data = column.card.get("data") or {}
    name, images = data.get("name"), data.get("images")
    paper = f"ImageNet, {classifier.images:,} images"
    if images is None and name is None:
        yield Departure("pretraining data", paper, NOT_KNOWN, "He appendix A")
    elif (images != classifier.images) if images is not None else name not in classifier.names:
        run = f"{name or NOT_KNOWN}, {NOT_KNOWN if images is None else f'{images:,}'} images"
        yield Departure("pretraining data", paper, run, "He appendix A", decides=True)
    seen, expected = (column.card.get("training") or {}).get("samples"), classifier.samples.get(net)
    if seen and expected and seen != expected:
        yield Departure("pretraining images seen", f"{expected:,}", f"{seen:,}", source,
                        decides=beyond(seen / expected, classifier.within))  # fmt: skip
