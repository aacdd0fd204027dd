"""PASCAL VOC's own files, read strictly: annotation XML and image lists.

One parser for the loader and the evaluator (`faults.md` F90): what a training set and a score
read from an XML file cannot differ. Only the standard library is needed. What is harmless is
repaired and counted (blanks around names, missing `difficult`, a BOM in a list); everything
else names file, object and the way out.

Not for: deciding whether a box may leave its image or how boxes are counted from 0; that is
asked of `check_boxes` by those who need it.
"""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from resdet.errors import DataError

VOC_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa",
    "train", "tvmonitor",
)  # fmt: skip

CORNERS = ("xmin", "ymin", "xmax", "ymax")


@dataclass(frozen=True)
class VocObject:
    """One <object>: its box is (xmin, ymin, xmax, ymax) as the file has it, both ends inside."""

    name: str
    box: tuple[float, float, float, float]
    difficult: bool
    truncated: bool


@dataclass(frozen=True)
class Annotation:
    """One annotation file; `repairs` counts what was mended in reading."""

    path: Path
    filename: str | None
    width: int | None
    height: int | None
    objects: tuple[VocObject, ...]
    repairs: dict[str, int]

    def where(self, number: int) -> str:
        """How messages call the object with this 0-based number."""
        name = self.objects[number].name
        return f"{short_path(self.path)}, object {number + 1} ({name})"


def short_path(path: Path) -> str:
    """The last three parts: enough to find a file of a devkit tree, short enough to read."""
    return "/".join(path.parts[-3:])


def parse_annotation(path: Path | str) -> Annotation:
    """The annotation in one VOC XML file.

    Numbers may have decimals (VOC 2012 has some), `pose`, `truncated` and `size` may be
    missing, `truncated` may be a fraction; a missing `difficult` is 0, counted.

    Raises:
        DataError: no such file, not XML, not a VOC annotation, an object without a name or a
            whole box, a value that is no finite number; names file and object.
    """
    path = Path(path)
    try:
        root = ElementTree.parse(path).getroot()
    except FileNotFoundError:
        raise DataError(
            f"{path} does not exist. Add the annotation, or take {path.stem} out of the image list."
        ) from None
    except (ElementTree.ParseError, OSError, ValueError, LookupError) as error:
        raise DataError(
            f"{short_path(path)} is not readable as XML: {error}. Restore the file."
        ) from None
    if root.tag != "annotation":
        raise DataError(
            f"{short_path(path)} opens with <{root.tag}>, a VOC annotation with <annotation>. "
            "Is it another format?"
        )
    repairs: dict[str, int] = {}
    objects = tuple(
        _object(element, f"{short_path(path)}, object {number}", repairs)
        for number, element in enumerate(root.findall("object"), 1)
    )
    width, height = _size(root, short_path(path))
    filename = (root.findtext("filename") or "").strip() or None
    return Annotation(path, filename, width, height, objects, repairs)


def _object(element: ElementTree.Element, where: str, repairs: dict[str, int]) -> VocObject:
    raw = element.findtext("name") or ""
    name = raw.strip()
    if not name:
        raise DataError(f"{where} has no <name>. Write its class, or delete the object.")
    if name != raw:
        _count(repairs, "blanks around a class name")
    where = f"{where} ({name})"
    bounds = element.find("bndbox")
    if bounds is None:
        raise DataError(f"{where} has no <bndbox>. Write its box, or delete the object.")
    xmin, ymin, xmax, ymax = (_number(bounds.findtext(k), k, where) for k in CORNERS)
    if element.find("difficult") is None:
        _count(repairs, "difficult missing, read as 0")
        difficult = False
    else:
        difficult = _flag(element.findtext("difficult"), "difficult", where)
    # Some tools write how much is cut off, as a fraction; any cut is a cut.
    truncated_text = element.findtext("truncated")
    truncated = truncated_text is not None and _number(truncated_text, "truncated", where) > 0
    return VocObject(name, (xmin, ymin, xmax, ymax), difficult, truncated)


def _number(text: str | None, tag: str, where: str) -> float:
    if text is None:
        raise DataError(f"{where} has no <{tag}>. Write it, or delete the object.")
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or "_" in text:
        raise DataError(f'{where}: {tag} is "{text.strip()}". Write a finite number.')
    return value


def _flag(text: str | None, tag: str, where: str) -> bool:
    value = _number(text, tag, where)
    if value not in (0.0, 1.0):
        raise DataError(f'{where}: {tag} is "{(text or "").strip()}". Write 0 or 1.')
    return value == 1.0


def _size(root: ElementTree.Element, where: str) -> tuple[int | None, int | None]:
    size = root.find("size")
    if size is None:
        return None, None
    values = []
    for tag in ("width", "height"):
        value = _number(size.findtext(tag), tag, f"{where}, <size>")
        if value <= 0 or value != int(value):
            raise DataError(f"{where}, <size>: {tag} is {value:g}. Write the image's {tag}.")
        values.append(int(value))
    return values[0], values[1]


def _count(repairs: dict[str, int], what: str) -> None:
    repairs[what] = repairs.get(what, 0) + 1


def check_boxes(annotation: Annotation) -> list[str]:
    """What is wrong with the boxes, one sentence each: corners swapped, out of the image.

    Pixels are counted from 1, both ends inside; home-made files that count from 0 pass too.
    """
    faults = []
    stem = annotation.path.stem
    for number, item in enumerate(annotation.objects):
        xmin, ymin, xmax, ymax = item.box
        where = annotation.where(number)
        for low, high, axis in ((xmin, xmax, "x"), (ymin, ymax, "y")):
            if low > high:
                faults.append(
                    f"{where}: {axis}min {low:g} is greater than {axis}max {high:g}. "
                    "Swap them or delete the object."
                )
        for low, high, axis, size, word in (
            (xmin, xmax, "x", annotation.width, "wide"),
            (ymin, ymax, "y", annotation.height, "high"),
        ):
            if low < 0:
                faults.append(f"{where}: {axis}min is {low:g}. VOC counts pixels from 1.")
            if size is not None and high > size:
                faults.append(
                    f"{where}: {axis}max is {high:g}, the image is {size} {word}. "
                    f"Mend the file, or take {stem} out of the image list."
                )
    return faults


def read_image_list(path: Path | str) -> tuple[str, ...]:
    """The ids in ImageSets/Main/<split>.txt, in the file's order.

    A BOM, CRLF, blank lines and blanks around ids are mended.

    Raises:
        DataError: no such file (names the lists that are there), two columns (a list of one
            class), an id twice, no id at all.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError(_no_list(path)) from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is not readable as a list: {error}.") from None
    ids = [line.strip() for line in text.splitlines() if line.strip()]
    if not ids:
        raise DataError(f"{path} lists no image. Write one image id per line.")
    for item in ids:
        if len(item.split()) > 1:
            raise DataError(
                f'{short_path(path)} has two columns ("{item}"): it lists one class. '
                "Use the list without a class in its name, such as test.txt."
            )
    _refuse_repeated(ids, short_path(path))
    return tuple(ids)


def _refuse_repeated(ids: Sequence[str], where: str) -> None:
    first: dict[str, int] = {}
    for number, item in enumerate(ids, 1):
        if item in first:
            raise DataError(
                f"{where}: image {item} stands twice (entries {first[item]} and {number}). "
                "Its objects would count twice; delete one line."
            )
        first[item] = number


def _no_list(path: Path) -> str:
    folder = path.parent
    if not folder.is_dir():
        return (
            f"{folder} does not exist. Expected <root>/ImageSets/Main/{path.name}, "
            "<root>/Annotations/<id>.xml; give the folder that holds them as --root."
        )
    there = sorted(p.stem for p in folder.glob("*.txt") if "_" not in p.stem)
    return f"{path} does not exist. The folder has these splits: {', '.join(there) or 'none'}."
