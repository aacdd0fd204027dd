"""What the JSON files of a run folder hold, so that a damaged one is told from a whole one.

A shape is a type, or several; a list with the shape of each entry; or a dict of names, one with "?"
at its end being optional, or `...`, for any other name. `misfit` finds the first value that is not
of its shape. What a shape does not name may be anything that is text, number, list or dict.

Not for: what the numbers mean, or files that evaluation reads and checks itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from resdet.run import layout

Shape = Any
NUMBER = (int, float)
ID = (int, str)
COUNTS = {...: int}
BEST = {"metric": str, "value": NUMBER, "step": int}

INFO = {
    "id": str, "kind": str, "state": str, "created": str, "seed?": int, "command?": [str],
    "host?": str, "device?": str, "leak?": str, "samples?": int, "train_seconds?": NUMBER,
    "max_iter?": int, "threads?": int, "cautions?": [str], "data_changes?": [str], "title?": str,
    "file?": str, "evaluated?": int, "evaluated_as?": {...: NUMBER},
    "net?": {"name?": str, "parameters?": int}, "versions?": {...: str},
    "train_sets?": [{"name": str, "hash": str, "images?": int, "files?": str,
                     "mask_hash?": str}], "derived?": dict,
    "ensemble?": [{"run?": str, "net": str, "weights": str, "file?": str}],
    "scored_file?": str, "scored_part?": str, "test_set?": str,
    "scored_source?": {...: str}, "weights_source?": {...: str},
    "steps?": int, "ended_by?": str, "best?": BEST, "best_of?": BEST,
}  # fmt: skip
IMAGE_LIST = {
    "expected": [ID], "evaluated": [ID], "data_set?": str, "hash?": str, "image_folder?": str,
    "exif?": str, "seconds?": NUMBER, "accepted?": {"scored?": COUNTS, "beside?": COUNTS},
    "result_indices?": [int],
}  # fmt: skip
CARD = {
    "net": str, "input?": {"color_order?": str, "mean?": [NUMBER], "std?": [NUMBER]},
    "data?": {"name?": str, "hash?": str, "images?": int}, "metrics?": {...: NUMBER},
    "training?": {"samples?": int, "iterations?": int, "seconds?": NUMBER, "seed?": int},
    "classes?": [str], "config?": str,
}  # fmt: skip
# By name; of a data set's folder, too.
FILES: dict[str, Shape] = {
    layout.RUN: INFO,
    layout.CARD: CARD,
    layout.TRANSFER: {"file?": str, "heads?": str, "head_classes?": [[str]]},
    layout.CLASSIFICATION: {...: {"top1_error": NUMBER, "top5_error": NUMBER}},
    layout.IMAGES: IMAGE_LIST,
    layout.SAMPLES_INDEX: [{"image_id": ID, "file": str}],
    layout.FINGERPRINT: {...: object},
    layout.LOC_ROWS: [
        {
            "data_set": str,
            "testing": str,
            "net": str,
            "classes": str,
            "file": str,
            "images": int,
            "error?": NUMBER,
        }
    ],
    layout.SCORES["voc"]: {"11-point": {"mean_ap?": NUMBER}, "area": {"mean_ap?": NUMBER}},
    layout.SCORES["coco"]: {"AP?": NUMBER},
    layout.SCORES["ilsvrc"]: {"mean_ap?": NUMBER},
    layout.SCORES["segm"]: {"AP?": NUMBER},
}
PART = {
    "images": [ID], "seconds": NUMBER,
    "results": [{"image_id": ID, "category_id": int, "bbox": [NUMBER], "score": NUMBER}],
}  # fmt: skip
METRIC_LINE = {"iteration": int, ...: NUMBER}


def misfit(value: Any, shape: Shape, where: str = "", *, finite: bool = True) -> str:
    """The first place where a value is not of its shape, in words; "" where there is none.

    Args:
        where: the name of the value itself, for the words.
        finite: numbers that are not finite do not fit.
    """
    name = where or "it"
    if isinstance(shape, dict):
        if not isinstance(value, dict):
            return f"{name} is {_short(value)}, expected names with values"
        return _misfit_of_names(value, shape, where, finite)
    if isinstance(shape, list):
        if not isinstance(value, list):
            return f"{name} is {_short(value)}, expected a list"
        for number, entry in enumerate(value):
            if text := misfit(entry, shape[0], f"{where}[{number}]", finite=finite):
                return text
        return ""
    if shape is object or isinstance(value, bool) or not isinstance(value, shape):
        return "" if shape is object else f"{name} is {_short(value)}, expected {_words(shape)}"
    if finite and isinstance(value, float) and not math.isfinite(value):
        return f"{name} is {value}, expected a finite number"
    if isinstance(value, str) and any("\ud800" <= c <= "\udfff" for c in value):
        return f"{name} is text with half a character, {value!a}"
    return ""


def _misfit_of_names(
    value: dict[str, Any], shape: Mapping[Any, Shape], where: str, finite: bool
) -> str:
    known = {str(k).rstrip("?"): k for k in shape if k is not ...}
    for name, key in known.items():
        place = f"{where}.{name}" if where else name
        is_optional = key.endswith("?")
        if name not in value:
            if not is_optional:
                return f"{place} is missing"
        elif not (is_optional and value[name] is None) and (
            text := misfit(value[name], shape[key], place, finite=finite)
        ):
            return text
    for name in value.keys() - known.keys():
        if text := misfit(name, str, f"a name in {where or 'it'}"):
            return text
        place = f"{where}.{name}" if where else name
        if text := misfit(value[name], shape.get(..., object), place, finite=finite):
            return text
    return ""


def _words(shape: Shape) -> str:
    names = {int: "a whole number", float: "a number", str: "text", dict: "names with values"}
    if shape == NUMBER:
        return "a number"
    types = shape if isinstance(shape, tuple) else (shape,)
    return " or ".join(names.get(t, t.__name__) for t in types)


def _short(value: Any) -> str:
    text = ascii(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
