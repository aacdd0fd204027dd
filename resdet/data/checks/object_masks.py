"""One rule for the masks of objects that train: whole, in their image, of its size.

As boxes (`boxes`): what is dropped is so in the records, which training and ground truth share.
Polygons stay as they are; Detectron2 draws them when an image is read. Run lengths are kept
compressed, which is how Detectron2 and pycocotools take them.

Not for: sets whose boxes alone are used, in which masks may be anything.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from resdet.data.checks.boxes import FAR_OUTSIDE, TOLERATED_PER_THOUSAND, Item, Words
from resdet.data.checks.faults import Faults
from resdet.data.options import DataOptions, count_for, to_type
from resdet.formats.coco_masks import segmentation_fault

KIND = "objects without a mask"


def check_masks(
    items: Sequence[Item],
    words: Words,
    faults: Faults,
    options: DataOptions,
    *,
    is_published: bool = False,
) -> tuple[list[Item], Counter[str]]:
    """The items that have a mask, and what was done.

    Polygons of fewer than three points are left out where others of their object stay, as
    Detectron2 does, and counted. A mask without a pixel is none; a crowd's may be anything whole.

    Args:
        is_published: an official set, of which one mask in a thousand may be odd.
    """
    counts: Counter[str] = Counter()
    kept: list[Item] = []
    odd: list[tuple[Item, str]] = []
    for item in items:
        mask, left_out = _without_lines(item.annotation.get("segmentation"))
        counts["polygons of fewer than three points, left out"] += left_out
        reason = _fault_of(mask, item)
        if reason:
            odd.append((item, reason))
            continue
        item.annotation["segmentation"] = _packed(mask)
        kept.append(item)
    tolerated = len(items) * TOLERATED_PER_THOUSAND // 1000 if is_published else 0
    stated = count_for(options.drop_maskless, faults.name)
    if len(odd) > tolerated and len(odd) != stated:
        for item, reason in odd:
            faults.add(KIND, f"{words.where(item)}: {reason}")
        typed = to_type("DATASETS.DROP_MASKLESS", options.drop_maskless, faults.name, len(odd))
        faults.explain(
            KIND,
            heading=f"{len(odd):,} of {len(items):,} objects have no usable mask:",
            fix="Write polygons or run lengths. To train boxes alone: MODEL.MASK_ON False. To "
            f"leave out {'this object' if len(odd) == 1 else 'these objects'}: {typed}"
            f"{f' (not {stated})' if stated else ''}.",
        )
    counts["objects without a mask dropped"] = len(odd)
    return kept, counts


def _without_lines(mask: Any) -> tuple[Any, int]:
    """Polygons with three points or more, and how many others there were; all else as it is."""
    if not isinstance(mask, list):
        return mask, 0
    whole = [p for p in mask if not (isinstance(p, list | tuple) and len(p) in (2, 4))]
    return (whole, len(mask) - len(whole)) if whole else (mask, 0)


def _fault_of(mask: Any, item: Item) -> str:
    """Why this is no mask of the item, or ""."""
    width, height = item.record["width"], item.record["height"]
    if fault := segmentation_fault(mask, np.array([width, height], dtype=np.float64)):
        return fault
    if isinstance(mask, Mapping):
        if not item.annotation["iscrowd"] and not coco_mask.area(_packed(mask)):
            return "its mask has no pixel"
        return ""
    corners = np.concatenate([np.array(p, dtype=np.float64).reshape(-1, 2) for p in mask])
    low, high = corners.min(axis=0), corners.max(axis=0)
    excess = max(-low[0], -low[1], high[0] - width, high[1] - height)
    if excess > FAR_OUTSIDE:
        return (
            f"its polygons reach {excess:g} px out of the image, {width} wide and {height} high "
            f"(at most {FAR_OUTSIDE:g})"
        )
    return ""


def _packed(mask: Any) -> Any:
    """Run lengths as compressed text; polygons as they are."""
    if not isinstance(mask, Mapping):
        return mask
    size, counts = [int(v) for v in mask["size"]], mask["counts"]
    if isinstance(counts, list | tuple):
        plain = {"size": size, "counts": [int(v) for v in counts]}
        counts = coco_mask.frPyObjects(plain, *size)["counts"]
    if isinstance(counts, bytes):
        counts = counts.decode("ascii")
    return {"size": size, "counts": counts}


def hash_of_masks(records: Iterable[Mapping[str, Any]]) -> str:
    """SHA-256 over all masks in their order; equal ones have equal hashes on any machine."""
    digest = hashlib.sha256()
    for record in records:
        for annotation in record.get("annotations", ()):
            mask = annotation.get("segmentation")
            if isinstance(mask, Mapping):
                digest.update(f"{mask['size']} {mask['counts']}\n".encode())
                continue
            for polygon in mask or ():
                digest.update(np.asarray(polygon, dtype="<f8").tobytes())
                digest.update(b",")
            digest.update(b"\n")
    return digest.hexdigest()
