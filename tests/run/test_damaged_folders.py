"""Every file of a run folder, damaged in every way: commands that read it end with a page.

A damage may be harmless (0, or 1 for NOT COMPARABLE) where the file is not needed; it is never
"a bug in resdet" with a traceback, and never something that waits for ever.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from resdet.cli.main import run_command
from resdet.errors import ResdetError
from resdet.evaluation.inputs.result_folder import evaluate_folder
from resdet.report.provenance import provenance
from resdet.report.runs import read_columns
from resdet.report.scores import read_scores
from resdet.run import layout
from resdet.run.folder import Run, write_json
from resdet.submission.source import read_source
from tests.support import fabricate
from tests.support.damages import damages, put


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("whole")
    made = {"num_images": 3, "num_samples": 1}
    one = fabricate.fabricate_run(folder / "one", **made)
    place = Run.open(one).results("digits_test")
    for metric, values in evaluate_folder(place).to_json().items():
        write_json(place / layout.SCORES[metric], values)
    return one, fabricate.fabricate_run(folder / "two", net="vgg11", **made)


def files_of(run: Path) -> list[Path]:
    return sorted(p.relative_to(run) for p in run.rglob("*") if p.is_file())


FILES = (
    "card.json", "config.yaml", "metrics.json", "run.json", "transfer.json",
    "results/digits_test/coco.json", "results/digits_test/coco_instances_results.json",
    "results/digits_test/comp4_det_test_0.txt", "results/digits_test/ground_truth.json.gz",
    "results/digits_test/images.json", "results/digits_test/samples.json",
    "results/digits_test/voc.json",
)  # fmt: skip


def test_the_list_of_files_is_whole(runs: tuple[Path, Path]) -> None:
    there = {str(p) for p in files_of(runs[0])}
    there -= {p for p in there if ("comp4" in p and not p.endswith("_0.txt")) or p.endswith(".jpg")}
    assert there == set(FILES)


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_read_or_refused(
    runs: tuple[Path, Path], name: str, tmp_path: Path
) -> None:
    """Every damage, by what reads the folder for `compare` and `submit`."""
    one, two = runs
    copy = tmp_path / "one"
    shutil.copytree(one, copy)
    path = copy / name
    whole, wrong, count = path.read_bytes(), [], 0
    for damage, content in damages(path):
        put(path, content)
        for read in (read_for_report, read_for_submission):
            count += 1
            try:
                read(copy, two)
            except ResdetError as error:
                str(error).encode()
            except Exception as error:
                wrong.append(f"{read.__name__}, {damage}: {error!r}"[:200])
        path.write_bytes(whole)
    assert count > 25
    assert not wrong, f"{len(wrong)} of {count}:\n" + "\n".join(wrong)


def read_for_report(run: Path, other: Path) -> None:
    columns = read_columns([run, other])
    for column in columns:
        provenance(column)
    for data_set in columns[0].run.result_sets():
        scores = read_scores(columns[0], data_set)
        assert scores.samples is not None
    columns[0].run.metrics()


def read_for_submission(run: Path, other: Path) -> None:
    for data_set in Run.open(run).detected_sets():
        read_source(Run.open(run), data_set)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["binary", "nested", "a folder"])
def test_the_command_ends_with_a_page(
    runs: tuple[Path, Path],
    name: str,
    damage: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    one, two = runs
    copy = tmp_path / "one"
    shutil.copytree(one, copy)
    content = dict(damages(copy / name)).get(damage)
    put(copy / name, content)
    if damage == "a folder":
        (copy / name).mkdir()
    code = run_command("compare", [str(copy), str(two), "--output", str(tmp_path / "report")])
    assert code in (0, 1, 2)
    assert "Traceback" not in capsys.readouterr().err
