"""Predictors for another list of classes: rows go by name, worked by hand on tiny heads."""

import pytest
import torch

from resdet.errors import WeightsError
from resdet.formats.voc_xml import VOC_CLASSES
from resdet.weights.predictors import DELTAS, MASKS, SCORES, SYNONYMS, fit


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
    assert "20 of 20 classes copied by name (airplane as aeroplane, " in found.sentence
    assert "tv as tvmonitor" in found.sentence
    assert found.sentence.endswith("fresh: none; left behind: 60 of the file's 80")


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


# -- names by hand, and masks --------------------------------------------------------------------


def test_names_can_be_stated_and_win_over_the_table():
    """By hand: car's row goes to auto; tv, named as sofa here, does not go to tvmonitor too."""
    there, here = ("car", "tv", "dog"), ("auto", "tvmonitor", "sofa", "dog")
    names = {"car": "auto", "tv": "sofa"}
    found = fit(heads(3, 0), heads(4, 1000), there, here, how="by_name", where="x", names=names)
    assert found.copied == (("car", "auto"), ("tv", "sofa"), ("dog", "dog"))
    assert found.tensors[f"{SCORES}.bias"].tolist() == [0.0, 1001.0, 1.0, 2.0, 3.0]
    assert "fresh: tvmonitor; left behind: 0 of the file's 3" in found.sentence


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({"bus": "auto"}, "bus: no class of x"),
        ({"car": "bus"}, "bus: no class here"),
        ({"car": "auto", "dog": "auto"}, "auto: named twice"),
    ],
)
def test_names_of_nothing_are_refused(names, message):
    there, here = ("car", "dog"), ("auto", "dog")
    with pytest.raises(WeightsError, match=message):
        fit(heads(2, 0), heads(2, 9), there, here, how="by_name", where="x", names=names)


def with_masks(tensors, rows, base):
    values = base + torch.arange(float(rows))
    weight = values[:, None, None, None].expand(-1, 2, 1, 1).clone()
    return {**tensors, f"{MASKS}.weight": weight, f"{MASKS}.bias": values}


def test_rows_of_masks_go_with_their_class():
    there, here = with_masks(heads(2, 0), 2, 0), with_masks(heads(3, 9), 3, 500)
    found = fit(there, here, ("a", "b"), ("b", "c", "a"), how="by_name", where="x")
    assert found.tensors[f"{MASKS}.bias"].tolist() == [1.0, 501.0, 0.0]
    assert found.tensors[f"{MASKS}.weight"][:, 0, 0, 0].tolist() == [1.0, 501.0, 0.0]
    fresh = fit(there, here, ("a", "b"), ("b", "c", "a"), how="new", where="x")
    assert fresh.new == (f"{SCORES}.*", f"{DELTAS}.*", f"{MASKS}.*")


def test_one_mask_for_all_classes_stays():
    """ROI_MASK_HEAD.CLS_AGNOSTIC_MASK has one row whatever the classes."""
    there, here = with_masks(heads(2, 0), 1, 0), with_masks(heads(3, 9), 1, 500)
    found = fit(there, here, ("a", "b"), ("b", "c", "a"), how="by_name", where="x")
    assert f"{MASKS}.bias" not in found.tensors
    fresh = fit(there, here, ("a", "b"), ("b", "c", "a"), how="new", where="x")
    assert f"{MASKS}.*" not in fresh.new
