"""TEST.EXPECTED_RESULTS: exit 1 where a number is off, and refused where it could not be held."""

from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("detectron2")

from resdet.detect.testing.expected_results import check_form, compare_with
from resdet.errors import CheckFailed, ConfigError


def coco(**numbers: float | None) -> Any:
    return {"val": SimpleNamespace(voc=None, coco=SimpleNamespace(numbers=numbers))}


def test_numbers_within_their_tolerance_pass() -> None:
    """In percent, as Detectron2's own tests state them; the bound itself passes."""
    rows = [["bbox", "AP", 38.5, 0.25], ("bbox", "AP50", 60, 1)]
    compare_with(rows, coco(AP=0.3875, AP50=0.61))
    compare_with([], {})
    with pytest.raises(CheckFailed, match="AP of val is 38.760, expected 38.5 within 0.25"):
        compare_with(rows, coco(AP=0.3876, AP50=0.61))


def test_all_that_are_off_are_listed() -> None:
    rows = [["bbox", "AP", 99.0, 1.0], ["bbox", "APs", 1.0, 1.0], ["bbox", "AP50", 50.0, 1.0]]
    with pytest.raises(CheckFailed) as error:
        compare_with(rows, coco(AP=0.3, APs=None, AP50=0.5))
    assert error.value.exit_code == 1
    assert str(error.value) == (
        "TEST.EXPECTED_RESULTS: AP of val is 30.000, expected 99 within 1; APs of val is not "
        "defined, expected 1."
    )


def test_a_voc_set_has_its_own_ap50() -> None:
    primary = SimpleNamespace(mean_ap=0.7)
    result = SimpleNamespace(voc=SimpleNamespace(primary=primary), coco=None)
    compare_with([["bbox", "AP50", 70.0, 0.1]], {"voc": result})  # type: ignore[dict-item]
    with pytest.raises(CheckFailed, match="AP of voc is not defined"):
        compare_with([["bbox", "AP", 70.0, 0.1]], {"voc": result})  # type: ignore[dict-item]


@pytest.mark.parametrize(
    "row",
    [["segm", "AP", 1, 1], ["bbox", "mAP", 1, 1], ["bbox", "AP", "1", 1], ["bbox", "AP", 1], 7],
)
def test_rows_that_hold_nothing_are_refused_before_a_training(row: Any) -> None:
    with pytest.raises(ConfigError, match=r"expected \['bbox', METRIC, percent, tolerance\]"):
        check_form([row], ["a"])
    with pytest.raises(ConfigError, match="is for one test set, DATASETS.TEST has 2"):
        check_form([["bbox", "AP", 1.0, 1.0]], ["a", "b"])


def test_rows_of_masks_are_held_against_masks_where_they_are_on() -> None:
    """As Detectron2's own mask_rcnn_*_acc_test.yaml state them."""
    row = ["segm", "AP", 34.0, 0.5]
    check_form([row], ["val"], masks=True)
    with pytest.raises(ConfigError, match="segm goes with MODEL.MASK_ON True alone"):
        check_form([row], ["val"])
    numbers = SimpleNamespace(numbers={"AP": 0.343})
    compare_with([row], {"val": SimpleNamespace(voc=None, coco=None, segm=numbers)})  # type: ignore[dict-item]
    with pytest.raises(CheckFailed, match="segm AP of val is 34.300, expected 30 within 0.5"):
        off = [["segm", "AP", 30, 0.5]]
        compare_with(off, {"val": SimpleNamespace(voc=None, coco=None, segm=numbers)})  # type: ignore[dict-item]
