"""Predictors for another list of classes: rows go by name, worked by hand on tiny heads."""

import pytest
import torch

from resdet.errors import WeightsError
from resdet.formats.voc_xml import VOC_CLASSES
from resdet.weights.predictors import DELTAS, SCORES, SYNONYMS, fit


def heads(num_classes, base, width=3):
    """Row i holds base + i everywhere, the background base + num_classes; deltas likewise."""
    rows = base + torch.arange(num_classes + 1.0)
    deltas = base + torch.arange(num_classes * 4.0)
    return {
        f"{SCORES}.weight": rows[:, None].expand(-1, width).clone(),
        f"{SCORES}.bias": rows.clone(),
        f"{DELTAS}.weight": deltas[:, None].expand(-1, width).clone(),
        f"{DELTAS}.bias": deltas.clone(),
    }


def fitted(there, here, how="by_name"):
    return fit(heads(len(there), 0), heads(len(here), 1000), there, here, how=how, where="x.pth")


def test_cocos_80_give_vocs_20():
    """All 20 of VOC are among COCO's 80, six under another name (VOC and COCO class lists)."""
    catalog = pytest.importorskip("detectron2.data").MetadataCatalog
    coco = tuple(catalog.get("coco_2017_val").thing_classes)
    assert len(coco) == 80 and set(SYNONYMS) <= set(coco)
    found = fitted(coco, VOC_CLASSES)
    assert len(found.copied) == 20 and found.new == ()
    by_name = {v: k for k, v in SYNONYMS.items()}
    expected = [float(coco.index(by_name.get(c, c))) for c in VOC_CLASSES] + [80.0]
    assert found.tensors[f"{SCORES}.bias"].tolist() == expected
    place = coco.index("tv")
    assert found.tensors[f"{DELTAS}.bias"][-4:].tolist() == [4.0 * place + i for i in range(4)]
    assert "tv as tvmonitor" in found.sentence and "fresh: none" in found.sentence


def test_classes_that_only_one_side_has_start_fresh():
    """By hand: b and the background arrive, c keeps the model's row."""
    found = fitted(("a", "b"), ("b", "c"))
    assert found.copied == (("b", "b"),)
    assert found.tensors[f"{SCORES}.bias"].tolist() == [1.0, 1001.0, 2.0]
    assert found.tensors[f"{DELTAS}.bias"].tolist() == [4, 5, 6, 7, 1004, 1005, 1006, 1007]
    assert "fresh: c" in found.sentence


@pytest.mark.parametrize("how", ["new", "by_name"])
def test_another_order_is_put_in_order_whatever_is_reported(how):
    """F22: as many classes under the same names in another order would load without a word."""
    found = fitted(("a", "b", "c"), ("c", "a", "b"), how)
    assert found.tensors[f"{SCORES}.bias"].tolist() == [2.0, 0.0, 1.0, 3.0]
    assert found.new == ()


def test_the_same_classes_arrive_as_they_are():
    found = fitted(("a", "b"), ("a", "b"), "new")
    assert (found.tensors, found.new) == ({}, ())


def test_other_classes_are_new_by_themselves():
    """F22: right for a transfer, and counted as new."""
    found = fitted(("a", "b"), ("c",), "new")
    assert found.new == (f"{SCORES}.*", f"{DELTAS}.*") and found.tensors == {}
    assert fit(heads(2, 0), heads(3, 0), (), ("a", "b", "c"), how="new", where="x").new


def test_boxes_for_all_classes_at_once_stay():
    """CLS_AGNOSTIC_BBOX_REG has four rows whatever the classes."""
    there, here = heads(2, 0), heads(2, 1000)
    for tensors in (there, here):
        tensors[f"{DELTAS}.weight"] = tensors[f"{DELTAS}.weight"][:4]
        tensors[f"{DELTAS}.bias"] = tensors[f"{DELTAS}.bias"][:4]
    found = fit(there, here, ("a", "b"), ("b", "z"), how="by_name", where="x")
    assert set(found.tensors) == {f"{SCORES}.weight", f"{SCORES}.bias"}


@pytest.mark.parametrize(
    ("there", "here", "message"),
    [
        ((), ("a",), "does not name its 2 classes"),
        (("a", "b"), ("c", "d"), "none of its 2 classes"),
        (("a", "b", "c"), ("a", "b"), "scores 2 classes, but 3 names are given"),
    ],
)
def test_what_cannot_be_copied_is_refused(there, here, message):
    with pytest.raises(WeightsError, match=message):
        fit(heads(2, 0), heads(len(here), 0), there, here, how="by_name", where="x.pth")


def test_a_net_without_such_heads_is_left_alone():
    found = fit({"a": torch.ones(1)}, {"a": torch.ones(1)}, (), ("a",), how="new", where="x")
    assert (found.tensors, found.new, found.sentence) == ({}, (), "")
