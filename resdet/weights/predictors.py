"""A detector's class, box and mask predictors for another list of classes.

Rows belong to classes, so they move by class name, never by place. With the same names in another
order they are permuted; with other names they start fresh, or the rows that both have are
copied (`docs/faults.md` F22).

Not for: evaluation; a detector is scored on the classes that it was trained for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch

from resdet.errors import WeightsError
from resdet.weights.formats.contents import Tensors

HOW = ("new", "by_name")
SCORES = "roi_heads.box_predictor.cls_score"
DELTAS = "roi_heads.box_predictor.bbox_pred"
MASKS = "roi_heads.mask_head.predictor"
# COCO's name to VOC's; all other names of VOC are COCO's own.
SYNONYMS = {
    "airplane": "aeroplane",
    "dining table": "diningtable",
    "motorcycle": "motorbike",
    "potted plant": "pottedplant",
    "couch": "sofa",
    "tv": "tvmonitor",
}


@dataclass(frozen=True)
class Heads:
    """What becomes of the predictors.

    Attributes:
        tensors: to load in place of the file's.
        new: patterns of tensors that start fresh.
        copied: (class in the file, class here) of copied rows, without background.
        sentence: what was done, for the log.
    """

    tensors: Tensors = field(default_factory=dict)
    new: tuple[str, ...] = ()
    copied: tuple[tuple[str, str], ...] = ()
    sentence: str = ""


def fit(
    given: Mapping[str, torch.Tensor],
    fresh: Mapping[str, torch.Tensor],
    file_classes: Sequence[str],
    classes: Sequence[str],
    *,
    how: str,
    where: str,
    names: Mapping[str, str] | None = None,
) -> Heads:
    """How the predictors of a file arrive in a model with other classes.

    Args:
        given: the file's tensors; cls_score (K + 1, D) with background last, bbox_pred (4 K, D),
            and of a mask head predictor (K, C, 1, 1).
        fresh: the model's, for rows that no class of the file has.
        file_classes: K names in the file's order, () where it has none.
        classes: the model's.
        how: "new" or "by_name", where the names differ.
        names: the file's name of a class to the model's, for by_name; before `SYNONYMS`.

    Returns:
        Nothing where the rows themselves do not fit (another net, or global context in one of the
        two alone): the count of all tensors refuses them.

    Raises:
        WeightsError: by_name without class names, or with none in common, or the file's names
            are not as many as its rows; or `names` has a class that is not there, or one twice.
    """
    if f"{SCORES}.bias" not in given or f"{SCORES}.bias" not in fresh:
        return Heads()
    rows = len(given[f"{SCORES}.bias"]) - 1
    if file_classes and len(file_classes) != rows:
        raise WeightsError(
            f"{where} scores {rows} classes, but {len(file_classes)} names are given for them. "
            "Name another data set in TRANSFER.HEAD_CLASSES."
        )
    if not file_classes:
        return _unnamed(given, fresh, rows, classes, how, where)
    if tuple(file_classes) == tuple(classes):
        return Heads(sentence=f"heads: the same {rows} classes")
    same_set = set(file_classes) == set(classes)
    if how == "new" and not same_set:
        return _fresh(given, fresh, f"{rows} classes in the file, {len(classes)} others here")
    if row_lengths(given) != row_lengths(fresh):
        return Heads()
    names = names or {}
    _refuse_unknown_names(names, file_classes, classes, where)
    copied = _pairs(file_classes, classes, names)
    if not copied:
        raise WeightsError(
            f"{where}: none of its {rows} classes ({', '.join(file_classes[:4])}, …) is among the "
            f"{len(classes)} here ({', '.join(classes[:4])}, …). Set TRANSFER.HEADS new."
        )
    tensors = _copy_rows(given, fresh, file_classes, classes, copied)
    renamed = [f"{a} as {b}" for a, b in copied if a != b]
    return Heads(
        tensors,
        copied=tuple(copied),
        sentence=f"heads: {len(copied)} of {len(classes)} classes copied by name"
        f"{' (' + ', '.join(renamed) + ')' if renamed else ''}, background too; "
        f"fresh: {', '.join(c for c in classes if c not in dict(copied).values()) or 'none'}; "
        f"left behind: {rows - len(copied)} of the file's {rows}",
    )


def row_lengths(tensors: Mapping[str, torch.Tensor]) -> list[int]:
    """How many numbers of a region class and box are predicted from; without those that lack."""
    weights = (tensors.get(f"{name}.weight") for name in (SCORES, DELTAS))
    return [weight.shape[1] for weight in weights if weight is not None and weight.ndim == 2]


def _unnamed(
    given: Mapping[str, torch.Tensor],
    fresh: Mapping[str, torch.Tensor],
    rows: int,
    classes: Sequence[str],
    how: str,
    where: str,
) -> Heads:
    if how == "by_name":
        raise WeightsError(
            f"{where} does not name its {rows} classes, so none can be copied by name. Name "
            "a data set that has them: TRANSFER.HEAD_CLASSES coco_2017_val."
        )
    if rows != len(classes):
        return _fresh(given, fresh, f"{rows} classes in the file, {len(classes)} here")
    return Heads(
        sentence=f"heads: {rows} classes, taken to be the same; the file does not name its own "
        "(TRANSFER.HEAD_CLASSES would)"
    )


def _fresh(given: Mapping[str, torch.Tensor], fresh: Mapping[str, torch.Tensor], why: str) -> Heads:
    new = [f"{SCORES}.*", f"{DELTAS}.*"]
    mask = f"{MASKS}.weight"
    # One mask for all classes stays as it is.
    if mask in given and mask in fresh and given[mask].shape != fresh[mask].shape:
        new.append(f"{MASKS}.*")
    return Heads(new=tuple(new), sentence=f"heads: new, {why}")


def _refuse_unknown_names(
    names: Mapping[str, str], file_classes: Sequence[str], classes: Sequence[str], where: str
) -> None:
    """Raises WeightsError for a map of names that cannot be meant."""
    faults = [f"{a}: no class of {where}" for a in names if a not in file_classes]
    faults += [f"{b}: no class here" for b in names.values() if b not in classes]
    faults += [f"{b}: named twice" for b, n in Counter(names.values()).items() if n > 1]
    if faults:
        raise WeightsError(
            f"TRANSFER.HEAD_NAMES: {'; '.join(faults)}. The file has {', '.join(file_classes)}; "
            f"here are {', '.join(classes)}."
        )


def _pairs(
    file_classes: Sequence[str], classes: Sequence[str], names: Mapping[str, str]
) -> list[tuple[str, str]]:
    """Names that both have, as stated, as such or by a synonym, in the order of `classes`."""
    there = {_one_name(c): c for c in file_classes if c not in names}
    stated = {b: a for a, b in names.items()}
    return [
        (stated[c] if c in stated else there[_one_name(c)], c)
        for c in classes
        if c in stated or _one_name(c) in there
    ]


def _one_name(name: str) -> str:
    return SYNONYMS.get(name, name)


def _copy_rows(
    given: Mapping[str, torch.Tensor],
    fresh: Mapping[str, torch.Tensor],
    file_classes: Sequence[str],
    classes: Sequence[str],
    pairs: Sequence[tuple[str, str]],
) -> Tensors:
    from_rows = torch.tensor([file_classes.index(a) for a, _ in pairs])
    to_rows = torch.tensor([classes.index(b) for _, b in pairs])
    copied = {}
    for leaf in ("weight", "bias"):
        name = f"{SCORES}.{leaf}"
        scores = fresh[name].clone()
        # The last row is the background's.
        scores[torch.cat([to_rows, torch.tensor([-1])])] = given[name][
            torch.cat([from_rows, torch.tensor([-1])])
        ].to(scores)
        copied[name] = scores
        name = f"{DELTAS}.{leaf}"
        if given[name].shape[0] != 4 * len(file_classes):
            continue  # boxes that are the same for all classes
        deltas = fresh[name].clone().unflatten(0, (-1, 4))
        deltas[to_rows] = given[name].unflatten(0, (-1, 4))[from_rows].to(deltas)
        copied[name] = deltas.flatten(0, 1)
    for leaf in ("weight", "bias"):
        name = f"{MASKS}.{leaf}"
        # Not one mask for all classes.
        if name in given and name in fresh and len(given[name]) == len(file_classes):
            masks = fresh[name].clone()
            masks[to_rows] = given[name][from_rows].to(masks)
            copied[name] = masks
    return copied
