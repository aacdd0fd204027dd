"""A detector with masks, trained and scored through the command: curves, both APs, kills."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("detectron2")

import resdet
from resdet.cli.main import main
from resdet.evaluation.inputs.masks import mask_area
from resdet.evaluation.inputs.result_folder import evaluate_folder
from resdet.run.folder import Run, read_json
from tests.support import children, trainings
from tests.support.coco_json import by_pycocotools
from tests.support.masked_sets import masked_tree

SETS = {
    "DATASETS.TRAIN": ["coco:set/train.json:set/images"],
    "DATASETS.TEST": ["coco:set/test.json:set/images"],
}
KEYS = {
    **SETS,
    "MODEL.MASK_ON": True,
    "MODEL.ROI_MASK_HEAD.CONV_DIM": 8,
    "SOLVER.MAX_ITER": 6,
    "SOLVER.CHECKPOINT_PERIOD": 3,
    "MODEL.RPN.POST_NMS_TOPK_TRAIN": 30,
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 8,
    "TEST.EVAL_PERIOD": 3,
    "TEST.BEST_METRIC": "segm_AP50",
}
CONFIG = trainings.detector(trainings.FROM_SCRATCH, KEYS)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("masks")
    masked_tree(place / "set")
    (place / "c.yaml").write_text(CONFIG, encoding="utf-8")
    done = children.run_cli(*train("one"), cwd=place)
    assert done.returncode == 0, done.stderr
    (place / "one.txt").write_text(done.stdout, encoding="utf-8")
    return place


def train(output, *more):
    return ("train_det", "--config", "c.yaml", "--output", output, *more)


def folder_of(run_path):
    run = Run.open(run_path)
    (name,) = run.result_sets()
    return run.results(name)


def test_both_aps_are_pycocotools_of_the_files_that_the_run_leaves(place):
    """Masks as Detectron2 scores them: without boxes, so that sizes are the masks'."""
    folder = folder_of(place / "one")
    truth = read_json(folder / "ground_truth.json.gz")
    results = read_json(folder / "coco_instances_results.json")
    assert results and all({"bbox", "segmentation"} <= r.keys() for r in results)
    masks = [{k: v for k, v in r.items() if k != "bbox"} for r in results]
    # Its loader takes an area from a box, where there is one.
    for name, task, entries in (("coco", "bbox", results), ("coco_segm", "segm", masks)):
        engine = by_pycocotools(truth, entries, task)
        numbers = read_json(folder / f"{name}.json")
        keys = list(numbers)[2:14]
        ours = [-1.0 if numbers[k] is None else numbers[k] for k in keys]
        np.testing.assert_allclose(ours, engine.stats, atol=1e-12)
        assert numbers["protocol"] == f"COCO {task}"
    text = (place / "one.txt").read_text(encoding="utf-8")
    assert text.index("COCO bbox (official)") < text.index("COCO segm (official)")


def test_the_fast_engine_gives_the_same_numbers(place):
    folder = folder_of(place / "one")
    official, fast = (evaluate_folder(folder, engine=e) for e in ("official", "fast"))
    assert fast.segm.engine.startswith("fast")
    for name, value in official.segm.numbers.items():
        assert fast.segm.numbers[name] == pytest.approx(value, abs=1e-12)


def test_curves_and_the_best_model_go_by_masks(place):
    lines = (place / "one" / "metrics.json").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    names = {name.rpartition("/")[2] for row in rows for name in row if "segm_" in name}
    assert names == {"segm_AP", "segm_AP50"}
    assert all("loss_mask" in row for row in rows if "total_loss" in row)
    assert Run.open(place / "one").info["best"]["metric"].endswith("/segm_AP50")


def test_pictures_have_the_runs_own_masks(place, capsys):
    """`detect`, its Python twin and `export_predictions`, against the run's result file."""
    results = read_json(folder_of(place / "one") / "coco_instances_results.json")
    of_image = {}
    for entry in sorted(results, key=lambda r: -r["score"]):  # stable, as pictures are sorted
        of_image.setdefault(f"{entry['image_id']}.png", []).append(entry)
    files = [str(place / "set" / "images" / name) for name in of_image]
    output, drawn = place / "found.json", place / "drawn"
    words = ["detect", str(place / "one"), *files, "--output", str(output), "--draw", str(drawn)]
    assert main([*words, "--draw-score", "0", "MODEL.DEVICE", "cpu"]) == 0, capsys.readouterr().err
    found = read_json(output)
    names = {image["id"]: image["file_name"] for image in found["images"]}
    masks = {name: [] for name in of_image}
    for entry in found["annotations"]:
        masks[names[entry["image_id"]]].append(entry["segmentation"])
        assert entry["area"] == mask_area(entry["segmentation"])
    assert masks == {name: [r["segmentation"] for r in own] for name, own in of_image.items()}
    assert len(list(drawn.iterdir())) == len(files)

    detector = resdet.load_detector(place / "one", device="cpu")
    (twin,) = detector([files[0]], top=3)
    own = next(iter(of_image.values()))[:3]
    assert twin.masks.shape == (3, twin.height, twin.width) and twin.masks.dtype == bool
    assert twin.masks.sum(axis=(1, 2)).tolist() == [mask_area(r["segmentation"]) for r in own]

    out = place / "exported"
    assert (
        main(["export_predictions", str(place / "one"), "--to", "coco", "--output", str(out)]) == 0
    )
    exported = read_json(out / "predictions_one.json")["annotations"]
    key = lambda r: (r["image_id"], json.dumps(r["segmentation"]))  # noqa: E731
    assert sorted(map(key, exported)) == sorted(map(key, results))
    words = ["visualize", str(place / "one"), "--worst", "2", "--score", "0"]
    assert main([*words, "--output", str(place / "looked")]) == 0, capsys.readouterr().err
    panels = [np.asarray(Image.open(p)) for p in (place / "looked" / "images").iterdir()]
    assert len(panels) == 2


def test_killed_and_resumed_equals_one_go_to_the_bit(place):
    killed = children.run_cli(*train("two"), cwd=place, kill_at=4)
    assert killed.returncode == -9, killed.stderr
    again = children.run_cli(*train("two", "--resume"), cwd=place)
    assert again.returncode == 0, again.stderr
    one, two = (
        torch.load(place / n / "model_final.pth", weights_only=True)["model"]
        for n in ("one", "two")
    )
    assert one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in one)
    assert any("mask_head" in name for name in one)
    for name in ("coco_instances_results.json", "coco_segm.json"):
        files = [folder_of(place / run) / name for run in ("one", "two")]
        assert files[0].read_bytes() == files[1].read_bytes()


def test_masks_that_changed_are_refused_on_a_resume(place):
    """Boxes, and with them the set's hash, are the same."""
    killed = children.run_cli(*train("three"), cwd=place, kill_at=4)
    assert killed.returncode == -9, killed.stderr
    file = place / "set" / "train.json"
    before = file.read_text(encoding="utf-8")
    content = json.loads(before)
    content["annotations"][0]["segmentation"][0][0] += 0.5
    file.write_text(json.dumps(content), encoding="utf-8")
    try:
        again = children.run_cli(*train("three", "--resume"), cwd=place)
    finally:
        file.write_text(before, encoding="utf-8")
    assert again.returncode == 2 and "other masks" in again.stderr, again.stderr


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (("INPUT.MASK_FORMAT", "rle"), "polygon, bitmask"),
        (("MODEL.MASK_ON", "False", "DATASETS.DROP_MASKLESS", "1"), "Set MODEL.MASK_ON, or leave"),
        (("DATASETS.TRAIN", "('coco:runs/train.json:runs/images',)"), "MASK_FORMAT bitmask"),
    ],
    ids=["format", "dropped without masks", "run lengths"],
)
def test_what_cannot_train_masks_is_refused_with_what_to_set(place, keys, message):
    if not (place / "runs").exists():
        masked_tree(place / "runs", run_lengths=True)
    extra = ("DATASETS.TEST", "('coco:runs/test.json:runs/images',)")
    done = children.run_cli(*train(f"refused_{time.time_ns()}"), *keys, *extra, cwd=place)
    assert done.returncode == 2 and message in done.stderr, done.stderr


def test_run_lengths_train_as_bitmaps_and_a_part_is_scored_by_masks_too(place):
    if not (place / "runs").exists():
        masked_tree(place / "runs", run_lengths=True)
    keys = {
        "INPUT.MASK_FORMAT": "bitmask",
        "DATASETS.TRAIN": "('coco:runs/train.json:runs/images',)",
        "TEST.EVAL_PERIOD": "1",
        "TEST.EVAL_IMAGES": "2",
        "EVAL.ENGINE": "fast",
        "TEST.BEST_METRIC": "",
        "SOLVER.MAX_ITER": "2",
    }
    words = [word for pair in keys.items() for word in pair]
    done = children.run_cli(*train("bitmaps"), *words, cwd=place)
    assert done.returncode == 0, done.stderr
    assert (folder_of(place / "bitmaps") / "coco_segm.json").exists()
    text = (place / "bitmaps" / "metrics.json").read_text(encoding="utf-8")
    assert "(2 of 3 images)/segm_AP" in text


# -- from boxes to masks, and back ----------------------------------------------------------------


def test_a_detector_of_boxes_starts_one_of_masks_whose_head_is_declared_new(place):
    """And the other way the mask head stays behind; scored by its boxes alone, too."""
    few = ("SOLVER.MAX_ITER", "1", "TEST.EVAL_PERIOD", "0", "TEST.BEST_METRIC", "")
    off = ("MODEL.MASK_ON", "False", "MODEL.ROI_MASK_HEAD.CONV_DIM", "256")
    boxes = children.run_cli(
        *train("boxes"), *few, *off, "MODEL.WEIGHTS", "one/model_final.pth", cwd=place
    )
    assert boxes.returncode == 0, boxes.stderr
    transfer = Run.open(place / "boxes").read("transfer.json")
    assert transfer["left_over"] == [
        f"roi_heads.mask_head.{layer}.{leaf}"
        for layer in ("deconv", "predictor")
        for leaf in ("weight", "bias")
    ]
    assert not (folder_of(place / "boxes") / "coco_segm.json").exists()

    again = (*few, "MODEL.WEIGHTS", "boxes/model_final.pth")
    refused = children.run_cli(*train("masks"), *again, cwd=place)
    assert refused.returncode == 2, refused.stderr
    assert "TRANSFER.NEW \"('roi_heads.mask_head.*',)\"" in refused.stderr
    new = ("TRANSFER.NEW", "('roi_heads.mask_head.*',)")
    done = children.run_cli(*train("masks2"), *again, *new, cwd=place)
    assert done.returncode == 0, done.stderr
    transfer = Run.open(place / "masks2").read("transfer.json")
    assert len(transfer["new"]) == 4 and transfer["left_over"] == []


# -- a package for COCO's server ---------------------------------------------------------------


def test_submit_packs_the_masks_of_a_run_and_finds_them_clean(place):
    """The official file's name makes it a set that the server knows; classes are COCO's 3 and 4."""
    gt = place / "set" / "instances_val2017.json"
    gt.write_bytes((place / "set" / "test.json").read_bytes())
    name = "coco:set/instances_val2017.json:set/images"
    keys = ("DATASETS.TEST", f"('{name}',)", "TEST.BEST_METRIC", "", "TEST.EVAL_PERIOD", "0")
    scored = children.run_cli(*train("one", "--eval-only"), *keys, cwd=place)
    assert scored.returncode == 0, scored.stderr
    ledger = {"RESDET_LEDGER": str(place / "ledger.jsonl")}
    tool = children.ROOT / "tools" / "submit.py"
    made = children.python(tool, "coco", "one", "--set", name, "--algorithm", "x", cwd=place,
                           **ledger)  # fmt: skip
    assert made.returncode == 0, made.stderr
    (file,) = (place / "one" / "submissions" / "coco-segm").glob("*.zip")
    assert file.name == "detections_val2017_x_results.zip" and "masks as they are" in made.stdout
    checked = children.python(
        tool, "check", file, "--gt", gt, "--task", "segm", cwd=place, **ledger
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    folder = Run.open(place / "one").results(name)
    ap = read_json(folder / "coco_segm.json")["AP"]
    assert f"{100 * ap:.2f}" in made.stdout or f"{100 * ap:.1f}" in made.stdout
