"""docs/detectron2_keys.md is what the table in the code says of every key of Detectron2 0.6."""

import importlib.util

import pytest

pytest.importorskip("detectron2")

from detectron2.config import get_cfg

from tests.support.children import ROOT


def test_the_page_is_made_from_the_code():
    if "FLOAT32_PRECISION" in get_cfg():
        pytest.skip("this Detectron2 is main, which has more keys; the page is of 0.6")
    spec = importlib.util.spec_from_file_location(
        "make_key_table", ROOT / "tools/make_key_table.py"
    )
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    assert tool.PAGE.read_text(encoding="utf-8") == tool.page()
