"""The tools that write a page of docs/: what they are told is read, or refused."""

import pytest

from tests.support.children import ROOT

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


def test_a_page_is_written_where_it_differs_and_never_to_be_checked(tool, tmp_path, capsys):
    page, write_or_check = tmp_path / "page.md", tool("written_page").write_or_check
    assert write_or_check(page, "one", check=True) == 1 and not page.exists()
    assert write_or_check(page, "one", check=False) == 0 and page.read_text() == "one"
    assert write_or_check(page, "one", check=True) == 0
    assert capsys.readouterr().out.split("\n")[:3] == [
        "page.md: differs", "page.md: written", "page.md: as it is"
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["make_key_table", "make_protocol_page", "make_timm_table"])
def test_a_page_maker_is_of_the_checkout_that_it_lies_in(name):
    """Where another one's resdet is installed, its tables were written into this one's page."""
    lines = (ROOT / "tools" / f"{name}.py").read_text(encoding="utf-8").splitlines()
    first = "sys.path.insert(0, str(Path(__file__).resolve().parents[1]))"
    assert lines.index(first) < next(
        i for i, x in enumerate(lines) if "resdet." in x and "import" in x
    )
