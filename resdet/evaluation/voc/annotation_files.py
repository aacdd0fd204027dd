"""The annotations of a VOC tree for scoring: one file read, and whether its boxes can be scored.

The XML is parsed by `resdet.formats.voc_xml`, the parser of the training sets, too
(`docs/faults.md` F90).

Not for: the set as a whole (`voc_arrays`).
"""

from __future__ import annotations

from pathlib import Path

from resdet.errors import DataError, first_few
from resdet.formats.voc_xml import VocFile, VocObject, parse_voc


def read_annotation(path: Path | str) -> VocFile:
    """The annotation in one VOC XML file.

    Raises:
        DataError: no such file, or one that is not a whole VOC annotation; names file and object.
    """
    path = Path(path)
    # Enough to find a file of a devkit tree, short enough to read.
    where = "/".join(path.parts[-3:])
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise DataError(
            f"{path} does not exist. Add the annotation, or take {path.stem} out of the image list."
        ) from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from None
    except ValueError:  # a zero byte, which no file has in its name
        raise DataError(f"image id {path.stem!r} is no file name. Fix the image list.") from None
    annotation = parse_voc(data, where)
    if annotation.faults:
        raise DataError(first_few(annotation.faults, indent=""))
    return annotation


def name_of(annotation: VocFile, item: VocObject) -> str:
    """The name of an object in messages."""
    return f"{annotation.where}, object {item.number} ({item.name})"


def check_boxes(annotation: VocFile) -> list[str]:
    """What is wrong with the boxes, one sentence each: corners swapped, out of the image.

    Pixels are counted from 1, both ends inside; home-made files that count from 0 pass too.
    """
    faults = []
    width, height = annotation.size or (None, None)
    stem = Path(annotation.where).stem
    for item in annotation.objects:
        xmin, ymin, xmax, ymax = item.box
        where = name_of(annotation, item)
        for low, high, axis, size, word in (
            (xmin, xmax, "x", width, "wide"),
            (ymin, ymax, "y", height, "high"),
        ):
            if low > high:
                faults.append(
                    f"{where}: {axis}min {low:g} is greater than {axis}max {high:g}. "
                    "Swap them or delete the object."
                )
            if low < 0:
                faults.append(f"{where}: {axis}min is {low:g}. VOC counts pixels from 1.")
            if size is not None and high > size:
                faults.append(
                    f"{where}: {axis}max is {high:g}, the image is {size} {word}. "
                    f"Fix the file, or take {stem} out of the image list."
                )
    return faults
