"""Small run folders as `train_det` leaves them, made up in a second: for tests, and to look at.

    python -m tests.support.fabricate FOLDER   the demo's four runs, on 300 scenes

Ground truth depends on the data set alone, detections on the run: a skilled detector finds more
objects, places boxes tighter and knows its classes. Nothing here is a measurement.

Not for: any number that is shown to anyone.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image, ImageDraw, ImageFont

from resdet.evaluation.voc import voc_evaluation as voc
from resdet.run.folder import Run, write_json

DIGITS = tuple("0123456789")
SIDE = 144
MEAN, STD = [118.0, 118.0, 118.0], [60.0, 60.0, 60.0]


def config_tree(net: str, *, weights: str, seed: int, data_set: str) -> dict[str, Any]:
    """The part of a resolved config that a report looks at, and a little more."""
    is_vgg = net.startswith("vgg")
    stage = "conv5" if is_vgg else "res4"
    return {
        "VERSION": 2,
        "OUTPUT_DIR": "./output",
        "SEED": seed,
        "DATASETS": {"TRAIN": [data_set.replace("test", "train")], "TEST": [data_set]},
        "INPUT": {
            "FORMAT": "RGB", "EXIF": "apply", "RANDOM_FLIP": "none",
            "MIN_SIZE_TRAIN": [144], "MIN_SIZE_TEST": 144,
            "MAX_SIZE_TRAIN": 1333, "MAX_SIZE_TEST": 1333,
        },
        "MODEL": {
            "BACKBONE": {"NAME": "build_net_backbone", "FREEZE_AT": 0},
            "NET": {"NAME": net, "WIDTH": 0.375 if is_vgg else 0.5, "NORM": "BN",
                    "SHORTCUT": "", "STEM": "" if is_vgg else "small", "POOLS": 3 if is_vgg else 0},
            "PIXEL_MEAN": list(MEAN),
            "PIXEL_STD": list(STD),
            "RPN": {"IN_FEATURES": [stage], "POST_NMS_TOPK_TEST": 60},
            "ROI_HEADS": {"IN_FEATURES": [stage], "SCORE_THRESH_TEST": 0.02,
                          "NMS_THRESH_TEST": 0.5, "NUM_CLASSES": 10},
            "ROI_BOX_HEAD": {"POOLER_RESOLUTION": 6},
            "WEIGHTS": weights,
        },
        "TRANSFER": {"FROM_SCRATCH": True, "NEW": []},
        "SOLVER": {"BASE_LR": 0.02, "MAX_ITER": 800, "IMS_PER_BATCH": 4, "CHECKPOINT_PERIOD": 200},
        "TEST": {"DETECTIONS_PER_IMAGE": 50},
        "EVAL": {"VOC_STYLE": "d2", "ALLOW_LEAK": False},
    }  # fmt: skip


def fabricate_run(
    folder: Path,
    *,
    net: str = "resnet18",
    pretrained: bool = True,
    skill: float = 0.7,
    seed: int = 1,
    data_set: str = "digits_test",
    classes: Sequence[str] = DIGITS,
    absent: Sequence[str] = (),
    num_images: int = 40,
    num_evaluated: int | None = None,
    evaluators: Sequence[str] = ("voc", "coco"),
    voc_year: int | None = 2007,
    overrides: Mapping[str, Any] | None = None,
    card_changes: Mapping[str, Any] | None = None,
    info: Mapping[str, Any] | None = None,
    num_samples: int = 3,
) -> Path:
    """A finished run with results on one set; `overrides` are config keys, dotted.

    Args:
        skill: in (0, 1), share of the objects that are found.
        absent: classes without an object.
        num_evaluated: so many of the images only.
        card_changes, info: entries of the card and of run.json that replace the usual ones.
    """
    weights = f"runs/pretrain_{net}/model.safetensors" if pretrained else ""
    tree = config_tree(net, weights=weights, seed=seed, data_set=data_set)
    for key, value in (overrides or {}).items():
        _set(tree, key, value)
    run = Run.create(
        folder,
        kind="detection",
        config_text=yaml.safe_dump(tree),
        command=["train_det", "--config", f"configs/demo/{net}.yaml", "MODEL.WEIGHTS", weights],
        seed=seed,
    )
    solver = tree["SOLVER"]
    run.update(
        state="finished",
        net={"name": net, "parameters": 2_950_000 if net.startswith("resnet") else 1_790_000},
        samples=solver["MAX_ITER"] * solver["IMS_PER_BATCH"],
        train_seconds=66.4 if net.startswith("resnet") else 34.9,
        versions={"resdet": "0.1.0", "torch": "2.14.1", "detectron2": "0.6", "Pillow": "13.0.0"},
        train_sets=[{"name": tree["DATASETS"]["TRAIN"][0], "hash": "c0ffee" * 8, "images": 1000}],
    )
    run.update(**dict(info or {}))
    if pretrained:
        run.write("card.json", {**_card(net, tree), **dict(card_changes or {})})
        counts = {"expected": 60, "arrived": 60, "new": [], "left_over": ["linear.weight"]}
        run.write("transfer.json", {"file": weights, **counts})
    _write_metrics(run, skill, solver["MAX_ITER"], seed)
    present = [name for name in classes if name not in absent]
    truth = ground_truth(data_set, classes, present, num_images, evaluators, voc_year)
    write_results(
        run.results(data_set), truth, skill, seed, num_samples, num_evaluated or num_images
    )
    return folder


def fabricate_demo(folder: Path, **options: Any) -> list[Path]:
    """Four runs: VGG and ResNet, each pretrained and from scratch."""
    made = []
    for net, skills in (("vgg11", (0.74, 0.28)), ("resnet18", (0.76, 0.42))):
        for pretrained, skill in zip((True, False), skills, strict=True):
            name = f"{net}_{'pretrained' if pretrained else 'scratch'}"
            made.append(
                fabricate_run(folder / name, net=net, pretrained=pretrained, skill=skill, **options)
            )
    return made


def _set(tree: dict[str, Any], key: str, value: Any) -> None:
    *path, leaf = key.split(".")
    for part in path:
        tree = tree.setdefault(part, {})
    tree[leaf] = value


def _card(net: str, tree: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "net": net,
        "input": {"color_order": tree["INPUT"]["FORMAT"], "mean": tree["MODEL"]["PIXEL_MEAN"],
                  "std": tree["MODEL"]["PIXEL_STD"], "size": 48, "exif": "apply"},
        "data": {"name": "digits_crops_train", "images": 24000, "hash": "feed" * 16},
        "metrics": {"top1_error": 18.7, "top5_error": 2.1},
        "training": {"samples": 96000, "iterations": 750, "seconds": 54.2, "seed": 1},
        "classes": list(DIGITS),
        "config": "SOLVER: {}\n",
    }  # fmt: skip


def _write_metrics(run: Run, skill: float, iterations: int, seed: int) -> None:
    generator = np.random.default_rng([seed, round(skill * 1000)])
    lines = []
    for iteration in range(19, iterations, 20):
        progress = iteration / iterations
        loss = 0.55 + (1.6 - skill) * (1.4 * np.exp(-5 * progress) + 0.35 * (1 - progress))
        loss *= 1 + generator.normal(0, 0.07)
        row = {"iteration": iteration, "total_loss": float(loss), "lr": 0.02 * (1 - progress)}
        lines.append(row)
    text = "".join(f"{json.dumps(row)}\n" for row in lines)
    (run.path / "metrics.json").write_text(text, encoding="utf-8")


def ground_truth(
    data_set: str,
    classes: Sequence[str],
    present: Sequence[str],
    num_images: int,
    evaluators: Sequence[str],
    voc_year: int | None,
) -> dict[str, Any]:
    """1 to 6 objects per image, of the classes present; a tenth of them difficult."""
    generator = np.random.default_rng(7)
    images, annotations = [], []
    for n in range(num_images):
        image_id = f"{n + 1:06d}"
        images.append(
            {"id": image_id, "file_name": f"{image_id}.png", "width": SIDE, "height": SIDE}
        )
        for _ in range(int(generator.integers(1, 7))):
            height = float(np.exp(generator.uniform(np.log(16), np.log(56))))
            width = height * float(generator.uniform(0.55, 0.95))
            x, y = (float(generator.uniform(0, SIDE - side)) for side in (width, height))
            name = present[int(generator.integers(len(present)))]
            annotations.append({
                "id": len(annotations) + 1,
                "image_id": image_id,
                "category_id": classes.index(name) + 1,
                "bbox": [x, y, width, height],
                "area": 0.6 * width * height,
                "iscrowd": 0,
                "difficult": int(generator.random() < 0.1),
            })  # fmt: skip
    return {
        "info": {
            "data_set": data_set,
            "evaluators": list(evaluators),
            "voc_year": voc_year,
            "sources": "Digits: scikit-learn. Photos: china.jpg and flower.jpg, CC BY 2.0.",
        },
        "images": images,
        "categories": [{"id": i, "name": name} for i, name in enumerate(classes, 1)],
        "annotations": annotations,
    }


def detections(truth: Mapping[str, Any], skill: float, seed: int) -> list[dict[str, Any]]:
    """What a detector of this skill finds, and what it makes up."""
    generator = np.random.default_rng([seed, round(skill * 1000), 11])
    category_ids = [c["id"] for c in truth["categories"]]
    found = []
    for item in truth["annotations"]:
        if generator.random() > skill + 0.12:
            continue
        category_id = item["category_id"]
        if generator.random() > skill + 0.15:
            category_id = int(generator.choice(category_ids))
        found.append(_detection(generator, item, category_id, skill, low=0.25))
    for image in truth["images"]:
        for _ in range(int(generator.poisson(2.5 * (1 - skill)))):
            item = {"image_id": image["id"], "bbox": [*generator.uniform(0, 90, 2), 30.0, 40.0]}
            category_id = int(generator.choice(category_ids))
            found.append(_detection(generator, item, category_id, skill, low=0.02))
    return found


def _detection(
    generator: np.random.Generator,
    item: Mapping[str, Any],
    category_id: int,
    skill: float,
    *,
    low: float,
) -> dict[str, Any]:
    x, y, width, height = item["bbox"]
    shift = generator.normal(0, 0.16 * (1.1 - skill), 4)
    x0, y0 = max(0.0, x + shift[0] * width), max(0.0, y + shift[1] * height)
    x1 = min(float(SIDE), x + width * (1 + shift[2]))
    y1 = min(float(SIDE), y + height * (1 + shift[3]))
    strength = generator.beta(4 * skill + 0.6, 1.8) if low > 0.1 else generator.beta(1.1, 4.5)
    return {
        "image_id": item["image_id"],
        "category_id": category_id,
        "bbox": [float(x0), float(y0), float(max(x1 - x0, 2)), float(max(y1 - y0, 2))],
        "score": float(low + (0.999 - low) * strength),
    }


def write_results(
    folder: Path,
    truth: dict[str, Any],
    skill: float,
    seed: int,
    num_samples: int,
    num_evaluated: int,
) -> None:
    """results/<data set>/ with both formats of the detections."""
    expected = [image["id"] for image in truth["images"]]
    evaluated = expected[:num_evaluated]
    found = [d for d in detections(truth, skill, seed) if d["image_id"] in set(evaluated)]
    folder.mkdir(parents=True)
    write_json(folder / "ground_truth.json.gz", truth)
    write_json(folder / "coco_instances_results.json", found)
    images = {"data_set": truth["info"]["data_set"], "expected": expected, "evaluated": evaluated}
    write_json(folder / "images.json", {**images, "seconds": 0.0041 * len(evaluated)})
    if "voc" in truth["info"]["evaluators"]:
        corners = [[x, y, x + w, y + h] for x, y, w, h in (d["bbox"] for d in found)]
        boxes = voc.detections_from_boxes(
            [c["name"] for c in truth["categories"]],
            [d["image_id"] for d in found],
            [d["category_id"] - 1 for d in found],
            np.array(corners, dtype=np.float64).reshape(-1, 4),
            [d["score"] for d in found],
        )
        voc.write_detections(folder, boxes)
    if "ilsvrc" in truth["info"]["evaluators"]:
        place = {image_id: n for n, image_id in enumerate(expected, 1)}
        lines = [
            f"{place[d['image_id']]} {d['category_id']} {d['score']} {x} {y} {x + w} {y + h}"
            for d in found
            for x, y, w, h in [d["bbox"]]
        ]
        (folder / "ilsvrc_det.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    _write_samples(folder, truth, num_samples)


def _write_samples(folder: Path, truth: Mapping[str, Any], count: int) -> None:
    (folder / "samples").mkdir()
    names = {c["id"]: c["name"] for c in truth["categories"]}
    entries = []
    picks = np.unique(np.linspace(0, len(truth["images"]) - 1, count).round().astype(int))
    for image in [truth["images"][i] for i in picks.tolist()]:
        file = f"samples/{image['id']}.jpg"
        objects = [a for a in truth["annotations"] if a["image_id"] == image["id"]]
        draw_scene(objects, names, seed=int(image["id"])).save(folder / file, quality=90)
        entries.append({"image_id": image["id"], "file": file})
    write_json(folder / "samples.json", entries)


def draw_scene(
    objects: Sequence[Mapping[str, Any]], names: Mapping[int, str], *, seed: int
) -> Image.Image:
    """Soft colours with the objects' names painted into their boxes."""
    generator = np.random.default_rng(seed)
    coarse = generator.uniform(40, 215, (5, 5, 3)).astype(np.uint8)
    photo = Image.fromarray(coarse).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(photo)
    for item in objects:
        x, y, width, height = item["bbox"]
        colour = tuple(int(v) for v in generator.integers(0, 256, 3))
        font = ImageFont.load_default(height * 1.25)
        draw.text(
            (x + width / 2, y + height / 2), names[item["category_id"]], colour, font, anchor="mm"
        )
    return photo


if __name__ == "__main__":
    for path in fabricate_demo(Path(sys.argv[1]), num_images=300, num_samples=12):
        sys.stdout.write(f"{path}\n")
