"""How many images data sets have, before any is loaded: what lies here, else what was published.

Of a list or an instances file its entries are counted; no image and no annotation is looked at.

Not for: sets that are checked (`catalog.load_detection`), or what is missing of one (`not_found`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from resdet.data.names import COCO, DIGITS, VOC, needs, root_folder, split_path_name, voc_folder
from resdet.data.readers.instances_file import read_json
from resdet.errors import DataError
from resdet.formats.voc_list import read_list


@dataclass(frozen=True)
class SetSizes:
    """Images of each set.

    Attributes:
        published: names of those that are not here, and have the number of their publication.
    """

    images: tuple[int, ...]
    published: tuple[str, ...] = ()

    def source(self) -> str:
        """What to say behind their sum: where it does not come from files; "" where it does."""
        if not self.published:
            return ""
        verb = "is" if len(self.published) == 1 else "are"
        return f", as published: {', '.join(self.published)} {verb} not here"


def sizes_of(names: Iterable[str], *, root: Path | str | None = None) -> SetSizes | None:
    """Of the sets of a detector; None where there are none, or one's number is not known.

    A damaged list or file ends a training, with its page; here its number is not known.

    Args:
        root: of the sets with a fixed name; DETECTRON2_DATASETS or ./datasets without it.
    """
    base = root_folder(root)[0]
    images, published = [], []
    for name in names:
        try:
            size = _here(name, base)
        except DataError:
            return None
        if size is None:
            spec = VOC.get(name) or COCO.get(name)
            if spec is None:
                return None
            size = spec.size
            published.append(name)
        images.append(size)
    return SetSizes(tuple(images), tuple(published)) if images else None


def _here(name: str, base: Path) -> int | None:
    """By its files; None where they are not here, or such a set has none to count."""
    if name in DIGITS:
        return _of_digits(name)
    own = split_path_name(name)
    if own is None and name not in VOC and name not in COCO:
        return None
    if not all(path.exists() for path in needs(name, base)):
        return None
    if name in VOC:
        return len(read_list(voc_folder(base, VOC[name].year), VOC[name].split))
    if own is not None and own[0] == "voc":
        return len(read_list(own[1], own[2]))
    return _listed(base / COCO[name].annotations if own is None else own[1])


def _listed(instances: Path) -> int:
    """Raises DataError for a file without a list of images."""
    images = read_json(instances).get("images")
    if not isinstance(images, list):
        raise DataError(f"{instances} has no list of images.")
    return len(images)


def _of_digits(name: str) -> int:
    from resdet.data import digits

    return digits.SIZES[name.replace("digits", "scenes")]
