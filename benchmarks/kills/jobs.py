"""Two small trainings as users type them, and whether two of their run folders are equal.

Both have live batch norm, momentum, evaluations between steps and a final scoring; each takes a few
seconds. Nothing is imported from the tests.

Not for: what ends a training (`ends`, `faults`).
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file

from benchmarks.kills.starts import Attempt, start

STEPS = 22
LAST_CHECKPOINT = f"checkpoints/step_{STEPS:07d}.pth"
BUG = "This is a bug in resdet"
# What a clock measures, in metrics.json and in results.
TIMES = ("time", "data_time", "eta_seconds", "rank_data_time")

CLASSIFIER = """
MODEL: {DEVICE: cpu, NET: {NAME: resnet18, WIDTH: 0.125, STEM: small}}
INPUT: {FORMAT: RGB}
PRETRAIN: {TRAIN: data/train, VAL: data/val, CROP: 16, TEST_SIDE: 18, AUGMENTATION: area,
           BN_IMAGES: 24}
"""
DETECTOR = """
MODEL:
  META_ARCHITECTURE: GeneralizedRCNN
  DEVICE: cpu
  BACKBONE: {NAME: build_net_backbone}
  NET: {NAME: resnet18, WIDTH: 0.125}
  ANCHOR_GENERATOR: {SIZES: [[32, 64]]}
  RPN: {POST_NMS_TOPK_TRAIN: 30, POST_NMS_TOPK_TEST: 10}
  ROI_HEADS: {NAME: RegionHeads, SCORE_THRESH_TEST: 0.0, BATCH_SIZE_PER_IMAGE: 8}
TRANSFER: {FROM_SCRATCH: true}
INPUT: {MIN_SIZE_TRAIN: [64], MIN_SIZE_TEST: 64}
DATASETS: {TRAIN: ['voc:voc:train'], TEST: ['voc:voc:test']}
EVAL: {SAMPLES: 2}
"""
SOLVER = f"""
SOLVER: {{IMS_PER_BATCH: IMAGES, BASE_LR: 0.01, MAX_ITER: {STEPS}, STEPS: [15], WARMUP_ITERS: 0,
         CHECKPOINT_PERIOD: 5}}
TEST: {{EVAL_PERIOD: 10}}
SEED: 3
"""


@dataclass(frozen=True)
class Trainer:
    """A command, its config, and the file that it leaves at last."""

    command: str
    config: str
    weights: str


TRAINERS = {
    "pretrain_cls": Trainer(
        "pretrain_cls", CLASSIFIER + SOLVER.replace("IMAGES", "6"), "model.safetensors"
    ),
    "train_det": Trainer("train_det", DETECTOR + SOLVER.replace("IMAGES", "2"), "model_final.pth"),
}


# -- data ------------------------------------------------------------------------------------------


def make_place(place: Path, trainer: Trainer) -> Path:
    """A folder with data, config and nothing else; the same data in each."""
    place.mkdir(parents=True)
    (place / "c.yaml").write_text(trainer.config, encoding="utf-8")
    if trainer.command == "pretrain_cls":
        for split, images in (("train", 12), ("val", 24)):
            for label, name in enumerate(("blue", "green", "red")):
                folder = place / "data" / split / name
                folder.mkdir(parents=True)
                for number in range(images):
                    Image.fromarray(_picture(len(split) * 100 + number, label, 24, 20)).save(
                        folder / f"{number}.png"
                    )
    else:
        _make_voc(place / "voc")
    return place


def _picture(seed: int, label: int, width: int, height: int) -> np.ndarray:
    image = np.random.default_rng([seed, label]).integers(0, 90, (height, width, 3), dtype=np.uint8)
    image[height // 4 : 3 * height // 4, width // 4 : 3 * width // 4, label] = 250
    return image


def _make_voc(root: Path) -> None:
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    names = [f"{number:06d}" for number in range(14)]
    for number, name in enumerate(names):
        width, height = (96, 72) if number % 3 else (72, 96)
        image = Image.fromarray(_picture(number, number % 2, width, height))
        image.save(root / "JPEGImages" / f"{name}.jpg", quality=95)
        box = zip(
            ("xmin", "ymin", "xmax", "ymax"),
            (width // 4 + 1, height // 4 + 1, 3 * width // 4, 3 * height // 4),
            strict=True,
        )
        corners = "".join(f"<{tag}>{value}</{tag}>" for tag, value in box)
        (root / "Annotations" / f"{name}.xml").write_text(
            f"<annotation><size><width>{width}</width><height>{height}</height><depth>3</depth>"
            f"</size><object><name>{('ape', 'bee')[number % 2]}</name><difficult>0</difficult>"
            f"<bndbox>{corners}</bndbox></object></annotation>",
            encoding="utf-8",
        )
    for split, part in (("train", names[:8]), ("test", names[8:])):
        (root / "ImageSets" / "Main" / f"{split}.txt").write_text(
            "\n".join(part) + "\n", encoding="utf-8"
        )


# -- one start of the command ----------------------------------------------------------------------


def train(
    place: Path, trainer: Trainer, *, options: Sequence[str] = (), output: str = "r", **more: Any
) -> Attempt:
    """The command that a scheduler repeats: `resdet TRAINER … --resume auto`.

    Args:
        options: KEY VALUE pairs.
        more: what `starts.start` takes.
    """
    words = [trainer.command, "--config", "c.yaml", "--output", output, "--resume", "auto"]
    return start([*words, *options], place, output, **more)


def torchrun(processes: int, *more: str) -> list[str]:
    where = [] if more and more[0].startswith("--nnodes") else ["--standalone"]
    return [*where, f"--nproc-per-node={processes}", *more]


# -- the uninterrupted run, and equality -----------------------------------------------------------


@dataclass(frozen=True)
class Reference:
    """A run that nobody touched.

    Attributes:
        training, whole: seconds from the lock to the last checkpoint, and to the end.
    """

    folder: Path
    training: float
    whole: float


def reference_of(place: Path, trainer: Trainer, launch: Sequence[str] = ()) -> Reference:
    """Raises RuntimeError where even an untouched run fails."""
    make_place(place, trainer)
    attempt = train(place, trainer, launch=launch)
    attempt.wait_for(attempt.is_started)
    began = time.monotonic()
    attempt.wait_for((place / "r" / LAST_CHECKPOINT).exists)
    trained = time.monotonic()
    if (code := attempt.end()) != 0:
        raise RuntimeError(f"{place} ended with {code}:\n{attempt.text()[-3000:]}")
    return Reference(place / "r", trained - began, time.monotonic() - began)


def differences(one: Path, other: Path, trainer: Trainer) -> list[str]:
    """In what two run folders differ, but for clocks and ids; and what should not be there."""
    found = []
    for name, values in (("checkpoint", _checkpoint), ("metrics", _metrics),
                         ("results", _results), ("state", _state)):  # fmt: skip
        try:
            if (text := first_difference(values(one), values(other))) is not None:
                found.append(f"{name}: {text}")
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            found.append(f"{name}: {type(error).__name__} {error}")
    try:
        ours, theirs = (_weights(folder / trainer.weights) for folder in (one, other))
        if (text := first_difference(ours, theirs)) is not None:
            found.append(f"{trainer.weights}: {text}")
    except (OSError, ValueError, RuntimeError) as error:
        found.append(f"{trainer.weights}: {error}")
    left = [p for p in other.rglob("*") if p.name.endswith(".tmp") or p.name.startswith("lock")]
    return found + [f"left over: {p.relative_to(other)}" for p in left]


def _checkpoint(run: Path) -> dict[str, Any]:
    state = torch.load(run / LAST_CHECKPOINT, map_location="cpu", weights_only=True)
    state.pop("run"), state.pop("metrics_bytes"), state["record"].pop("seconds")
    state["record"]["scalars"] = [s for s in state["record"]["scalars"] if s[0] not in TIMES]
    return dict(state)


def _weights(path: Path) -> dict[str, Any]:
    if path.suffix == ".safetensors":
        return dict(load_file(path))
    content = dict(torch.load(path, map_location="cpu", weights_only=True))
    # Which run a file is of differs from run to run.
    content.pop("run", None)
    return content


def _metrics(run: Path) -> list[dict[str, Any]]:
    lines = (run / "metrics.json").read_text(encoding="utf-8").splitlines()
    return [{k: v for k, v in json.loads(line).items() if k not in TIMES} for line in lines]


def _results(run: Path) -> dict[str, Any]:
    files: dict[str, Any] = {}
    for path in sorted((run / "results").rglob("*")):
        if path.is_file():
            files[str(path.relative_to(run))] = path.read_bytes()
    for name in [n for n in files if n.endswith("images.json")]:
        files[name] = {k: v for k, v in json.loads(files[name]).items()
                       if k not in ("seconds", "image_folder")}  # fmt: skip
    if (run / "classification.json").exists():
        files["classification.json"] = (run / "classification.json").read_bytes()
    return files


def _state(run: Path) -> dict[str, Any]:
    info = json.loads((run / "run.json").read_text(encoding="utf-8"))
    kept = ("kind", "state", "seed", "max_iter", "samples", "net", "threads", "image_repairs")
    # Of the two that are kept the older one may be of the step at which a signal came.
    files = sorted(p.suffix for p in (run / "checkpoints").iterdir())
    return {**{key: info.get(key) for key in kept}, "files": files}


def first_difference(one: Any, other: Any, where: str = "") -> str | None:
    """Where two trees of dicts, lists and tensors differ; None where they are equal."""
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        same = one.dtype == other.dtype and torch.equal(one, other)
        return None if same else where
    if isinstance(one, dict) and isinstance(other, dict):
        if one.keys() != other.keys():
            return f"{where} has {sorted(map(str, one.keys() ^ other.keys()))} on one side"
        pairs: Iterator[tuple[Any, Any, Any]] = ((k, one[k], other[k]) for k in one)
    elif isinstance(one, list | tuple) and isinstance(other, list | tuple):
        if len(one) != len(other):
            return f"{where} has {len(one)} and {len(other)} entries"
        pairs = ((n, a, b) for n, (a, b) in enumerate(zip(one, other, strict=True)))
    else:
        return None if one == other else f"{where} is {str(one)[:60]} and {str(other)[:60]}"
    for key, a, b in pairs:
        if (text := first_difference(a, b, f"{where}/{key}")) is not None:
            return text
    return None
