"""Rankings that are gone on with: what a stop, a wrong word or a damaged file leaves of them."""

import argparse
import dataclasses

import pytest

pytest.importorskip("detectron2")

from resdet.cli.main import main
from resdet.cli.rank import planning, row_parts
from resdet.data import DataOptions, catalog
from resdet.errors import ConfigError, DataError
from resdet.rank import random_weights
from resdet.rank.candidates import candidates_of
from resdet.rank.ranking_folder import COST, Ranking, RankPlan
from resdet.run.folder import write_json
from tests.support import tiny

PLAN = RankPlan("a", "b", "a", "b", images=600, test_images=400, size=96, steps=3, batch=8, seeds=1)
MEGABYTE = 1_000_000


def cost_of(candidate, **changes):
    return {
        "net": "resnet18", "parameters": 1, "multiply_adds": None, "ms": 5.0, "memory_mb": 9.0,
        "device": "cpu", "threads": 3, "trunk_seconds": 0.001, "step_seconds": 0.01,
        "map_bytes": MEGABYTE, "license": "", "sha256": candidate.label,
        "source": candidate.source, **changes,
    }  # fmt: skip


@pytest.fixture
def ranking(tmp_path):
    """One of two rows, planned and measured."""
    found = Ranking(
        tmp_path / "out", PLAN, tuple(candidates_of(["A=a.pth", "B=random:resnet18"])),
        {"data": "a"}, is_planned=True,
    )  # fmt: skip
    found.write()
    for candidate in found.candidates:
        write_json(found.row(candidate) / COST, cost_of(candidate))
    return found


def words(ranking, **changes):
    given = dict.fromkeys(planning.MAKING) | {"opts": [], "backbones": None, "add": []}
    given |= {"output": str(ranking.path), "cache_gb": 20.0, "full": [], "json": False}
    return argparse.Namespace(**given | changes)


# -- wrong words and damaged files -------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "page"),
    [
        (("--size", "96"), "was started without --size, and 96 is given"),
        (("--data", "x"), "was started with --data a, and x is given"),
        (("SEED", "5"), "was started without KEY VALUE, and SEED 5 is given"),
    ],
)
def test_words_that_do_not_fit_are_a_page(ranking, given, page, capsys):
    assert main(["rank", "--output", str(ranking.path), *given]) == 2
    assert page in capsys.readouterr().err


@pytest.mark.parametrize("key", sorted(planning.STATED_BY))
def test_keys_that_words_of_rank_state_are_refused(key, tmp_path, monkeypatch, capsys):
    """They would be written over, or make a ranking that is not the one that is shown."""
    monkeypatch.chdir(tmp_path)
    given = ["--backbones", "random:resnet18", "random:resnet34", "--data", "digits_test"]
    assert main(["rank", *given, key, "5"]) == 2
    assert f"{key} is what {planning.STATED_BY[key]} states" in capsys.readouterr().err


# -- sets --------------------------------------------------------------------------------------


def coco_file(root, names, image="000003"):
    """One image and one object of the last class."""
    categories = [{"id": n, "name": name} for n, name in enumerate(names, 1)]
    box = {"id": 1, "image_id": 1, "category_id": len(names), "bbox": [9, 9, 30, 30],
           "area": 900, "iscrowd": 0}  # fmt: skip
    images = [{"id": 1, "file_name": f"{image}.jpg", "width": 72, "height": 96}]
    write_json(root / "t.json", {"images": images, "annotations": [box], "categories": categories})
    return f"coco:{root / 't.json'}:{root / 'voc' / 'JPEGImages'}"


@pytest.fixture
def train(tmp_path):
    tiny.voc_tree(tmp_path / "voc")
    return catalog.load_detection(f"voc:{tmp_path / 'voc'}:train")


def test_a_test_set_may_have_its_classes_in_another_order(train, tmp_path):
    """As train_det takes it; the object stays a bee."""
    test = planning._test_set(coco_file(tmp_path, ["bee", "ape"][::-1]), DataOptions(), train)
    turned = planning._test_set(coco_file(tmp_path, ["bee", "ape"]), DataOptions(), train)
    assert test.classes == turned.classes == train.classes == ("ape", "bee")
    labels = [s.records[0]["annotations"][0]["category_id"] for s in (test, turned)]
    assert labels == [1, 0]


def test_a_test_set_of_other_classes_is_refused_with_their_names(train, tmp_path):
    name = coco_file(tmp_path, ["ape", "bee", "cat"])
    with pytest.raises(ConfigError, match="2 classes and coco:.* 3; not in both: cat"):
        planning._test_set(name, DataOptions(), train)


def test_a_test_set_is_whole_whatever_may_be_missing_of_the_training_set(train, tmp_path):
    name = coco_file(tmp_path, ["ape", "bee"], image="absent")
    with pytest.raises(DataError, match="absent"):
        planning._test_set(name, DataOptions(allow_missing=1), train)


def test_a_random_net_is_measured_on_the_set_as_the_keys_read_it(train, tmp_path, monkeypatch):
    (tmp_path / "voc" / "JPEGImages" / "000001.jpg").unlink()
    plan = dataclasses.replace(
        PLAN, data=f"voc:{tmp_path / 'voc'}:train", keys=("DATASETS.ALLOW_MISSING", "1")
    )
    made = Ranking(tmp_path / "out", plan, tuple(candidates_of(["random:resnet18", "b"])))
    given = []
    monkeypatch.setattr(random_weights, "make", lambda c, path, data, size: given.append(data))
    monkeypatch.setattr(row_parts.cost, "measure", lambda *_: argparse.Namespace(to_json=dict))
    row_parts.measure_cost(made, made.candidates[0])
    assert [len(data) for data in given] == [2]
