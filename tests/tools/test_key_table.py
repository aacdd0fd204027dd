"""docs/detectron2_keys.md is what the table in the code says of every key of Detectron2 0.6."""

import pytest

pytest.importorskip("detectron2")

from detectron2.config import get_cfg


def test_the_page_is_made_from_the_code(tool):
    if "FLOAT32_PRECISION" in get_cfg():
        pytest.skip("this Detectron2 is main, which has more keys; the page is of 0.6")
    table = tool("make_key_table")
    assert table.PAGE.read_text(encoding="utf-8") == table.page()
