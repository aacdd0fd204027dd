"""Data sets by name: are they there, are they whole, load them.

    require(names)                 a look before anything starts, one page for all that is missing
    load_detection(name)           checked records with classes, counts and a hash
    load_classification(name)      labelled images, from a name or a folder of class folders
    overlap(train, test)           refuses training images among the test images
    known()                        the names; what of them is there, `checks.what_is_there` looks
    register()                     adds to Detectron2's catalog what it lacks

Names are listed in `names`; the root is DETECTRON2_DATASETS, or ./datasets. The user's own sets:
`voc:ROOT:SPLIT`, `coco:FILE.json:IMAGES`, any name registered with Detectron2.

Not for: the formats (`voc_reader`, `coco_reader`, `class_folders`, `cifar`).
"""

from __future__ import annotations

import contextlib
import gc
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from resdet.data import registered_sets
from resdet.data.checks import not_found
from resdet.data.checks.duplicates import MAX_IMAGES, equal_files, overlap
from resdet.data.names import (
    CIFAR,
    CLASSIFICATION,
    COCO,
    DETECTION,
    DIGITS,
    DIGITS_CROPS,
    ILSVRC,
    ILSVRC_FOLDER,
    ILSVRC_SPLITS,
    IMAGENET,
    VOC,
    IlsvrcSet,
    flat_folder,
    has_annotations,
    is_labelled,
    known,
    needs,
    root_folder,
    shard_pattern,
    split_ilsvrc,
    split_path_name,
    split_table,
    voc_folder,
)
from resdet.data.options import DataOptions
from resdet.data.readers.cifar import load_cifar
from resdet.data.readers.class_folders import load_flat_folder, load_folder
from resdet.data.readers.coco_reader import load_coco
from resdet.data.readers.hugging_face import load_table
from resdet.data.readers.ilsvrc_reader import load_ilsvrc
from resdet.data.readers.voc_reader import load_voc
from resdet.data.records import (
    ClassificationSet,
    DetectionSet,
    with_classes,
    with_labels_of,
)
from resdet.data.shards.shard_set import load_shards
from resdet.errors import DataError
from resdet.formats.yolo import page_on_yolo

__all__ = [
    "ClassificationSet",
    "DataOptions",
    "DetectionSet",
    "known",
    "load_classification",
    "load_detection",
    "overlap",
    "register",
    "require",
    "root_folder",
    "with_classes",
    "with_labels_of",
]


def require(
    names: Sequence[str], *, root: Path | str | None = None, annotated: bool = False
) -> None:
    """A cheap look before anything is loaded: are the lists, files and folders there?

    Args:
        names: of sets of both kinds.
        root: of the sets with a fixed name; DETECTRON2_DATASETS or ./datasets without it.
        annotated: sets without ground truth are refused as well (F8).

    Raises:
        DataError: one page for all sets: what is missing, the tree expected, what to set.
    """
    base, origin = root_folder(root)
    without = [name for name in names if annotated and not has_annotations(name)]
    if without:
        raise DataError(
            f"{', '.join(without)} {'has' if len(without) == 1 else 'have'} no annotations, so no "
            "AP can be had here: only the set's server can score it. Choose a set with "
            "annotations, such as voc_2007_test or coco_2017_val."
        )
    absent: dict[str, list[Path]] = {}
    for name in dict.fromkeys(names):
        paths = [] if registered_sets.is_registered(name) else needs(name, base)
        lacking = [path for path in paths if not path.exists()]
        if lacking:
            absent[name] = lacking
    if absent:
        raise DataError(not_found.page(absent, base, origin))


def load_detection(
    name: str, *, root: Path | str | None = None, options: DataOptions | None = None
) -> DetectionSet:
    """The checked set of this name.

    Raises:
        DataError: it is missing or broken; one page that names its files and objects.
    """
    with _collector_off():
        return _load_checked(name, root, options or DataOptions())


def _load_checked(name: str, root: Path | str | None, options: DataOptions) -> DetectionSet:
    if is_labelled(name):
        raise DataError(
            f"{name} is a classification set; a detector needs boxes. Detection sets: "
            f"{', '.join(DETECTION)}."
        )
    if options.needs_masks:
        _refuse_boxes_alone(name)
    require([name], root=root)
    data = _load_detection(name, root_folder(root)[0], options)
    if (published := _published_size(name)) > 0:
        data = replace(data, notes=(*data.notes, *_note_on_size(len(data), published)))
    if options.check_images and len(data) <= MAX_IMAGES:
        data = replace(data, notes=(*data.notes, *_repeats(data, cache=options.cache)))
    return data


def _published_size(name: str) -> int:
    """How many images the set of an official name has; 0 where it is not known."""
    spec = VOC.get(name) or COCO.get(name) or ILSVRC.get(name)
    return spec.size if spec else 0


def _refuse_boxes_alone(name: str) -> None:
    """Raises DataError for sets of VOC and ILSVRC, whose XML has boxes and no masks."""
    paths = split_path_name(name)
    has_xml = name in VOC or name in ILSVRC or split_ilsvrc(name) is not None
    if has_xml or (paths is not None and paths[0] == "voc"):
        raise DataError(
            f"{name} has boxes alone: its XML holds no masks, and MODEL.MASK_ON is True. Name "
            "sets in COCO's format, or train boxes: MODEL.MASK_ON False."
        )


def _repeats(data: DetectionSet, *, cache: bool) -> Iterator[str]:
    """A sentence on files with the same bytes (F5)."""
    groups = equal_files([record["file_name"] for record in data.records], cache=cache)
    if groups:
        shown = "; ".join(map(_equal, groups[:5]))
        yield f"pictures that occur again under another name: {len(groups)} ({shown})"


def _equal(files: Sequence[str]) -> str:
    names = " = ".join(map(os.path.basename, files[:4]))
    return names if len(files) <= 4 else f"{names} and {len(files) - 4:,} more"


def _load_detection(name: str, base: Path, options: DataOptions) -> DetectionSet:
    if name in VOC:
        voc = VOC[name]
        return load_voc(
            voc_folder(base, voc.year),
            voc.split,
            name=name,
            year=voc.year,
            annotated=voc.annotated,
            options=options,
            is_published=True,
        )
    if name in COCO:
        coco = COCO[name]
        return load_coco(
            base / coco.annotations,
            base / coco.images,
            name=name,
            options=options,
            is_published=True,
            repeats_objects=coco.repeats_objects,
        )
    if name in DIGITS:
        return _load_digits(name, options)
    if name in ILSVRC:
        return _load_split(base / ILSVRC_FOLDER, ILSVRC[name], name, options, is_published=True)
    if tree := split_ilsvrc(name):
        root, split = tree
        return _load_split(root, ILSVRC_SPLITS[split], name, options, is_published=False)
    paths = split_path_name(name)
    if paths is None:
        if registered_sets.is_registered(name):
            return registered_sets.load_registered(name, options)
        if yolo := page_on_yolo(Path(name)):
            raise DataError(yolo)
        raise DataError(
            f"{name} is a folder; a detector needs boxes. Give voc:{name}:SPLIT for a tree in "
            "VOC's layout, or coco:FILE.json:IMAGES."
        )
    kind, first, second = paths
    if kind == "coco":
        return load_coco(first, Path(second).expanduser().absolute(), name=name, options=options)
    year = re.fullmatch(r"VOC(\d{4})", first.name)
    return load_voc(
        first,
        second,
        name=name,
        classes=None,
        year=int(year[1]) if year else None,
        options=options,
    )


def _load_split(
    root: Path, split: IlsvrcSet, name: str, options: DataOptions, *, is_published: bool
) -> DetectionSet:
    return load_ilsvrc(
        root, split.track, split.split, name=name, annotated=split.annotated, options=options,
        is_published=is_published,
    )  # fmt: skip


def _load_digits(name: str, options: DataOptions) -> DetectionSet:
    from resdet.data import digits

    root, split = digits.make(), name.removeprefix("digits_")
    data = load_coco(
        root / "coco" / "annotations" / f"instances_{split}.json",
        root / "voc" / "JPEGImages",
        name=name,
        options=options,
        evaluators=("voc", "coco"),
        voc_year=2007,
        sources=digits.SOURCES,
    )
    if any(a["iscrowd"] for record in data.records for a in record["annotations"]):
        _name_members(data, load_voc(root / "voc", split, name=name, classes=data.classes))
    return data


def _name_members(coco: DetectionSet, voc: DetectionSet) -> None:
    """Lists in each crowd its objects, single in the XML: VOC's number is then that of the XML."""
    for record, single in zip(coco.records, voc.records, strict=True):
        crowds = [a for a in record["annotations"] if a["iscrowd"]]
        if not crowds:
            continue
        (crowd,) = crowds
        others = [(a["category_id"], a["bbox"]) for a in record["annotations"] if a is not crowd]
        crowd["members"] = [
            a for a in single["annotations"] if (a["category_id"], a["bbox"]) not in others
        ]


def load_classification(
    name: str | Path,
    *,
    root: Path | str | None = None,
    options: DataOptions | None = None,
    needs_classes: bool = True,
) -> ClassificationSet:
    """The labelled images of this name, or of this folder of class folders.

    Args:
        needs_classes: images:FOLDER, which has none, is refused.

    Raises:
        DataError: it is missing or broken; one page that names its files.
    """
    folder = flat_folder(str(name))
    if folder is not None and needs_classes:
        raise DataError(
            f"{name} has images without classes: only evaluate cls takes it, to score them for a "
            f"server. Give a folder of class folders, such as {folder} with its images sorted."
        )
    with _collector_off():
        if folder is not None:
            require([str(name)])
            return load_flat_folder(folder, name=str(name), options=options)
        return _load_labelled(str(name), root, options or DataOptions())


@contextlib.contextmanager
def _collector_off() -> Iterator[None]:
    """Python's garbage collector looks through all that is there each time it grows, which takes a
    third of the time of reading a large set; nothing here is in circles."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _load_labelled(name: str, root: Path | str | None, options: DataOptions) -> ClassificationSet:
    if name in DETECTION or split_path_name(name) is not None:
        raise DataError(
            f"{name} is a detection set; a classifier needs class folders. Classification sets: "
            f"{', '.join(CLASSIFICATION)}; or give a folder of class folders."
        )
    require([name], root=root)
    if (pattern := shard_pattern(name)) is not None:
        return load_shards(pattern, name=name, options=options)
    if (table := split_table(name)) is not None:
        return load_table(*table, name=name, options=options)
    base = root_folder(root)[0]
    if name in DIGITS_CROPS:
        from resdet.data import digits

        folder = digits.make() / "crops" / name.removeprefix("digits_crops_")
        # Made and counted by resdet itself, so 20,000 headers need not be read.
        return load_folder(
            folder,
            name=name,
            options=replace(options, check_images=False),
            sources=digits.SOURCES,
        )
    if name in IMAGENET:
        folder = base / "imagenet" / name.removeprefix("imagenet_")
        images = load_folder(folder, name=name, options=options)
        notes = _note_on_size(len(images), IMAGENET[name].size)
        return replace(images, notes=(*images.notes, *notes))
    if name in CIFAR:
        kind, split = name.split("_")
        return load_cifar(base, kind, split)
    return load_folder(Path(name), name=name, options=options)


def register() -> None:
    """Adds to Detectron2's catalog what it lacks: voc_2012_test and the digits.

    What users register under other names is found there by `load_detection`. Without Detectron2
    nothing happens.
    """
    try:
        import detectron2.data  # noqa: F401
    except ImportError:
        return
    registered_sets.register(load_detection)


def _note_on_size(there: int, published: int) -> tuple[str, ...]:
    """The sentence on a set of an official name that is not the official set."""
    if there == published:
        return ()
    return (f"{there:,} of the {published:,} images of the published set",)
