"""A whole detector that comes by an address: what its run folders have of where it came from."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("detectron2")

from resdet.cli.main import run_command
from resdet.report.provenance import provenance
from resdet.report.runs import read_columns
from resdet.run import layout
from resdet.run.folder import Run
from tests.support import detector_runs

ADDRESS = "detectron2://COCO-Detection/tiny/1/model_final.pth"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained detector, and the same file where Detectron2 keeps what it has fetched."""
    place = tmp_path_factory.mktemp("by_address")
    model = detector_runs.train(place, "first") / layout.DETECTOR
    target = place / "iopath/detectron2/COCO-Detection/tiny/1/model_final.pth"
    target.parent.mkdir(parents=True)
    shutil.copy(model, target)
    return place


def run_with(place: Path, name: str, *words: str) -> Run:
    with detector_runs.within(place), pytest.MonkeyPatch.context() as patch:
        patch.setenv("FVCORE_CACHE", "iopath")
        patch.setenv("HF_HUB_OFFLINE", "1")
        command = ["--config", "c.yaml", "--output", name, *words, "MODEL.WEIGHTS", ADDRESS]
        assert run_command("train_det", command) == 0
    return Run.open(place / name)


def expected(place: Path) -> dict[str, str]:
    """The hash is of the file as it lies there; the licence is MODEL_ZOO.md's."""
    model = (place / "first" / layout.DETECTOR).read_bytes()
    return {
        "address": ADDRESS,
        "url": "https://dl.fbaipublicfiles.com/detectron2/COCO-Detection/tiny/1/model_final.pth",
        "sha256": hashlib.sha256(model).hexdigest(),
        "license": "cc-by-sa-3.0",
    }


def shown(run: Run) -> dict[str, Any]:
    return dict(provenance(read_columns([run.path, run.path.parent / "first"])[0])["rows"])


def test_a_scored_detector_states_address_hash_and_licence(place: Path) -> None:
    """Also when it is scored again, which fetches nothing."""
    run = run_with(place, "scored", "--eval-only")
    assert run.info["scored_source"] == expected(place)
    assert "weights_source" not in run.info  # what it was trained from, nobody knows
    assert run_with(place, "scored", "--eval-only").info["scored_source"] == expected(place)
    row = shown(run)["weights from"]
    assert row.startswith(f"{ADDRESS}, SHA-256 ") and row.endswith(", licence cc-by-sa-3.0")


def test_a_detector_that_goes_on_from_one_states_it_too(place: Path) -> None:
    run = run_with(place, "tuned", "TRANSFER.HEADS", "by_name")
    assert run.info["weights_source"] == expected(place)
    assert "scored_source" not in run.info
    assert ADDRESS in shown(run)["weights from"]


def test_a_file_by_its_path_has_no_source(place: Path) -> None:
    info = Run.open(place / "first").info
    assert not {"weights_source", "scored_source"} & set(info)
