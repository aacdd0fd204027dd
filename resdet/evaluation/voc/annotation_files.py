"""The annotations of a VOC tree for scoring: one file read, and whether its boxes can be scored.

The XML is parsed by `resdet.formats.voc_xml`, the parser of the training sets, too
(`docs/faults.md` F90).

Not for: the set as a whole (`voc_arrays`).
"""

from __future__ import annotations

import math
from pathlib import Path

from resdet import bounded_files
from resdet.errors import DataError
from resdet.formats.voc_xml import MOST_BYTES, VocFile, VocObject, parse_voc


def read_annotation(path: Path | str) -> VocFile:
    """The annotation in one VOC XML file; what is wrong with it is among its faults.

    Raises:
        DataError: the path is none that a file can have.
    """
    path = Path(path)
    # Enough to find a file of a devkit tree, short enough to read.
    where = "/".join(path.parts[-3:])
    try:
        data = bounded_files.read_bytes(path, MOST_BYTES)
    except FileNotFoundError:
        fault = (
            f"{path} does not exist. Add the annotation, or take {path.stem} out of the image list."
        )
        return VocFile(where, faults=[fault])
    except OSError as error:
        return VocFile(where, faults=[f"{path} cannot be read: {error.strerror}."])
    except ValueError:  # a zero byte, which no file has in its name
        raise DataError(f"image id {path.stem!r} is no file name. Fix the image list.") from None
    return parse_voc(data, where)


def name_of(annotation: VocFile, item: VocObject) -> str:
    """The name of an object in messages."""
    return f"{annotation.where}, object {item.number} ({item.name})"


def swapped(annotation: VocFile, item: VocObject) -> str:
    """What is wrong with a box whose corners are swapped; "" for any other."""
    xmin, ymin, xmax, ymax = item.box
    for low, high, axis in ((xmin, xmax, "x"), (ymin, ymax, "y")):
        if low > high:
            return (
                f"{name_of(annotation, item)}: {axis}min {low:g} is greater than {axis}max "
                f"{high:g}. Swap them or delete the object."
            )
    return ""


def leaves_image(annotation: VocFile, item: VocObject) -> bool:
    """Whether a box has a part outside its image; home-made files may count from 0."""
    xmin, ymin, xmax, ymax = item.box
    width, height = annotation.size or (math.inf, math.inf)
    return min(xmin, ymin) < 0 or xmax > width or ymax > height
