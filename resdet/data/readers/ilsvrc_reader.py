"""ILSVRC's detection (DET) and localisation (LOC) images to checked records.

    DET train       the union of the class lists' positive images (label 1). Partial positives (0),
                    where some instances have no box, and negatives (-1) do not train.
    DET val1, val2  halves of val by lists of their own (`datasets/prepare_ilsvrc.py` makes them)
    LOC train       the images of train_loc.txt, which have boxes of their one class
    val, test       as they are listed; test has no annotations

Classes are wnids in the order of the development kit's ids, so place k is id k + 1. The XML does
not state whether it counts pixels from 0 or 1 (0 and the full width both occur), so its numbers are
kept as edges, and result files are written in the same numbers: a shift, if there is one, is the
same in both. `difficult` is not part of these tracks and is left out.

Not for: where files lie (`ilsvrc_tree`), or metrics (`resdet.evaluation.ilsvrc`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from resdet.data.checks.faults import Faults
from resdet.data.options import DataOptions
from resdet.data.readers.voc_reader import Places, load_listed
from resdet.data.records import DetectionSet
from resdet.errors import DataError, first_few
from resdet.formats.ilsvrc_tree import (
    DET,
    LOC,
    NEGATIVE,
    PARTIAL,
    POSITIVE,
    IlsvrcTree,
    ImageList,
    SynsetMap,
    read_det_blacklist,
    read_images,
    read_labelled,
    read_numbers,
    read_synsets,
)

IMAGE_SUFFIX = ".JPEG"
NO_DIFFICULT = ("difficult missing, read as 0", "difficult Unspecified, read as 0")


@dataclass(frozen=True)
class _Chosen:
    """Images that train, and a sentence on those of the lists that do not."""

    images: ImageList
    note: str = ""


def load_ilsvrc(
    root: Path,
    track: str,
    split: str,
    *,
    name: str,
    annotated: bool = True,
    options: DataOptions | None = None,
    is_published: bool = True,
) -> DetectionSet:
    """A split of an ILSVRC tree.

    Records have `result_index`, the image's number in result files; of LOC `label`, the place of
    the image's one class; and of val `not_scored`, the ids of classes that the development kit's
    blacklist has for the image.

    Args:
        track: "DET" or "CLS-LOC". split: of DET also "train", of LOC "train_loc".

    Raises:
        DataError: lists, images, annotations or the map of classes are missing or wrong; one page.
    """
    options = options or DataOptions()
    tree = IlsvrcTree(root, track)
    classes = read_synsets(tree.map_file)
    if (track, split) == (DET, "train"):
        chosen = _positives(tree, options.ilsvrc_per_class)
        source = f"ImageSets/{DET}/train_<class>.txt"
    else:
        chosen = _Chosen(read_images(tree.list_file(split)))
        source = str(tree.list_file(split).relative_to(root))
    data = load_listed(
        chosen.images.ids,
        Places(
            root,
            source,
            str(tree.images(split).relative_to(root)),
            str(tree.annotations(split).relative_to(root)),
            IMAGE_SUFFIX,
        ),
        Faults(name, str(root)),
        classes=classes.wnids,
        options=replace(options, voc_origin=0),
        annotated=annotated,
        evaluators=("ilsvrc", "coco") if track == DET else ("coco",),
        is_published=is_published,
        checks_origin=False,
    )
    number = dict(zip(chosen.images.ids, chosen.images.indices, strict=True))
    blacklist = _blacklist(tree, split, classes)
    for record in data.records:
        index = record["result_index"] = number[record["image_id"]]
        if index in blacklist:
            record["not_scored"] = sorted(blacklist[index])
        for annotation in record["annotations"]:
            annotation["difficult"] = 0
    if track == LOC and annotated:
        _add_labels(data, tree, split)
    counts = {key: n for key, n in data.counts.items() if key not in NO_DIFFICULT}
    notes = (*data.notes, *([chosen.note] if chosen.note else []))
    return replace(data, counts={**counts, "difficult": 0}, notes=notes)


def _add_labels(data: DetectionSet, tree: IlsvrcTree, split: str) -> None:
    """The class of each image: that of its objects, or of the development kit's labels of val.

    Raises:
        DataError: an image has objects of several classes, or none and no label.
    """
    kit = tree.validation_labels if tree.is_of_val(split) else None
    labels = read_numbers(kit) if kit else []
    out = tree.blacklist if tree.is_of_val(split) else None
    blacklisted = set(read_numbers(out)) if out else set()
    odd = []
    for record in data.records:
        index, found = record["result_index"], {a["category_id"] for a in record["annotations"]}
        if index <= len(labels):
            found.add(labels[index - 1] - 1)
        if len(found) != 1 or not max(found) < len(data.classes):
            odd.append(f"{record['image_id']}: {len(found)} classes")
            continue
        (record["label"],) = found
        if index in blacklisted:
            record["not_scored"] = [record["label"] + 1]
    if odd:
        raise DataError(
            f"{data.name}: {len(odd):,} images are not of one class, by their objects and the "
            f"development kit's labels.\n{first_few(odd, 5)}\nTake lists, annotations and "
            "devkit/data of one development kit."
        )


def _blacklist(tree: IlsvrcTree, split: str, classes: SynsetMap) -> dict[int, set[int]]:
    """Index of an image of DET's val to the ids that are not scored on it."""
    pairs: dict[int, set[int]] = defaultdict(set)
    if tree.track == DET and tree.is_of_val(split) and tree.blacklist is not None:
        for index, label in read_det_blacklist(tree.blacklist, classes.place()):
            pairs[index].add(label)
    return pairs


def _positives(tree: IlsvrcTree, per_class: int) -> _Chosen:
    """DET's training images: those that some class's list has as positive, each once.

    Args:
        per_class: at most so many of each class's list, evenly spread over it; 0 = all.
    """
    paths = tree.class_lists()
    if not paths:
        raise DataError(
            f"{tree.root}/ImageSets/{DET} has no train_<1 to 200>.txt. `python "
            "datasets/prepare_ilsvrc.py ROOT` lists what an ILSVRC tree lacks, and where it is "
            "from."
        )
    ids: dict[str, None] = {}
    positive: set[str] = set()
    others: dict[str, set[str]] = {PARTIAL: set(), NEGATIVE: set()}
    for path in paths:
        mine = []
        for image_id, label in read_labelled(path):
            if label == POSITIVE:
                mine.append(image_id)
            else:
                others[label].add(image_id)
        positive.update(mine)
        ids |= dict.fromkeys(_spread(mine, per_class))
    partial = len(others[PARTIAL] - positive)
    negative = len(others[NEGATIVE] - positive - others[PARTIAL])
    note = (
        f"{len(ids):,} of {len(positive):,} images that are positive for a class train"
        f"{f' (at most {per_class:,} of each class, DATASETS.ILSVRC_PER_CLASS)' * bool(per_class)}"
        f"; {partial:,} that are partial for their classes and {negative:,} negatives do not"
    )
    return _Chosen(ImageList(tuple(ids), tuple(range(1, len(ids) + 1))), note)


def _spread(ids: Sequence[str], number: int) -> Sequence[str]:
    """So many, evenly spread and the same each time; all where there are no more."""
    if not 0 < number < len(ids):
        return ids
    return [ids[i] for i in np.linspace(0, len(ids) - 1, number).round().astype(int).tolist()]
