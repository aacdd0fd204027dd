"""What users of `submit` see, the ledger, and what is reported about servers."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from resdet.submission import ledger, servers
from tests.support import children

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "resdet" / "submission").glob("*.py"))


def test_coco_states_what_was_made_and_what_is_known(
    submit: Any, make_run: Any, pets: Any, found: Any, ledger_path: Path
) -> None:
    """Path, size, hash, scores before and after, the server with its date; in the ledger."""
    run = make_run("coco_2017_val", pets, found)
    done = submit("coco", run.path, "--algorithm", "resdet-r101")
    assert done.returncode == 0, done.stderr
    for words in (
        "detections_val2017_resdet-r101_results.zip",
        "bytes, sha256 ",
        "3 detections on 3 images",
        "no image had more than 100 detections",
        "boxes to 0.1 px",
        "as detected",
        "in the package",
        "Change of AP by what the package leaves out: ",
        "Engine: fast (cross-checked on 2 images).",
        "COCO's server for boxes: closed when last seen, April 2026.",
        "val2017 has 5,000 images, this package is of 3: a rehearsal.",
        "Different packages of val2017 made here: 1 today (UTC), 1 in all",
        "Nothing was uploaded.",
    ):
        assert words in done.stdout
    (entry,) = ledger.read(ledger_path)
    assert entry["set"] == "val2017" and entry["algorithm"] == "resdet-r101"
    assert entry["server"] == "coco-bbox" and entry["data_set"] == "coco_2017_val"
    assert f"sha256 {entry['sha256']}" in done.stdout
    assert Path(entry["path"]).stat().st_size == entry["bytes"]
    # Made again it is the same package; other rounding makes another.
    assert (
        "1 today (UTC), 1 in all" in submit("coco", run.path, "--algorithm", "resdet-r101").stdout
    )
    other = submit("coco", run.path, "--algorithm", "b", "--decimals", "0")
    assert "2 today (UTC), 2 in all" in other.stdout and "boxes to 1 px" in other.stdout
    listed = submit("ledger", "--json")
    assert len(json.loads(listed.stdout)["packages"]) == 3


def test_voc_states_what_was_made(submit: Any, make_run: Any, pets: Any, found: Any) -> None:
    run = make_run("pets", pets, found[:2], year=2007)
    done = submit("voc", run.path)
    assert done.returncode == 0, done.stderr
    assert "3 class files, 1 of them empty: cat" in done.stdout
    assert "AP50 (VOC, 11-point, overlap > 0.5) of the package, read back: 66.7 %" in done.stdout
    assert "uncertain when last seen, September 2025" in done.stdout
    assert "The classes are not VOC's twenty" in done.stdout


def test_several_sets_need_a_choice(submit: Any, make_run: Any, pets: Any, found: Any) -> None:
    make_run("coco_2017_val", pets, found)
    run = make_run("coco_2014_val", pets, found)
    make_run("pets", pets, found, year=2007)
    done = submit("coco", run.path, "--algorithm", "x")
    assert done.returncode == 2
    assert "Name one with --set.\n  coco_2014_val\n  coco_2017_val" in done.stderr
    done = submit("coco", run.path, "--algorithm", "x", "--set", "coco_2014_val")
    assert done.returncode == 0 and "detections_val2014_x_results.zip" in done.stdout


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["coco", "run", "--algorithm", "a_b"], "--algorithm is 'a_b'"),
        (["coco", "run", "--algorithm", "x"], "has results on pets: nothing for this server"),
        (["coco", "run", "--algorithm", "x", "--set", "pets"], "is no set that COCO's server"),
        (["coco", "run", "--algorithm", "x", "--set", "none"], "no results on none; it has them"),
        (["coco", "nowhere", "--algorithm", "x"], "nowhere is not a folder"),
        (["voc", "run", "--set", "pets"], "has no VOC year"),
        (["voc", "run", "--output", "file"], "file is a file; name a folder"),
    ],
)
def test_what_the_user_can_fix_is_a_page(
    submit: Any, make_run: Any, pets: Any, found: Any, tmp_path: Path, args: Any, words: str
) -> None:
    """Exit code 2, no traceback, no package."""
    (tmp_path / "file").write_text("", encoding="utf-8")
    make_run("pets", pets, found, year=2007 if "--output" in args else None)
    done = submit(*args)
    assert done.returncode == 2, done.stdout
    assert words in done.stderr and "Traceback" not in done.stderr
    assert not list(tmp_path.rglob("*.zip"))


def test_unclean_results_are_exit_code_1(submit: Any, make_run: Any, pets: Any, found: Any) -> None:
    found[0]["image_id"] = 7
    done = submit("coco", make_run("coco_2017_val", pets, found).path, "--algorithm", "x")
    assert done.returncode == 1
    assert "image_id 7 is not among the 3 images" in done.stderr


def test_a_ledger_that_cannot_be_written_costs_no_package(
    submit: Any, make_run: Any, pets: Any, found: Any, ledger_path: Path
) -> None:
    ledger_path.parent.write_text("in the way", encoding="utf-8")
    run = make_run("coco_2017_val", pets, found)
    done = submit("coco", run.path, "--algorithm", "x")
    assert done.returncode == 0
    assert "Warning: the ledger could not be written" in done.stderr
    assert len(list(run.submissions("coco-bbox").glob("*.zip"))) == 1


# -- the ledger ---------------------------------------------------------------------------------


def entry(sha256: str, time: str, test_set: str = "test-dev2017") -> dict[str, str]:
    return {"sha256": sha256, "time": time, "server": "coco-bbox", "set": test_set}


def test_a_ledger_is_where_the_user_keeps_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """The XDG base directory specification."""
    monkeypatch.delenv("RESDET_LEDGER")
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert ledger.ledger_path() == Path("/data/resdet/submissions.jsonl")
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", "/home/u")
    assert ledger.ledger_path() == Path("/home/u/.local/share/resdet/submissions.jsonl")


def test_no_ledger_is_an_empty_one(ledger_path: Path) -> None:
    assert ledger.read(ledger_path) == []


def test_a_line_that_was_cut_off_costs_itself_alone(ledger_path: Path) -> None:
    ledger.note(entry("a", "2026-11-24T10:00:00+00:00"), ledger_path)
    with open(ledger_path, "a", encoding="utf-8") as f:
        f.write('{"sha256": "b", "ti')
    ledger.note(entry("c", "2026-11-24T11:00:00+00:00"), ledger_path)
    assert [e["sha256"] for e in ledger.read(ledger_path)] == ["a", "c"]


def test_packages_are_counted_by_day_and_hash(ledger_path: Path) -> None:
    """The same package made twice is one; another set's is none."""
    for sha256, time, test_set in (
        ("a", "2026-11-23T23:59:59+00:00", "test-dev2017"),
        ("b", "2026-11-24T00:00:00+00:00", "test-dev2017"),
        ("b", "2026-11-24T01:00:00+00:00", "test-dev2017"),
        ("c", "2026-11-24T02:00:00+00:00", "val2017"),
    ):
        ledger.note(entry(sha256, time, test_set), ledger_path)
    entries = ledger.read(ledger_path)
    test_set = servers.coco_test_set("coco_2017_test-dev")
    assert ledger.count(entries, "coco-bbox", test_set, "2026-11-24") == 1
    assert ledger.count(entries, "coco-bbox", test_set) == 2
    assert ledger.count(entries, "voc", test_set) == 0


def test_commands_at_once_lose_no_line(ledger_path: Path) -> None:
    """Four processes write fifty lines each, of 2 kB."""
    code = (
        "import sys; from pathlib import Path; from resdet.submission import ledger\n"
        "for i in range(50): ledger.note({'n': f'{sys.argv[2]}-{i}', 'x': 'x' * 2000}, "
        "Path(sys.argv[1]))"
    )
    ledger_path.parent.mkdir()
    running = [
        subprocess.Popen([sys.executable, "-c", code, str(ledger_path), str(n)], cwd=ROOT)
        for n in range(4)
    ]
    assert [p.wait() for p in running] == [0] * 4
    assert {e["n"] for e in ledger.read(ledger_path)} == {
        f"{n}-{i}" for n in range(4) for i in range(50)
    }


# -- servers ------------------------------------------------------------------------------------


def test_every_server_has_a_state_with_a_date_and_sources() -> None:
    """COCO closed when last seen in April 2026, VOC uncertain since September 2025, ImageNet's
    since June 2015; every line of a history names where it is from."""
    known = servers.facts()["servers"]
    assert {n: (s["state"], s["as_of"]) for n, s in known.items()} == {
        "coco-bbox": ("closed", "April 2026"),
        "coco-segm": ("closed", "April 2026"),
        "voc": ("uncertain", "September 2025"),
        "ilsvrc-cls": ("uncertain", "June 2015"),
        "ilsvrc-det": ("uncertain", "June 2015"),
        "ilsvrc-loc": ("uncertain", "June 2015"),
    }
    lines = [line for s in known.values() for line in s["history"]]
    assert len(lines) == 16
    assert all(set(line) == {"when", "what", "source"} and line["source"] for line in lines)


def test_limits_are_those_of_the_guidelines() -> None:
    """test-dev 5 a day, test-challenge 5 in all, val without a limit."""
    limits = {
        name: (s.per_day, s.in_all)
        for name in ("coco_2017_val", "coco_2017_test-dev", "coco_2017_test")
        for s in [servers.coco_test_set(name)]
    }
    assert limits == {
        "coco_2017_val": (None, None),
        "coco_2017_test-dev": (5, None),
        "coco_2017_test": (None, 5),
    }
    twelve = servers.voc_test_set(2012)
    assert twelve is not None and twelve.limit == "two a day or two a week, depending on the source"
    assert servers.voc_test_set(2010) is None


def test_there_is_no_network_code() -> None:
    """Nothing here imports anything that could upload."""
    assert len(SOURCES) >= 8
    names = set()
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names.add(node.module.split(".")[0])
    assert not names & {"socket", "ssl", "urllib", "http", "ftplib", "smtplib", "requests", "httpx",
                        "subprocess", "asyncio", "webbrowser"}  # fmt: skip


def test_submission_works_without_torch_and_detectron2() -> None:
    code = "import resdet.cli.submit; print('imported')"
    assert children.printed_by(code, without=["torch", "detectron2"]) == "imported\n"


def test_the_tool_is_the_command() -> None:
    text = (ROOT / "tools" / "submit.py").read_text(encoding="utf-8")
    assert 'run_command("submit"' in text and len(text.splitlines()) < 15
