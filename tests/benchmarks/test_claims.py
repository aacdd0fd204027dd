"""What a benchmark found: figures, table, and a runner that keeps nothing that is not the same."""

from __future__ import annotations

import argparse
import importlib
import json
from dataclasses import replace

import pytest

pytest.importorskip("detectron2")

from benchmarks import __main__ as runner
from benchmarks import claims
from benchmarks.claims import Claim, Row

FIRST, LAST = runner.MARKS


def claim(agrees: bool = True) -> Claim:
    rows = claims.rows({"peer": [4.0, 8.0, 6.0], "ours": [2.0, 1.0, 3.0]}, {"ours": 100.0})
    return Claim("a thing", "done so", rows, 3, "10 of 10", agrees)


def test_ratio_is_of_the_middle_rounds() -> None:
    """6 s against 2 s by hand: three times; round by round 2, 8 and 2 times."""
    assert claim().rows == [
        Row("peer", 6.0, 4.0, 8.0, 1.0, None, 1.0, 1.0),
        Row("ours", 2.0, 1.0, 3.0, 3.0, 100.0, 2.0, 8.0),
    ]


@pytest.mark.parametrize("agrees", [True, False])
def test_a_ratio_of_something_else_fails(agrees, tmp_path, capsys) -> None:
    """The exit code reports it, and the page in words."""
    args = argparse.Namespace(json=tmp_path / "found.json")
    assert claims.report([claim(), claim(agrees)], args) == (0 if agrees else 1)
    assert ("NOT THE SAME: 10 of 10" in capsys.readouterr().out) == (not agrees)
    assert [c["agrees"] for c in json.loads(args.json.read_text())] == [True, agrees]


def test_the_table_names_both_and_their_ratio() -> None:
    found = {**json.loads(json.dumps(claim(), default=vars))}
    found["rows"][0]["peak_mb"] = 50.0
    page = {
        "claims": [found],
        "machine": {"processor": "P", "cores": 2, "capability": "AVX2"},
        "versions": {"torch": "2"},
        "date": "2026-11-25",
    }
    other = {**page, "date": "2026-11-26"}
    text = runner.tables([page, other, page])
    assert text.count("| what |") == 2  # of one day, and of another
    first, second = text.split("2026-11-26")
    assert (first.count("a thing"), second.count("a thing")) == (2, 1)
    last = text.splitlines()[-1]
    assert last == "| a thing | peer: 6 s, 50 MB | ours **3.00** (100 MB) |"


def test_the_table_has_the_rows_that_a_claim_shows() -> None:
    rows = [Row(name, 0.02, 0.02, 0.02, ratio) for name, ratio in (("peer", 1), ("a", 2), ("b", 3))]
    every = Claim("a thing", "done so", rows, 3, "10 of 10", True)
    lines = [
        claims.table([json.loads(json.dumps(replace(every, shown=shown), default=vars))])
        for shown in ((), ("b",))
    ]
    assert [text.splitlines()[-1] for text in lines] == [
        "| a thing | peer: 20 ms | a **2.00**; b **3.00** |",
        "| a thing | peer: 20 ms | b **3.00** |",
    ]


def test_the_table_stands_between_its_marks() -> None:
    text = f"before\n{FIRST}\nold\n{LAST}\nafter\n"
    new = claims.put_between(text, "new", runner.MARKS, "x")
    assert new == f"before\n{FIRST}\nnew\n{LAST}\nafter\n"
    assert claims.put_between(new, "new", runner.MARKS, "x") == new
    for broken in ("no marks", LAST + FIRST, text + text):
        with pytest.raises(ValueError, match=r"README.md needs the marks"):
            claims.put_between(broken, "new", runner.MARKS, "README.md")


def test_the_readme_has_the_marks() -> None:
    text = runner.README.read_text(encoding="utf-8")
    assert claims.put_between(text, "new", runner.MARKS, "README.md").count("new") >= 1


@pytest.mark.parametrize("name", runner.NAMES)
def test_every_benchmark_has_the_common_flags(name, capsys) -> None:
    """The runner calls each with --quick and --json."""
    module = importlib.import_module(f"benchmarks.{name}")
    main = getattr(module, "main", None)
    with pytest.raises(SystemExit) as ended:
        if main is not None:
            main(["--help"])
        else:
            importlib.import_module("benchmarks.apart").main(module.BENCHMARK, ["--help"])
    assert ended.value.code == 0
    page = capsys.readouterr().out
    assert "--quick" in page and "--json" in page and "--rounds" in page


def test_what_is_not_the_same_is_not_kept(tmp_path, monkeypatch, capsys) -> None:
    """One of two fails: the other is kept, README stays, and the exit code is 1."""
    results, readme = tmp_path / "results.json", tmp_path / "README.md"
    readme.write_text(f"{FIRST}\n{LAST}\n", encoding="utf-8")
    monkeypatch.setattr(runner, "RESULTS", results)
    monkeypatch.setattr(runner, "README", readme)
    monkeypatch.setattr(runner, "ROOT", tmp_path)
    page = json.loads(json.dumps([claim()], default=vars))
    page[0]["rows"][0]["peak_mb"] = None
    page[0]["rows"][1]["peak_mb"] = None
    codes = {"classification.precision": 1, "loading": 0}
    monkeypatch.setattr(runner, "run_one", lambda name, quick: (page, codes[name]))
    assert runner.main(["--only", "classification.precision", "loading"]) == 1
    assert list(json.loads(results.read_text())["benchmarks"]) == ["loading"]
    assert "failed: classification.precision" in capsys.readouterr().out
    assert readme.read_text() == f"{FIRST}\n{LAST}\n"
    codes["classification.precision"] = 0
    assert runner.main(["--only", "classification.precision"]) == 0
    assert set(json.loads(results.read_text())["benchmarks"]) == {
        "classification.precision",
        "loading",
    }
    assert readme.read_text().count("| a thing |") == 2


def test_the_tables_in_the_docs_are_what_was_found() -> None:
    """README's between its marks; RESULTS.md's of detection, ratio by ratio."""
    found = json.loads(runner.RESULTS.read_text(encoding="utf-8"))["benchmarks"]
    text = runner.README.read_text(encoding="utf-8")
    every = runner.tables([found[name] for name in runner.NAMES if name in found])
    assert claims.put_between(text, every, runner.MARKS, "README.md") == text
    lines = (runner.ROOT / "RESULTS.md").read_text(encoding="utf-8").splitlines()
    for claim in found["detection.inference"]["claims"] + found["detection.training"]["claims"]:
        *_, net, number = claim["name"].split(", ")
        ratios = [f"x{row['ratio']:.2f}" for row in claim["rows"][1:]]
        beginning = f"| {net}, {int(number.split()[0]):,}"
        those = [line for line in lines if line.startswith(beginning)]
        assert any(all(r in line for r in ratios) for line in those), (claim["name"], ratios)
