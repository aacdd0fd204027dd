"""Writes the presets in configs/ from their record; `--check` names those that differ from it.

Made: the leaves at the top and in the recipes' folders (modern/, fpn/, …), and those of pretrain/.
Their bases (configs/base, pretrain/base_*) and the demo's are written by hand. A file is replaced
whole or not at all, and only where its text changes.

    python tools/make_presets.py [--check]

Exit code 1: with --check a preset differs; with or without it, a file is not in the record.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from classifier_presets import classifiers
from imagenet_presets import FOLDERS as IMAGENET_FOLDERS
from imagenet_presets import imagenet
from preset_record import (
    COCO_TRAINVAL,
    DATA_SETS,
    METRICS,
    NETS,
    RECIPES,
    STATED_BATCH,
    STATED_RATE,
    ZOO,
    Recipe,
)
from preset_text import CONFIGS, auto_weights_of, resolved_of, table_of, text_of, trains

from resdet.atomic import write_text
from resdet.config.config_file import read_file
from resdet.evaluation.published.published_tables import PAPER, Published, published

FOLDERS = (*(recipe.folder for recipe in RECIPES), "pretrain", *IMAGENET_FOLDERS.values())
# Of the folders that are not detectors' recipes, where their rows are.
RECORDS = {
    "pretrain": "pretraining_record.py",
    **dict.fromkeys(IMAGENET_FOLDERS.values(), "imagenet_presets.py"),
}
NO_NUMBER = "no published number under this protocol"


def presets() -> dict[str, str]:
    """Every preset's path within configs, and its text."""
    texts = {}
    for recipe in RECIPES:
        for data in recipe.data:
            for net in recipe.nets:
                path = Path(recipe.folder) / f"{recipe.stem(data, net)}.yaml"
                texts[path.as_posix()] = detector(recipe, data, net)
    return {**texts, **imagenet(), **classifiers()}


# -- detectors ---------------------------------------------------------------------------------


def detector(recipe: Recipe, data: str, net: str) -> str:
    """A preset of `train_det`."""
    name, title = NETS[net]
    stem, sets = recipe.stem(data, net), DATA_SETS[data]
    up = "../" if recipe.folder else ""
    numbers = papers_numbers(recipe, data, name)
    ending = f", {recipe.recipe}."
    if numbers and numbers[0].paper == PAPER and recipe.base == "paper" and not recipe.over:
        side = "left" if net == "vgg16" else "right"
        ending = f": the paper's main comparison, {side}-hand side."
    bases = [f"{up}base/{data}_{recipe.base}.yaml"]
    bases += [f"{up}base/{name}.yaml" for name in recipe.over]
    run = f"{recipe.folder}/{stem}" if recipe.folder else stem
    base = bases[0] if len(bases) == 1 else f"[{', '.join(bases)}]"
    resolved = resolved_of(base.replace(up, ""), f"  NET: {{NAME: {name}}}\n")
    weights = (
        _detector_of_coco(recipe.start.format(net=net)) if recipe.start else auto_weights_of(name)
    )
    return text_of(
        f"{recipe.detector} on {sets.title} with {title}{recipe.with_}{ending}",
        {
            "Source": [_cited(numbers, sets.how) if numbers else _of_zoo(stem)],
            "Twin": [
                f"{recipe.stem(data, recipe.twin(net))}.yaml; "
                "differs in MODEL.NET.NAME and MODEL.WEIGHTS only (tested)"
            ],
            "Differs": _differs(recipe, data, net),
            "Trains": trains(resolved, resolved["DATASETS.TRAIN"]) + _detects(resolved),
            "Weights": weights,
            "Run": [f"python tools/train_det.py --config configs/{run}.yaml"],
            "Needs": [
                f"{sets.needs}; hours and hardware by the rule in docs/cost.md, not measured"
            ],
        },
        base,
        f"NAME: {name}",
    )


def papers_numbers(recipe: Recipe, data: str, net: str) -> list[Published]:
    """The papers' number for this net, trained on the sets of the preset's base.

    Where a detector of COCO is the start, the papers' one was trained on train and val.
    """
    sets, train = DATA_SETS[data], tuple(settings(data, recipe)["DATASETS.TRAIN"])
    if recipe.start:
        rows = published(data_set=sets.test, train=(*COCO_TRAINVAL, *train), net=net)
    else:
        source = recipe.source or sets.source
        rows = published(source=source, data_set=sets.test, train=train, net=net)
    # The papers' own detector; a variant of it ("unshared") is another row.
    return [row for row in rows if row.system in recipe.system][: 1 if recipe.start else None]


def settings(data: str, recipe: Recipe) -> dict[str, Any]:
    """What the base of these data sets states, key by key."""
    base = CONFIGS / "base" / f"{data}_{recipe.base}.yaml"
    return {key: value for key, value, _ in read_file(base)}


def _detector_of_coco(preset: str) -> tuple[str, ...]:
    """How the weights of a preset come about that begins with another one's detector."""
    run = preset.rpartition("/")[2]
    return (
        f"auto: runs/{run}/model_final.pth; 20 of its 80 classes arrive by name;",
        "that run is made by",
        f"python tools/train_det.py --config configs/{preset}.yaml",
    )


def _cited(numbers: Sequence[Published], how: str) -> str:
    values = ", ".join(f"{METRICS[number.metric]} {number.value:.1f}" for number in numbers)
    return f"{table_of(numbers[0])}: {values} ({how})"


def _of_zoo(stem: str) -> str:
    if stem not in ZOO:
        return NO_NUMBER
    model, schedule, number = ZOO[stem]
    if schedule == "3x":
        return f"no published number at 1x (Detectron2's model zoo, {model} 3x: {number})"
    named = f"{model} {schedule}".strip()
    return f"Detectron2's model zoo, {named} with MSRA weights: {number}"


def _differs(recipe: Recipe, data: str, net: str) -> list[str]:
    what = recipe.of_net.get(net, recipe.differs)
    if recipe.start:
        return [f"{what},", "see docs/protocol.md"]
    base = settings(data, recipe)
    rate, batch = base["SOLVER.BASE_LR"], base["SOLVER.IMS_PER_BATCH"]
    if recipe.base != "paper" or rate == STATED_RATE:
        return [f"{what}, see docs/protocol.md"]
    return [
        f"{what}; rate {rate:g} for {batch} images",
        f"({STATED_RATE:g} for {STATED_BATCH} by the linear rule) where the paper states "
        f"{STATED_RATE:g}{_stated_twin(data, net)};",
        "see docs/protocol.md",
    ]


def _stated_twin(data: str, net: str) -> str:
    """The preset that has the paper's own rate, for the nets of its tables."""
    for recipe in RECIPES:
        if recipe.base == "stated" and data in recipe.data and net in recipe.nets:
            return f" ({recipe.folder}/{recipe.stem(data, net)})"
    return ""


# -- what a preset resolves to -----------------------------------------------------------------


def _detects(keys: Mapping[str, Any]) -> list[str]:
    """Image sizes, pooling, what is kept of the detections, and improvements that are on."""
    sides, tested = keys["INPUT.MIN_SIZE_TRAIN"], keys["INPUT.MIN_SIZE_TEST"]
    trained = (
        f"{sides[0]}" if len(sides) == 1 else f"one of {len(sides)}, {sides[0]} to {sides[-1]}"
    )
    longest = keys["INPUT.MAX_SIZE_TRAIN"], keys["INPUT.MAX_SIZE_TEST"]
    improved = _improvements(keys)
    return [
        f"shorter side {trained} (at most {longest[0]}), in test {tested} ({longest[1]});",
        f"{keys['MODEL.ROI_BOX_HEAD.POOLER_TYPE']}, "
        f"{keys['MODEL.RPN.POST_NMS_TOPK_TRAIN']} proposals, in test "
        f"{keys['MODEL.RPN.POST_NMS_TOPK_TEST']}; NMS {keys['MODEL.ROI_HEADS.NMS_THRESH_TEST']:g}"
        + (";" if improved else ""),
        *improved,
    ]


def _improvements(keys: Mapping[str, Any]) -> list[str]:
    """Those of table 9 that are on, in a line; none where all are off."""
    on = []
    if keys["MODEL.REGION_HEADS.CONTEXT"]:
        on.append("global context")
    if keys["TEST.BOX_REFINEMENT"] == "on":
        on.append("in test box refinement")
    if keys["TEST.SCALES"]:
        on.append(f"scales {', '.join(str(scale) for scale in keys['TEST.SCALES'])}")
    return [", ".join(on)] if on else []


# -- files -------------------------------------------------------------------------------------


def different(texts: Mapping[str, str], configs: Path) -> list[str]:
    """The presets whose file is missing or has another text."""
    return [path for path, text in texts.items() if _read(configs / path) != text.encode()]


def unknown(texts: Mapping[str, str], configs: Path) -> list[str]:
    """The files beside the presets that are none of them, bases left out."""
    return [path for path in _leaves(configs) if path not in texts]


def _leaves(configs: Path) -> Iterator[str]:
    for folder in FOLDERS:
        for path in sorted((configs / folder).glob("*.yaml")):
            if not path.name.startswith("base"):
                yield path.relative_to(configs).as_posix()


def _read(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


def main(argv: Sequence[str], configs: Path = CONFIGS) -> int:
    """Writes or checks the presets in `configs`; returns the exit code."""
    parser = argparse.ArgumentParser(description="Writes the presets in configs/.")
    parser.add_argument("--check", action="store_true", help="write nothing, name what differs")
    args = parser.parse_args(argv)
    texts = presets()
    differing, strangers = different(texts, configs), unknown(texts, configs)
    for path in differing:
        if args.check:
            print(f"configs/{path} differs from the record; run python tools/make_presets.py.")
        else:
            write_text(configs / path, texts[path])
            print(f"configs/{path} written.")
    for path in strangers:
        record = RECORDS.get(path.partition("/")[0], "preset_record.py")
        print(f"configs/{path} is not in tools/{record}: add it there or delete it.")
    print(f"{len(texts)} presets, {len(differing)} {'differ' if args.check else 'written'}.")
    return int(bool(strangers or (args.check and differing)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
