"""A training on shards is the training on the same images in class folders, to the bit."""

from __future__ import annotations

import json

import pytest
import torch

pytest.importorskip("detectron2")

from resdet import weights
from resdet.cli.evaluate.class_members import image_names
from resdet.data import catalog
from resdet.data.readers.class_folders import load_folder
from resdet.data.shards.making import make_shards
from tests.support import children, tiny, trainings


def run(folder, name, *keys):
    done = children.run_cli(
        "pretrain_cls", "--config", "c.yaml", "--output", name, *keys, cwd=folder
    )
    assert done.returncode == 0, done.stderr
    return done


def found(folder):
    tensors, card = weights.load(folder / "model.safetensors")
    lines = [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]
    names = ("iteration", "total_loss", "train_top1_error", "lr")
    return tensors, card, [{k: line[k] for k in names if k in line} for line in lines]


def test_losses_and_weights_are_those_of_folders(tmp_path):
    """Shards of a few images, shuffled, read by one worker; what a resume compares is the same."""
    tiny.class_folders(tmp_path / "data")
    keys = {}
    for split in ("train", "val"):
        data = load_folder(tmp_path / "data" / split, name=split)
        made = make_shards(data, tmp_path / "shards" / split, stem=split, shard_mb=0.02, seed=5)
        assert made.shards > 2
        keys[split] = made.name
    config = trainings.classifier({"DATALOADER.NUM_WORKERS": 1})
    (tmp_path / "c.yaml").write_text(config, encoding="utf-8")
    as_shards = ["PRETRAIN.TRAIN", keys["train"], "PRETRAIN.VAL", keys["val"]]
    run(tmp_path, "folders")
    run(tmp_path, "shards", *as_shards)
    one, card, losses = found(tmp_path / "folders")
    two, other, same = found(tmp_path / "shards")
    assert all(torch.equal(one[k], two[k]) for k in one) and losses == same and losses
    assert card.data["hash"] == other.data["hash"] and card.metrics == other.metrics
    sets = [
        json.loads((tmp_path / name / "run.json").read_text())["train_sets"][0]
        for name in ("folders", "shards")
    ]
    assert all(sets[0][k] == sets[1][k] for k in ("hash", "files", "images"))


def test_scores_of_folders_and_of_shards_are_of_the_same_images(tmp_path):
    """`evaluate cls` keeps scores by the set's hash and pairs images by their names."""
    data = load_folder(tiny.class_folders(tmp_path / "data") / "train", name="train")
    made = make_shards(data, tmp_path / "shards", seed=1)
    shards = catalog.load_classification(made.name)
    assert image_names(shards) == image_names(data) and shards.hash == data.hash
    assert (shards.labels == data.labels).all()
