"""The sets with a fixed name: where they lie below the root, how large they are, who has them.

Names and places are Detectron2's (`voc_2007_trainval`, `coco_2017_val`), plus what it lacks
(`voc_2012_test`), plus the embedded digits and classification sets.

    voc:ROOT:SPLIT            a tree in VOC's layout with classes of its own
    coco:FILE.json:IMAGES     a COCO JSON and the folder of its images
    ilsvrc:ROOT:NAME          a tree in ILSVRC's layout; NAME as det_val2 or loc_train
    wds:PATTERN               labelled images in tar shards
    hf:NAME_OR_FOLDER:SPLIT   labelled images of Hugging Face `datasets`
    images:FOLDER             images without classes

Not for: loading (`catalog`).
"""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass
from pathlib import Path

from resdet.data.readers.cifar import LAYOUTS, cifar_folder
from resdet.data.shards.patterns import refuse_missing_shards
from resdet.errors import DataError
from resdet.formats.ilsvrc_tree import DET, LOC, IlsvrcTree
from resdet.formats.yolo import page_on_yolo

VARIABLE = "DETECTRON2_DATASETS"
SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class VocSet:
    """A split of VOC<year>; `size` is the number of images published."""

    year: int
    split: str
    size: int
    annotated: bool = True


@dataclass(frozen=True)
class CocoSet:
    """Annotation file and image folder below the root; `size` is the number of images published."""

    annotations: str
    images: str
    size: int
    annotated: bool = True
    # The published minival files hold some annotations twice (Detectron2 lets them pass, too).
    repeats_objects: bool = False


@dataclass(frozen=True)
class IlsvrcSet:
    """A split of ILSVRC's DET or CLS-LOC; `size` is the number of images published, 0 where the
    split is not the challenge's own."""

    track: str
    split: str
    size: int
    annotated: bool = True

    def needs(self, root: Path) -> list[Path]:
        """Files and folders below the tree's root without which it cannot be loaded."""
        tree = IlsvrcTree(root, self.track)
        paths = [tree.map_file, tree.images(self.split)]
        if (self.track, self.split) == (DET, "train"):
            # A list for each class, in one of two spellings.
            paths += [root / "ImageSets" / DET] if not tree.class_lists() else []
        else:
            paths.append(tree.list_file(self.split))
        return [*paths, *([tree.annotations(self.split)] if self.annotated else [])]


@dataclass(frozen=True)
class LabelledSet:
    """`size` is the number of images published, and no class has fewer than `fewest_in_class`."""

    size: int
    fewest_in_class: int


def _voc(year: int, **sizes: int) -> dict[str, VocSet]:
    return {
        f"voc_{year}_{split}": VocSet(year, split, size, (year, split) != (2012, "test"))
        for split, size in sizes.items()
    }


def _coco(
    year: int, split: str, size: int, *, images: str = "", kind: str = "instances"
) -> CocoSet:
    return CocoSet(
        f"coco/annotations/{kind}_{split}{year}.json",
        f"coco/{images or split}{year}",
        size,
        annotated=kind == "instances",
        repeats_objects="minival" in split,
    )


VOC = {
    **_voc(2007, train=2501, val=2510, trainval=5011, test=4952),
    **_voc(2012, train=5717, val=5823, trainval=11540, test=10991),
}
COCO = {
    "coco_2014_train": _coco(2014, "train", 82783),
    "coco_2014_val": _coco(2014, "val", 40504),
    "coco_2014_minival": _coco(2014, "minival", 5000, images="val"),
    "coco_2014_valminusminival": _coco(2014, "valminusminival", 35504, images="val"),
    "coco_2017_train": _coco(2017, "train", 118287),
    "coco_2017_val": _coco(2017, "val", 5000),
    "coco_2017_test": _coco(2017, "test", 40670, kind="image_info"),
    "coco_2017_test-dev": _coco(2017, "test-dev", 20288, images="test", kind="image_info"),
}
# By the end of their names. val1 and val2 are R-CNN's halves of val; of training images only those
# that are positive for a class are loaded, or, of LOC, have boxes.
ILSVRC_SPLITS = {
    "det_train": IlsvrcSet(DET, "train", 0),
    "det_val1": IlsvrcSet(DET, "val1", 0),
    "det_val2": IlsvrcSet(DET, "val2", 0),
    "det_val": IlsvrcSet(DET, "val", 20_121),
    "det_test": IlsvrcSet(DET, "test", 51_294, annotated=False),
    "loc_train": IlsvrcSet(LOC, "train_loc", 0),
    "loc_val": IlsvrcSet(LOC, "val", 50_000),
    "loc_test": IlsvrcSet(LOC, "test", 100_000, annotated=False),
}
ILSVRC_KIND, ILSVRC_FOLDER = "ilsvrc", "ILSVRC"
ILSVRC = {f"{ILSVRC_KIND}_{name}": split for name, split in ILSVRC_SPLITS.items()}
DIGITS = tuple(f"digits_{split}" for split in SPLITS)
DIGITS_CROPS = tuple(f"digits_crops_{split}" for split in SPLITS)
# images:FOLDER, images without classes.
IMAGES = "images"
# wds:PATTERN, labelled images in tar shards.
SHARDS = "wds"
# hf:NAME_OR_FOLDER:SPLIT, labelled images of Hugging Face `datasets`.
TABLES = "hf"
IMAGENET = {
    "imagenet_train": LabelledSet(1_281_167, fewest_in_class=732),
    "imagenet_val": LabelledSet(50_000, fewest_in_class=50),
}
CIFAR = tuple(f"{kind}_{split}" for kind in LAYOUTS for split in ("train", "test"))
DETECTION = (*DIGITS, *VOC, *COCO, *ILSVRC)
CLASSIFICATION = (*DIGITS_CROPS, *IMAGENET, *CIFAR)


def known() -> tuple[str, ...]:
    """Every name with a fixed meaning."""
    return (*DETECTION, *CLASSIFICATION)


def root_folder(root: Path | str | None = None) -> tuple[Path, str]:
    """The root of all sets, absolute, and where it comes from."""
    if root is not None:
        return Path(root).expanduser().absolute(), "given"
    if os.environ.get(VARIABLE):
        return Path(os.environ[VARIABLE]).expanduser().absolute(), f"from {VARIABLE}"
    return Path("datasets").absolute(), f"in the current folder, as {VARIABLE} is not set"


def voc_folder(base: Path, year: int) -> Path:
    """VOC<year> below the root, or below VOCdevkit/ there, as the devkit unpacks."""
    direct, inside = base / f"VOC{year}", base / "VOCdevkit" / f"VOC{year}"
    return inside if inside.is_dir() and not direct.is_dir() else direct


def has_annotations(name: str) -> bool:
    """Whether AP can be had on this set, as far as its name shows (F8)."""
    spec = VOC.get(name) or COCO.get(name) or ILSVRC.get(name)
    if spec is None and (tree := split_ilsvrc(name)):
        spec = ILSVRC_SPLITS[tree[1]]
    return spec.annotated if spec else True


def split_path_name(name: str) -> tuple[str, Path, str] | None:
    """("voc", root, split) or ("coco", JSON, images) of a name with paths; None for others.

    Raises:
        DataError: it starts as one, but has not the form.
    """
    kind, colon, rest = name.partition(":")
    if not colon or kind not in ("voc", "coco"):
        return None
    first, second_colon, second = rest.rpartition(":")
    if not second_colon or not first or not second:
        form = "voc:ROOT:SPLIT" if kind == "voc" else "coco:FILE.json:IMAGES"
        raise DataError(f"{name!r} is not of the form {form}.")
    return kind, Path(first).expanduser().absolute(), second


def split_ilsvrc(name: str) -> tuple[Path, str] | None:
    """Root and split of `ilsvrc:ROOT:NAME`; None for other names.

    Raises:
        DataError: it starts as one, but has not the form, or no such split.
    """
    kind, colon, rest = name.partition(":")
    if not colon or kind != ILSVRC_KIND:
        return None
    root, second_colon, split = rest.rpartition(":")
    if not second_colon or not root or split not in ILSVRC_SPLITS:
        raise DataError(
            f"{name!r} is not of the form ilsvrc:ROOT:NAME with one of {', '.join(ILSVRC_SPLITS)}."
        )
    return Path(root).expanduser().absolute(), split


def flat_folder(name: str) -> Path | None:
    """The folder of images without classes in `images:FOLDER`; None for other names.

    Raises:
        DataError: no folder is named.
    """
    kind, colon, folder = name.partition(":")
    if not colon or kind != IMAGES:
        return None
    if not folder:
        raise DataError(f"{name!r} is not of the form images:FOLDER.")
    return Path(folder).expanduser().absolute()


def shard_pattern(name: str) -> str | None:
    """The pattern in `wds:PATTERN`; None for other names.

    Raises:
        DataError: there is none in it.
    """
    kind, colon, pattern = name.partition(":")
    if not colon or kind != SHARDS:
        return None
    if not pattern:
        raise DataError(f"{name!r} is not of the form wds:PATTERN: wds:train-{{00..99}}.tar.")
    return pattern


def split_table(name: str) -> tuple[str, str] | None:
    """Name or folder, and split, of `hf:NAME_OR_FOLDER:SPLIT`; None for other names.

    Raises:
        DataError: it starts as one, but has not the form.
    """
    kind, colon, rest = name.partition(":")
    if not colon or kind != TABLES:
        return None
    source, second_colon, split = rest.rpartition(":")
    if not second_colon or not source or not split:
        raise DataError(f"{name!r} is not of the form hf:NAME_OR_FOLDER:SPLIT.")
    return source, split


def is_labelled(name: str) -> bool:
    """Whether the name alone tells that it is a classification set; of a folder it does not."""
    return name in CLASSIFICATION or name.startswith((f"{SHARDS}:", f"{TABLES}:"))


def needs(name: str, base: Path) -> list[Path]:
    """Files and folders without which `name` cannot be loaded; none for what is made on first use.

    Raises:
        DataError: the name is unknown; lists the nearest ones.
    """
    if name in VOC:
        voc = VOC[name]
        folder = voc_folder(base, voc.year)
        parts = [f"ImageSets/Main/{voc.split}.txt", "JPEGImages"]
        return [folder / part for part in (*parts, *(["Annotations"] if voc.annotated else []))]
    if name in COCO:
        return [base / COCO[name].annotations, base / COCO[name].images]
    if name in ILSVRC:
        return ILSVRC[name].needs(base / ILSVRC_FOLDER)
    if tree := split_ilsvrc(name):
        return ILSVRC_SPLITS[tree[1]].needs(tree[0])
    paths = split_path_name(name)
    if paths is not None:
        kind, first, second = paths
        if kind == "coco":
            return [first, Path(second).expanduser().absolute()]
        lists = [first / "ImageSets" / "Main" / f"{second}.txt"]
        return [*lists, first / "JPEGImages", first / "Annotations"]
    if (pattern := shard_pattern(name)) is not None:
        refuse_missing_shards(name, pattern)
        return []
    if split_table(name) is not None:
        return []  # `datasets` alone knows what it has
    if (images := flat_folder(name)) is not None:
        if images.is_dir():
            return []
        raise DataError(f"{images} does not exist. Give a folder of images.")
    if name in IMAGENET:
        return [base / "imagenet" / name.removeprefix("imagenet_")]
    if name in CIFAR:
        kind, split = name.split("_")
        layout = LAYOUTS[kind]
        folder = cifar_folder(base, kind)
        return [folder / file for file in (*layout.files[split], layout.names_file)]
    if name in (*DIGITS, *DIGITS_CROPS) or Path(name).is_dir():
        return []
    raise DataError(_unknown(name))


def _unknown(name: str) -> str:
    if yolo := page_on_yolo(Path(name)):
        return yolo
    if os.sep in name and Path(name).exists():
        return f"{name} is a file. Give coco:FILE.json:IMAGES, or a folder of class folders."
    if os.sep in name:
        return f"{Path(name).absolute()} does not exist. Give a folder of class folders."
    near = difflib.get_close_matches(name, known(), n=3)
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    return (
        f"no data set is called {name!r}.{hint}\n"
        f"  detection: {', '.join(DETECTION)}\n"
        f"  classification: {', '.join(CLASSIFICATION)}, a folder of class folders, or "
        "wds:PATTERN of tar shards, or hf:NAME_OR_FOLDER:SPLIT\n"
        "  your own: voc:ROOT:SPLIT, coco:FILE.json:IMAGES, ilsvrc:ROOT:NAME, or a name registered "
        "with Detectron2"
    )
