"""The report as a whole: one content in three files, nothing from outside, nothing unescaped."""

from __future__ import annotations

import html.parser
import json
import re
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from resdet.errors import CheckFailed, RunError
from resdet.evaluation.inputs.result_folder import evaluate_folder
from resdet.report import compare
from resdet.report.comparison import contrasts
from resdet.report.comparison.backbone_gains import percent, points
from resdet.report.document import gather
from resdet.report.render import pictures, report_json
from resdet.run.folder import Run, write_json
from tests.support import children
from tests.support.fabricate import fabricate_run

LETTERS = "ABCD"


class Page(html.parser.HTMLParser):
    """Tables as rows of cell texts without their notes; attributes and tags as they come."""

    def __init__(self, text: str):
        super().__init__()
        self.tables: list[list[list[str]]] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.tags: list[str] = []
        self.text = ""
        self.inside = ""
        self.in_cell = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self.inside = tag
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
            self.in_cell = True

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""
        if tag in ("td", "th"):
            self.in_cell = False

    def handle_data(self, data: str) -> None:
        if self.inside not in ("style", "script"):
            self.text += data
        if self.in_cell and self.inside != "small":
            self.tables[-1][-1][-1] += " ".join(data.split())


def test_page_and_json_have_the_same_numbers(demo_report: SimpleNamespace) -> None:
    """Every value of the ranking, gain, per class and COCO tables, formatted from report.json."""
    page = Page(demo_report.html)
    one = demo_report.json["sets"]["digits_test"]
    ranking = page.tables[0]
    assert [row[1] for row in ranking[1:]] == [percent(one["values"][x]) for x in LETTERS]
    area = {x: one["voc"][x]["area"] for x in LETTERS}
    assert [row[1] for row in page.tables[1][1:]] == [percent(area[x]["mean_ap"]) for x in LETTERS]
    gains = {(g["before"], g["after"]): g for g in one["gains"] if g["protocol"] == "VOC area"}
    asked = [("B", "A"), ("D", "C"), ("A", "C")]
    assert [row[1] for row in page.tables[2][1:]] == [points(gains[p]["absolute"]) for p in asked]
    by_area, by_11_points = (t for t in page.tables if t[0][0] == "class")
    assert len(by_area) == len(by_11_points) == 11
    for row in by_area[1:]:
        assert row[1:5] == [percent(area[x]["classes"][row[0]]["ap"]) for x in LETTERS]
    for row in by_11_points[1:]:
        assert row[1:5] == [percent(one["per_class"][x][row[0]]) for x in LETTERS]
    coco = next(t for t in page.tables if t[0][0] == "COCO bbox")
    keys = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
    for key, row in zip(keys, coco[1:], strict=True):
        assert row[1:] == [percent(one["coco"][x][key]) for x in LETTERS]


def test_the_numbers_are_those_of_the_result_files(
    demo_runs: list[Path], demo_report: SimpleNamespace
) -> None:
    """`resdet.evaluation` on the same folders."""
    one = demo_report.json["sets"]["digits_test"]
    for letter, run in zip(LETTERS, demo_runs, strict=True):
        result = evaluate_folder(run / "results" / "digits_test").to_json()
        assert one["values"][letter] == result["voc"]["11-point"]["mean_ap"]
        assert one["coco"][letter]["engine"].startswith("fast (cross-checked on ")
        assert one["coco"][letter] | {"engine": "official"} == result["coco"]


def test_terminal_and_markdown_show_the_numbers_of_the_page(demo_report: SimpleNamespace) -> None:
    """The same table object in three forms."""
    one = demo_report.json["sets"]["digits_test"]
    for letter in LETTERS:
        value = percent(one["values"][letter])
        assert re.search(rf"^{letter}  .* {value}$", demo_report.text, re.M)
        assert re.search(rf"^\| {letter}: .* \| {value} \|$", demo_report.markdown, re.M)


def test_the_data_in_the_page_are_report_json(demo_report: SimpleNamespace) -> None:
    """F79: data as a JSON block, so that a saved page is complete."""
    block = re.search(
        r'<script type="application/json" id="report">(.*?)</script>', demo_report.html
    )
    assert block
    assert json.loads(block[1]) == demo_report.json


def test_nothing_comes_from_outside(demo_report: SimpleNamespace) -> None:
    """F79: one file; no address, no script that runs, no file beside it."""
    page = Page(demo_report.html)
    for tag, name, value in page.attributes:
        if name in ("src", "href", "srcset", "action", "data", "poster"):
            assert value.startswith("data:image/jpeg;base64,"), (tag, name, value[:60])
    assert not {"link", "iframe", "object", "embed", "base", "use"} & set(page.tags)
    assert page.tags.count("script") == 1
    assert "http:" not in demo_report.html
    assert "https:" not in demo_report.html
    assert "url(" not in demo_report.html
    assert "@import" not in demo_report.html


def test_files_of_the_markdown_report_are_there(demo_report: SimpleNamespace) -> None:
    """Every picture that is linked; nothing else lies in the folder."""
    linked = re.findall(r"\]\((report_files/[^)]+)\)", demo_report.markdown)
    folder = demo_report.paths.markdown.parent
    # Curves; bars of three pairs; intervals, costs, fates; three samples of four runs; and of
    # these three, images that one side of a pair wins, with both sides.
    drawn = [name for name in linked if name.endswith(".svg")]
    assert len(drawn) == 2 + 3 + 3
    samples = [name for name in linked if name.endswith(".jpg") and "contrast" not in name]
    assert len(samples) == 3 * 4
    assert 2 <= len(linked) - len(drawn) - len(samples) <= 3 * 2 * 3 * 2
    assert {folder / name for name in linked} == set((folder / "report_files").iterdir())


def test_nan_none_and_minus_one_are_never_shown(make_report: Any) -> None:
    """F60, F89: a class without objects, no large object, a run without any detection."""
    report = make_report({"skill": 0.0001}, {"net": "vgg11"}, absent=("3", "7"))
    for text in (report.html, report.markdown, report.text, report.paths.json.read_text("utf-8")):
        assert not re.search(r"\b(nan|inf|infinity)\b", re.sub(r"base64,[^\"]*", "", text), re.I)
    page = Page(report.html)
    cells = [cell for table in page.tables for row in table for cell in row]
    assert "–" in cells
    assert "None" not in cells
    assert "-100.0" not in cells
    assert "−100.0" not in cells


def test_absent_classes_are_left_out_and_named(make_report: Any) -> None:
    """F89: the mean stands with its count."""
    report = make_report({}, {"net": "vgg11"}, absent=("3", "7"), num_images=40)
    one = report.json["sets"]["digits_test"]
    assert one["per_class"]["A"]["3"] is None
    assert one["absent_classes"] == ["3", "7"]
    note = "Mean of 8 of 10 classes on 40 images; no objects of: 3, 7."
    assert note in report.text
    assert note in report.html
    known = [v for v in one["per_class"]["A"].values() if v is not None]
    assert one["values"]["A"] == pytest.approx(sum(known) / 8)


def test_class_names_are_escaped_everywhere(make_report: Any) -> None:
    """F79: `<b>` as a class name, and what would end a cell or a script."""
    names = ("<b>", "a|b", "</script><script>alert(1)</script>", 'x"y', "a & b")
    # No VOC files: a slash cannot stand in a file name.
    report = make_report(
        {}, {"net": "vgg11"}, classes=names, evaluators=("coco",), voc_year=None, num_images=20
    )
    page = Page(report.html)
    assert "b" not in page.tags
    assert page.tags.count("script") == 1
    table = next(t for t in page.tables if t[0][0] == "class")
    assert sorted(row[0] for row in table[1:]) == sorted(names)
    assert "<b>" not in report.markdown
    assert "| a\\|b |" in report.markdown
    for svg in (report.paths.markdown.parent / "report_files").glob("*.svg"):
        assert "<b>" not in svg.read_text(encoding="utf-8")


def test_no_class_name_steers_what_shows_it(make_report: Any) -> None:
    """Terminal codes, letters that turn the rest around, line breaks: in all four forms."""
    names = ("a\x1b[2Jb", "a\u202egpj", "c\nd", "e\x9bf", "g\u2028h")
    report = make_report(
        {}, {"net": "vgg11"}, classes=names, evaluators=("coco",), voc_year=None, num_images=20
    )
    drawings = [*(report.paths.markdown.parent / "report_files").glob("*.svg")]
    assert drawings
    texts = [report.html, report.markdown, report.text]
    for svg in drawings:
        texts.append(svg.read_text(encoding="utf-8"))
        ElementTree.fromstring(texts[-1])  # XML has no such characters
    for text in texts:
        assert [c for c in set(text) if not c.isprintable() and c not in "\n\u00a0"] == []
    assert "a\\x1b[2Jb" in report.html and "a\\u202egpj" in report.html
    (one,) = report.json["sets"].values()
    assert set(one["per_class"]["A"]) == set(names)


def test_paths_are_escaped(tmp_path: Path) -> None:
    """F79: a folder may be named like markup."""
    a = fabricate_run(tmp_path / "<i>a", num_images=8, num_samples=1)
    b = fabricate_run(tmp_path / "b & c", net="vgg11", num_images=8, num_samples=1)
    text = compare([a, b], tmp_path / "out <u>").html.read_text(encoding="utf-8")
    assert "<i>a" not in text.split('<script type="application/json"')[0]
    assert "&lt;i&gt;a" in text
    assert "<i>a" not in (tmp_path / "out <u>" / "report.md").read_text(encoding="utf-8")


def test_no_table_mixes_the_two_rules_of_voc(demo_report: SimpleNamespace) -> None:
    """F54: 11-point and area stand in tables of their own; COCO's AP50 in a third."""
    blocks = re.findall(
        r'<div class="scroll.*?</table>\s*</div>(?:\s*<p class="caption">.*?</p>)?',
        demo_report.html,
        re.S,
    )
    rules = [[r for r in ("11 points", "VOC 2010, area", "COCO") if r in b] for b in blocks]
    assert all(len(found) <= 1 for found in rules)
    assert ["11 points"] in rules
    assert ["VOC 2010, area"] in rules
    assert ["COCO"] in rules


def test_metrics_are_named_in_full(demo_report: SimpleNamespace) -> None:
    """Style 4.1: a bare "mAP" is not written."""
    for text in (Page(demo_report.html).text, demo_report.markdown, demo_report.text):
        assert not re.search(r"\bmAP\b", text)
        assert "AP50 (VOC 2007, 11 points)" in " ".join(text.split())


def test_the_demo_tells_its_three_comparisons(demo_report: SimpleNamespace) -> None:
    """Each net against itself from scratch, then net against net."""
    pairs = [
        (g["before"], g["after"], g["kind"])
        for g in demo_report.json["sets"]["digits_test"]["gains"]
    ]
    assert pairs[:3] == [("B", "A", "pretraining"), ("D", "C", "pretraining"), ("A", "C", "net")]
    assert demo_report.json["headline"].startswith("Pretraining gives +")
    text = " ".join(Page(demo_report.html).text.split())
    assert "speed of learning where there are images enough" in text
    assert "800 iterations of 4 images" in text
    assert "the mechanism of transfer" in text
    assert "Both pretrained, VGG-11 reaches" in text


def test_runs_that_are_not_comparable_are_stamped_and_claim_nothing(make_report: Any) -> None:
    """Issue 8: the report is written, stamped; no gain is taken from it."""
    report = make_report({}, {"net": "vgg11", "overrides": {"SOLVER.BASE_LR": 0.5}})
    for text in (report.html, report.markdown, report.text):
        assert "NOT COMPARABLE" in text
        assert "SOLVER.BASE" in text
    assert report.json["verdict"] == "NOT COMPARABLE"
    assert report.json["headline"].startswith("Not comparable")
    assert report.json["sets"]["digits_test"]["gains"] == []
    assert "relative" not in Page(report.html).text


def test_a_test_on_training_images_is_in_the_title(make_report: Any) -> None:
    """F6: the report states it in its title."""
    report = make_report({}, {"net": "vgg11", "info": {"leak": "trained on test images"}})
    assert re.search(r"<h1>Tested on training images", report.html)


def test_no_paper_number_on_the_demo(demo_report: SimpleNamespace) -> None:
    """Issue 8: the paper's number only where the protocol is the same."""
    for text in (Page(demo_report.html).text, demo_report.markdown, demo_report.text):
        assert "paper" not in text.lower()
        assert "1512.03385" not in text


def test_the_page_stays_under_five_megabytes(
    demo_report: SimpleNamespace, demo_runs: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pictures' budget is a third more as text; quality, then their number goes down."""
    assert (pictures.MAX_BYTES + contrasts.MAX_BYTES) * 4 / 3 < 4_000_000
    assert demo_report.paths.html.stat().st_size < 2_000_000
    monkeypatch.setattr(pictures, "MAX_BYTES", 30_000)
    shown = gather(demo_runs[:2]).sets[0].samples
    assert 1 <= len(shown) <= 3
    assert sum(len(p.jpeg) for s in shown for p in s.panels) <= 30_000


def test_a_broken_picture_loses_no_number(tmp_path: Path) -> None:
    """F78's rule for plots, for pictures too."""
    a = fabricate_run(tmp_path / "a", num_images=8)
    b = fabricate_run(tmp_path / "b", net="vgg11", num_images=8)
    for run in (a, b):
        first = sorted((run / "results" / "digits_test" / "samples").iterdir())[0]
        first.write_bytes(b"no image")
    report = gather([a, b])
    assert len(report.sets[0].samples) == 2
    assert len(report.sets[0].ranking.rows) == 2


def test_the_same_folders_give_the_same_report(demo_runs: list[Path], tmp_path: Path) -> None:
    """All but the time of making; the resampling has its own seed."""
    pages = [compare(demo_runs[:2], tmp_path / name) for name in "ab"]
    one, two = (json.loads(p.json.read_text("utf-8")) for p in pages)
    assert {**one, "made": ""} == {**two, "made": ""}


def test_an_older_report_is_replaced_whole(demo_runs: list[Path], tmp_path: Path) -> None:
    """Figures of runs that are no longer compared do not stay behind."""
    compare(demo_runs, tmp_path)
    compare(demo_runs[:2], tmp_path)
    assert not list((tmp_path / "report_files").glob("*_D.jpg"))


def test_a_stored_number_that_the_files_do_not_give_is_refused(tmp_path: Path) -> None:
    """The folder holds two evaluations; one of them is of other weights."""
    a = fabricate_run(tmp_path / "a", num_images=8)
    b = fabricate_run(tmp_path / "b", net="vgg11", num_images=8)
    folder = b / "results" / "digits_test"
    stored = evaluate_folder(folder).to_json()["voc"]
    write_json(folder / "voc.json", stored)
    gather([a, b])
    stored["11-point"]["mean_ap"] = 0.99
    write_json(folder / "voc.json", stored)
    with pytest.raises(RunError, match=r"voc.json has 11-point.mean_ap 0.99, the result files"):
        gather([a, b])


def test_images_that_were_not_evaluated_are_counted(make_report: Any) -> None:
    """F91: on how many of how many images."""
    report = make_report({}, {"net": "vgg11"}, num_evaluated=9)
    assert report.json["sets"]["digits_test"]["images"]["A"] == {
        "expected": 12, "evaluated": 9, "missing": 3,
    }  # fmt: skip
    assert "on 9 images (3 of 12 not evaluated)" in report.text
    assert "A covers 9 of 12 images" in report.text


def test_sets_that_not_all_runs_have_are_named(tmp_path: Path) -> None:
    """Only common sets are compared; without one there is nothing to report."""
    a = fabricate_run(tmp_path / "a", num_images=8)
    b = fabricate_run(tmp_path / "b", net="vgg11", num_images=8)
    other = fabricate_run(tmp_path / "c", net="vgg11", num_images=8, data_set="digits_val")
    (other / "results" / "digits_val").rename(a / "results" / "digits_val")
    assert gather([a, b]).left_out == ("digits_val was evaluated in A only and is left out.",)
    with pytest.raises(RunError, match=r"b has digits_test; .*c has none"):
        compare([b, other], tmp_path / "out")


@pytest.mark.parametrize(
    ("names", "match"),
    [
        pytest.param(["a"], "1 run folder given", id="one"),
        pytest.param(["a", "a"], "is given twice", id="twice"),
        pytest.param(["a", "nowhere"], "nowhere is not a folder", id="missing"),
        pytest.param(["a", "cls"], "is a classification run", id="classifier"),
        pytest.param(["a", "yaml"], r"config.yaml is not plain YAML", id="broken-config"),
        pytest.param(["a", "bare"], r"config.yaml does not exist", id="no-config"),
    ],
)
def test_folders_that_cannot_be_compared_are_refused(
    tmp_path: Path, names: list[str], match: str
) -> None:
    """Each with what it is."""
    for name in ("a", "cls", "yaml", "bare"):
        fabricate_run(tmp_path / name, num_images=4, num_samples=0)
    info = json.loads((tmp_path / "cls" / "run.json").read_text("utf-8"))
    write_json(tmp_path / "cls" / "run.json", {**info, "kind": "classification"})
    (tmp_path / "yaml" / "config.yaml").write_text("a: [", encoding="utf-8")
    (tmp_path / "bare" / "config.yaml").unlink()
    with pytest.raises(RunError, match=match):
        compare([tmp_path / name for name in names], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_results_that_validation_refuses_give_no_report(tmp_path: Path) -> None:
    """Nonsense is refused, never scored (F80)."""
    a = fabricate_run(tmp_path / "a", num_images=8)
    b = fabricate_run(tmp_path / "b", net="vgg11", num_images=8)
    path = b / "results" / "digits_test" / "coco_instances_results.json"
    found = json.loads(path.read_text("utf-8"))
    found[0]["score"] = "0.9"
    path.write_text(json.dumps(found), encoding="utf-8")
    with pytest.raises(CheckFailed, match="score"):
        compare([a, b], tmp_path / "out")


def test_a_missing_jinja2_is_reported_before_anything_is_written(
    demo_runs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is an extra: `pip install resdet` does not bring it."""
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(RunError, match=r"needs Jinja2. Run: pip install 'resdet\[report\]'"):
        compare(demo_runs[:2], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_report_needs_neither_torch_nor_detectron2(demo_runs: list[Path], tmp_path: Path) -> None:
    """Proven by import, in a process that refuses both, and pyplot."""
    code = (
        "import sys\n"
        "class Refuse:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in ('torch', 'torchvision', 'detectron2') or"
        " name == 'matplotlib.pyplot':\n"
        "            raise ImportError(name + ' is blocked')\n"
        "sys.meta_path.insert(0, Refuse())\n"
        "from resdet.report import compare\n"
        "print(compare(sys.argv[2:], sys.argv[1]).html)\n"
    )
    children.printed_by(code, tmp_path / "out", *demo_runs[:2])
    assert (tmp_path / "out" / "report.html").exists()


def test_a_voc_set_may_be_ranked_by_cocos_ap(demo_runs: list[Path], tmp_path: Path) -> None:
    """Title, ranking, gains and intervals are by AP at .50 to .95; VOC's rules stay in tables."""
    paths = compare(demo_runs, tmp_path / "report", by="coco")
    (one,) = json.loads(paths.json.read_text(encoding="utf-8"))["sets"].values()
    title = "AP (COCO, IoU .50 to .95)"
    assert one["metric"]["title"] == one["gain_metric"]["title"] == title
    results = [evaluate_folder(Run.open(run).results("digits_test")).coco for run in demo_runs]
    expected = [result.numbers["AP"] for result in results if result]
    assert list(one["values"].values()) == expected
    first = one["gains"][:3]
    assert [g["metric"] for g in first] == [title] * 3
    assert all(g["interval"]["low"] <= g["interval"]["high"] for g in first)
    assert "11 points" in paths.markdown.read_text(encoding="utf-8")


def test_cocos_ap_is_refused_where_a_set_has_none(tmp_path: Path) -> None:
    runs = [
        fabricate_run(tmp_path / net, net=net, evaluators=("voc",), num_images=8, num_samples=0)
        for net in ("vgg11", "resnet18")
    ]
    with pytest.raises(RunError, match="digits_test is not scored by COCO's rules.*Leave --by out"):
        compare(runs, tmp_path / "report", by="coco")


def test_a_run_of_before_has_its_transfer_under_todays_names() -> None:
    """The classes of the predictors that arrived had another name in transfer.json at first."""
    pairs = [["ape", "ape"]]
    for name in ("carried", "head_classes"):
        stored = report_json._transfer({"file": "x.pth", name: pairs})
        assert stored == {"file": "x.pth", "head_classes": pairs}
    assert report_json._transfer(None) is None
