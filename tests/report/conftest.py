"""Made-up run folders and the report of four of them, once per session."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from resdet.report import compare
from tests.support import fabricate


@pytest.fixture(scope="session")
def demo_runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """VGG pretrained, VGG from scratch, ResNet pretrained, ResNet from scratch; 60 images."""
    return fabricate.fabricate_demo(tmp_path_factory.mktemp("demo"), num_images=60)


@pytest.fixture(scope="session")
def demo_report(demo_runs: list[Path], tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    return read_report(demo_runs, tmp_path_factory.mktemp("report"))


def read_report(runs: list[Path], output: Path) -> SimpleNamespace:
    """The report of these runs, written and read back: html, markdown, json, text, paths."""
    paths = compare(runs, output)
    return SimpleNamespace(
        paths=paths,
        html=paths.html.read_text(encoding="utf-8"),
        markdown=paths.markdown.read_text(encoding="utf-8"),
        json=json.loads(paths.json.read_text(encoding="utf-8")),
        text=paths.text,
    )


@pytest.fixture
def make_report(tmp_path: Path) -> Any:
    """make_report({}, {"net": "vgg11"}, num_images=12): a report of runs with such options."""

    def make(*runs: dict[str, Any], **common: Any) -> SimpleNamespace:
        folders = []
        for i, options in enumerate(runs):
            given = {"num_images": 12, "num_samples": 1, **common, **options}
            folders.append(fabricate.fabricate_run(tmp_path / f"run_{i}", **given))
        return read_report(folders, tmp_path / "report")

    return make
