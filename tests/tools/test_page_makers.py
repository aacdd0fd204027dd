"""The tools that write a page of docs/: what they are told is read, or refused."""

import pytest

pytest.importorskip("detectron2")


@pytest.mark.parametrize("name", ["make_key_table", "make_protocol_page", "make_timm_table"])
def test_a_mistyped_flag_is_refused_and_nothing_is_written(tool, name, capsys):
    """ "--chekc" was taken for no flag at all: it wrote the page."""
    if name == "make_timm_table":
        pytest.importorskip("timm")
    page = tool(name).PAGE
    before = page.stat().st_mtime_ns
    with pytest.raises(SystemExit) as ended:
        tool(name).main(["--chekc"])
    assert ended.value.code == 2
    assert "unrecognized arguments: --chekc" in capsys.readouterr().err
    assert page.stat().st_mtime_ns == before
