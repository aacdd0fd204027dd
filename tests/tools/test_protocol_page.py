"""docs/protocol.md's last part is what presets resolve to, beside what the papers state."""

import importlib
from collections.abc import Iterator
from types import ModuleType

import pytest

pytest.importorskip("detectron2")

from tests.support.preset_files import CONFIGS


@pytest.fixture(scope="module")
def tool() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(CONFIGS.parent / "tools"))
        yield importlib.import_module("make_protocol_page")


def rows_of(part: str, title: str) -> list[list[str]]:
    """The cells of a table, by the start of its title."""
    (section,) = (s for s in part.split("\n### ") if s.startswith(title))
    lines = [x for x in section.splitlines() if x.startswith("| ")][2:]
    return [x.strip("| ").split(" | ") for x in lines]


def test_the_page_is_made_from_presets_and_protocols(tool: ModuleType) -> None:
    before = tool.PAGE.read_text(encoding="utf-8")
    assert before.count(tool.MARK) == 1
    assert before.partition(tool.MARK)[2] == tool.page_part()


def test_rows_are_those_that_a_reader_finds_by_hand(tool: ModuleType) -> None:
    """Of the paper's presets the warm-up and, on COCO, the rate; of stock C4 Detectron2's own."""
    part = tool.page_part()
    paper = rows_of(part, "`configs/*.yaml`")
    assert [row[1] for row in paper] == [
        "`SOLVER.SCHEME`", "`SOLVER.WARMUP_ITERS`", "`SOLVER.BASE_LR`", "`SOLVER.WARMUP_ITERS`"
    ]  # fmt: skip
    assert ["steps of warm-up", "`SOLVER.WARMUP_ITERS`", "0", "1000", "code", "coco"] in paper
    modern = {(row[1], row[2], row[3]): row for row in rows_of(part, "`configs/modern/")}
    nms = modern["`MODEL.ROI_HEADS.NMS_THRESH_TEST`", "0.3", "0.5"]
    assert nms[0].startswith("* ") and nms[-1] == "all"
    voc = "voc07, voc0712, voc0712pp"
    assert modern["`DATASETS.VOC_DIFFICULT`", "drop", "keep"][-1] == voc


def test_every_classifier_has_a_row(tool: ModuleType) -> None:
    named = {row[0].strip("`") for row in rows_of(tool.page_part(), "`configs/pretrain/")}
    files = {p.stem for p in (CONFIGS / "pretrain").glob("*.yaml")}
    assert named == {name for name in files if not name.startswith("base")}
