"""The table of protocols: each published number, each key and each schedule has its place there."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from resdet.evaluation.published import published_protocols as protocols
from resdet.evaluation.published.published_tables import all_published, published
from tests.report.test_published_protocol import EXPERIMENTS, VOC0712, config_of


def test_every_published_detection_number_has_a_protocol_or_a_reason() -> None:
    """Of the nets that we have: 15 stand in an experiment, the others never beside a run."""
    assert protocols.unanswered() == []
    shown = [n for e in EXPERIMENTS.values() for n in e.numbers]
    assert len(shown) == 15
    assert not [n for n in shown if protocols.never_beside(n)]
    detection = [n for n in all_published() if n.net and n.metric in ("VOC 11-point", "VOC area")]
    assert len(detection) > len(shown)


def test_every_key_of_a_protocol_is_a_key_of_the_config() -> None:
    """A key that does not exist would be "not known" in every run."""
    pytest.importorskip("detectron2")
    from resdet.config import flatten, get_cfg

    known = dict(flatten(get_cfg()))
    for experiment in EXPERIMENTS.values():
        for key, setting in experiment.settings.items():
            assert key in known
            assert set(setting.unless) <= set(known)


def test_every_key_is_held_or_has_a_reason_why_not() -> None:
    """ "same protocol" is a claim about all that trains; a GIoU loss or another weight had it.

    Each key of Detectron2 that is read beside the paper's detector, and each of ours, has a setting
    or a reason, not both. Keys of the classifier's training are refused by the detector's.
    """
    pytest.importorskip("detectron2")
    from resdet.config import flatten, get_cfg
    from resdet.config.detectron2_keys import READ, fate_of
    from resdet.config.keys import ONLY_OF

    cfg = get_cfg()
    cfg.merge_from_list(
        [word for pair in config_of().items() for word in pair if pair[0] in dict(flatten(cfg))]
    )
    cfg.SOLVER.WARMUP_ITERS = 100
    keys = {key for key, _ in flatten(cfg) if not key.startswith(ONLY_OF["pretrain_cls"])}
    read = {key for key in keys if fate_of(key, cfg).kind == READ}
    settings, reasons = set(VOC0712.settings), set(protocols.without_setting())
    assert len(read) > 120
    assert sorted(read - settings - reasons) == []
    assert sorted(settings & reasons) == []
    assert sorted(reasons - read) == []


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"what": "w", "from": "f"}, r"A\.B has from, what; expected one of is, any, of_net"),
        ({"what": "w", "from": "f", "is": 1, "any": [2]}, r"A\.B has any, from, is, what"),
        ({"what": "w", "from": "f", "is": 1, "decide": True}, r"A\.B has decide, from"),
    ],
)
def test_a_malformed_setting_is_refused(entry: dict[str, Any], message: str) -> None:
    tree = {"settings": {"A.B": entry}}
    with pytest.raises(ValueError, match=message):
        protocols.read_experiments(tree)


def test_an_experiment_without_a_number_is_refused() -> None:
    tree = copy.deepcopy(protocols._tree())
    tree["experiments"]["voc07"]["numbers"] = {"source": "table 70"}
    with pytest.raises(ValueError, match="voc07: no published number has .*table 70"):
        protocols.read_experiments(tree)


def test_the_schedules_are_those_of_the_sources() -> None:
    """He, appendix A: 240k and 80k steps of 16; py-faster-rcnn: 70k steps, a drop at 50k."""
    coco, voc07 = EXPERIMENTS["coco"].schedule, EXPERIMENTS["voc07"].schedule
    assert (coco.rate, coco.batch, coco.images_seen) == (0.001, 16, (240_000 + 80_000) * 16)
    assert coco.drops == (240_000 / 320_000,)
    assert (voc07.rate, voc07.batch, voc07.images_seen) == (0.001, 2, 70_000 * 2)
    assert voc07.drops[0] == pytest.approx(50 / 70, abs=1e-3)
    assert [published(source="table 8", net="resnet101", metric="AP")[0].value] == [27.2]


def test_the_table_lies_in_the_package() -> None:
    """A wheel takes every YAML file of the package along."""
    assert (Path(protocols.__file__).parent / "protocols.yaml").is_file()
