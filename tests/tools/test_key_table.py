"""docs/detectron2_keys.md is what the table in the code says of every key of Detectron2 0.6."""

import re

import pytest

pytest.importorskip("detectron2")

from detectron2.config import get_cfg

from resdet.config.detectron2_keys import READ, REFUSED, fate_of


def test_the_page_is_made_from_the_code(tool):
    if "FLOAT32_PRECISION" in get_cfg():
        pytest.skip("this Detectron2 is main, which has more keys; the page is of 0.6")
    table = tool("make_key_table")
    assert table.PAGE.read_text(encoding="utf-8") == table.page()


def test_of_the_keys_of_main_those_that_are_read_are_called_read(tool):
    """Three that are refused stood among those that are read; fates as `resolve` has them."""
    text = tool("make_key_table").PAGE.read_text(encoding="utf-8")
    sentences = re.search(r"only Detectron2's\nmain has (.*?) Refused are\n(.*?)\n\n", text)
    read, refused = (re.findall(r"[A-Z_0-9]{5,}", sentences[i]) for i in (1, 2))
    assert (len(read), len(refused)) == (2, 4)
    assert {fate_of(f"SOLVER.{name}").kind for name in read} == {READ}
    assert {fate_of(f"X.{name}").kind for name in refused} == {REFUSED}
