"""Presets by name: in the checkout, and packed beside the package as a wheel has them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from resdet.config import presets
from resdet.errors import ConfigError

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


def test_a_name_is_the_file_of_the_checkout() -> None:
    assert presets.find("coco_r101") == CONFIGS / "coco_r101.yaml"
    assert presets.find("coco_r101_fpn") == CONFIGS / "fpn" / "coco_r101_fpn.yaml"


def test_a_path_at_the_top_of_configs_finds_presets_of_its_folders(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As people type it, and as older pages have it; in another folder its name is told."""
    monkeypatch.chdir(CONFIGS.parent)
    file = CONFIGS / "alternating" / "voc07_vgg16_alternating.yaml"
    assert presets.find("configs/voc07_vgg16_alternating.yaml") == file
    with pytest.raises(ConfigError, match="a preset of that name: --config voc07_vgg16_altern"):
        presets.find("configs/fpn/voc07_vgg16_alternating.yaml")


def test_every_file_that_is_no_base_has_a_name_of_its_own() -> None:
    """Two presets of one stem would hide one another."""
    files = [f for f in CONFIGS.rglob("*.yaml") if f.parent.name != "base"]
    stems = [f.stem for f in files if not f.stem.startswith("base_")]
    assert sorted(stems) == list(presets.names())
    assert len(set(stems)) == len(stems)


def test_names_of_one_folder() -> None:
    assert presets.names("dc5") == ("coco_r101_dc5", "coco_r50_dc5")


def test_a_path_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("coco_r101").touch()
    assert presets.find("coco_r101") == Path("coco_r101")
    assert presets.find("none.yaml") == Path("none.yaml")
    Path("coco_r50").mkdir()
    assert presets.find("coco_r50") == CONFIGS / "coco_r50.yaml"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("coco_r1o1", "no preset of the name coco_r1o1; .*Did you mean coco_r101"),
        ("zzz", "no preset of the name zzz; .*--help lists them"),
        ("coco_r101.yaml", "coco_r101.yaml does not exist. There is .*: --config coco_r101$"),
        ("configs/coco_r101.yaml", "configs/coco_r101.yaml does not exist.*--config coco_r101"),
    ],
)
def test_what_is_not_there_is_told_with_what_is(
    name: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=words):
        presets.find(name)


def test_a_wheel_has_them_in_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The packed folder is used although a folder `configs` of somebody else lies beside."""
    package = tmp_path / "resdet"
    shutil.copytree(CONFIGS, package / "presets")
    (tmp_path / "configs").mkdir()
    monkeypatch.setattr(presets, "__file__", str(package / "config" / "presets.py"))
    assert presets.find("voc07_r18") == package / "presets" / "voc07_r18.yaml"
    shutil.rmtree(package / "presets")
    (tmp_path / "configs").rmdir()
    with pytest.raises(ConfigError, match="neither in .*Install it again"):
        presets.root()
