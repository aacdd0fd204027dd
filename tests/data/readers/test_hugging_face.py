"""Hugging Face `datasets` as a set: the same as class folders, and nothing is fetched."""

from __future__ import annotations

import os
import pickle
import socket
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from resdet.data import catalog
from resdet.data.options import DataOptions
from resdet.data.readers import hugging_face
from resdet.data.readers.class_folders import load_folder
from resdet.data.records import part_of
from resdet.errors import DataError
from tests.support.shard_files import jpeg

pytestmark = pytest.mark.usefixtures("private_cache")
CLASSES = ["ant", "bee", "cat"]
# Row to (class, file), in no order.
ROWS = (("cat", "z.jpg"), ("ant", "b.jpg"), ("bee", "10.jpg"), ("ant", "a-1.jpg"), ("bee", "9.jpg"))


@pytest.fixture
def hf(tmp_path, monkeypatch):
    """The library, with its cache in the test's folder."""
    datasets = pytest.importorskip("datasets")
    if not hasattr(datasets, "load_from_disk"):  # the folder datasets/ of the checkout
        pytest.skip("the extra hf is not installed")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf_cache")
    return datasets


def entries(**change):
    images = [{"bytes": jpeg(row), "path": f"train/{file}"} for row, (_, file) in enumerate(ROWS)]
    labels = [CLASSES.index(c) for c, _ in ROWS]
    return {"image": images, "label": labels, **change}


def table(hf, features=(), **change):
    kinds = {"image": hf.Image(), "label": hf.ClassLabel(names=CLASSES), **dict(features)}
    return hf.Dataset.from_dict(entries(**change), features=hf.Features(kinds))


def saved(hf, tmp_path, layout: str) -> str:
    """The name of the same rows in one of the layouts."""
    folder, data = tmp_path / "mine", table(hf)
    if layout == "parquet":
        (folder / "data").mkdir(parents=True)
        data.to_parquet(str(folder / "data" / "train-00000-of-00001.parquet"))
    elif layout == "several files":
        data.save_to_disk(str(folder), num_shards=3)
    elif layout == "chosen rows":
        shuffled = hf.concatenate_datasets([data, data]).select([9, 3, 2, 6, 0])
        hf.DatasetDict({"train": shuffled, "val": data}).save_to_disk(str(folder))
    else:
        hf.DatasetDict({"train": data, "val": data}).save_to_disk(str(folder))
    return f"hf:{folder}:train"


def in_folders(tmp_path) -> Path:
    for row, (name, file) in enumerate(ROWS):
        (tmp_path / "folders" / name).mkdir(parents=True, exist_ok=True)
        (tmp_path / "folders" / name / file).write_bytes(jpeg(row))
    return tmp_path / "folders"


@pytest.mark.parametrize("layout", ["splits", "parquet", "several files", "chosen rows"])
def test_the_same_images_are_the_same_set_in_folders_and_in_tables(hf, tmp_path, layout) -> None:
    data = load_folder(in_folders(tmp_path), name="folders")
    found = catalog.load_classification(saved(hf, tmp_path, layout))
    assert (found.classes, found.labels.tolist(), found.hash) == (
        data.classes, data.labels.tolist(), data.hash,
    )  # fmt: skip
    copy = pickle.loads(pickle.dumps(part_of(found, 3)))
    for index in range(len(data)):
        assert found.name_of(index) == data.name_of(index)
        np.testing.assert_array_equal(found.read(index), data.read(index))
    np.testing.assert_array_equal(copy.read(2), data.read(4))
    assert "row " in found.encoded.where(0) and found.encoded.where(0).endswith("a-1.jpg")


def test_the_hub_is_not_asked(hf, tmp_path, monkeypatch) -> None:
    asked = []

    def refuse(*where):
        asked.append(where)
        raise OSError("no network in this test")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    with pytest.raises(
        DataError, match=r"(?s)no folder someone/birds.*fetch it once.*load_dataset"
    ):
        catalog.load_classification("hf:someone/birds:train")
    assert asked == [] and not hf.config.HF_HUB_OFFLINE
    catalog.load_classification(saved(hf, tmp_path, "parquet"))
    assert asked == []


def test_without_the_library_a_page_says_what_to_install(monkeypatch) -> None:
    for there in (None, types.ModuleType("datasets")):  # a folder datasets/ is a module, too
        monkeypatch.setitem(sys.modules, "datasets", there)
        with pytest.raises(DataError, match=r'pip install "resdet\[hf\]"'):
            catalog.load_classification("hf:someone/birds:train")


@pytest.mark.parametrize("name", ["hf:birds", "hf::train", "hf:birds:", "hf:"])
def test_a_name_of_another_form_is_refused(name) -> None:
    with pytest.raises(DataError, match="hf:NAME_OR_FOLDER:SPLIT"):
        catalog.require([name])


def load_saved(data, tmp_path, **options):
    data.save_to_disk(str(tmp_path / "mine"))
    name = f"hf:{tmp_path / 'mine'}:train"
    return catalog.load_classification(name, options=DataOptions(**options))


def test_faults_are_named_by_row(hf, tmp_path) -> None:
    images = entries()["image"]
    images[1] = {"bytes": b"no image", "path": "b.jpg"}
    with pytest.raises(DataError, match=r"row 1: b\.jpg is text"):
        load_saved(table(hf, image=images), tmp_path)
    for labels, found in (
        ([0, 1, 2, None, 1], "row 3: label is None"),
        ([0, -1, 1, 1, 2], "row 1"),
    ):
        with pytest.raises(DataError, match=found):
            load_saved(table(hf, label=labels), tmp_path)
    for features, change, found in (
        ({"image": hf.Value("string")}, {"image": ["a"] * 5}, "0 columns of images"),
        ({"other": hf.Image()}, {"image": entries()["image"], "other": images}, None),
        ({"label": hf.Value("string")}, {"label": list("abcde")}, "no column of labels"),
        ({"label": hf.Value("int64")}, {"label": [0, 1, 2, 3, 99]}, "labels up to 99 in 5 rows"),
    ):
        data = table(hf, features, **change)
        if found is None:
            assert len(load_saved(data, tmp_path)) == 5
            continue
        with pytest.raises(DataError, match=found):
            load_saved(data, tmp_path)


def test_labels_without_names_are_numbers_and_a_split_that_is_not_there_lists_the_others(
    hf, tmp_path
) -> None:
    data = table(hf, {"label": hf.Value("int32")})
    assert load_saved(data, tmp_path).classes == ("0", "1", "2")
    name = saved(hf, tmp_path / "other", "splits").replace(":train", ":test")
    with pytest.raises(DataError, match="no split 'test'. It has: train, val"):
        catalog.load_classification(name)


def test_fine_labels_count_where_there_are_coarse_ones(hf, tmp_path) -> None:
    """As in the hub's CIFAR-100."""
    kinds = {"image": hf.Image(), "fine_label": hf.ClassLabel(names=CLASSES),
             "coarse_label": hf.ClassLabel(names=["animal"])}  # fmt: skip
    given = entries()
    rows = {"image": given["image"], "fine_label": given["label"], "coarse_label": [0] * 5}
    data = hf.Dataset.from_dict(rows, features=hf.Features(kinds))
    assert load_saved(data, tmp_path).classes == tuple(CLASSES)


def test_images_that_are_files_are_read_from_them(hf, tmp_path) -> None:
    """As the library's own folders of images have them."""
    root = in_folders(tmp_path)
    paths = [str(root / c / f) for c, f in ROWS]
    images = [{"bytes": None, "path": p} for p in paths]
    data = table(hf, image=images)
    found = hugging_face._names_and_sizes(data, "image", hugging_face.Faults("x", "y"))
    assert found[0] == [f for _, f in ROWS] and found[1].tolist() == [
        os.stat(p).st_size for p in paths
    ]
    faults = hugging_face.Faults("x", "y")
    gone = table(hf, image=[{"bytes": None, "path": "https://x/a.jpg"}, *images[1:]])
    hugging_face._names_and_sizes(gone, "image", faults)
    assert "row 0 has no bytes and no file on this machine" in faults.all[0]
