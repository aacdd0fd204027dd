"""ILSVRC's tree and the text files in it, as the challenges of 2015 and later unpack.

    ROOT/Data/{DET,CLS-LOC}/{train,val,test}/<image id>.JPEG
    ROOT/Annotations/{DET,CLS-LOC}/{train,val}/<image id>.xml     VOC's XML, wnids for names
    ROOT/ImageSets/DET/train_<1 to 200>.txt                       <image id> <1, 0 or -1>
    ROOT/ImageSets/DET/{val,test}.txt                             <image id> <index from 1>
    ROOT/ImageSets/CLS-LOC/{train_loc,val,test}.txt               <image id> <index from 1>
    ROOT/devkit/data/map_{det,clsloc}.txt                         <wnid> <id from 1> <name>
    ROOT/devkit/data/*_det_validation_blacklist.txt               <index> <wnid>
    ROOT/devkit/data/*_clsloc_validation_blacklist.txt            <index>
    ROOT/devkit/data/*_clsloc_validation_ground_truth.txt         <id>, a line per image of val

Ids of images may have folders (`n01440764/n01440764_10040`). The older trees of 2013 and 2014
(ILSVRC2013_DET_val and the like) are another layout and are not read.

Source: the development kit of ILSVRC2015, its readme, sections 2 and 3.

Not for: what is in the XML (`voc_xml`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from resdet import bounded_files
from resdet.errors import DataError, first_few

DET, LOC = "DET", "CLS-LOC"
DET_CLASSES = 200
# In <image id> <label> of a training list: all instances of the class are boxed, some, or none is
# in the image.
POSITIVE, PARTIAL, NEGATIVE = "1", "0", "-1"


@dataclass(frozen=True)
class SynsetMap:
    """The classes of a track in the order of their ids; place 0 is id 1."""

    wnids: tuple[str, ...]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.wnids)

    def place(self) -> dict[str, int]:
        """Wnid to place, from 0."""
        return {wnid: i for i, wnid in enumerate(self.wnids)}


@dataclass(frozen=True)
class ImageList:
    """Image ids in the order of the list, and the index that result files have for each."""

    ids: tuple[str, ...]
    indices: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class IlsvrcTree:
    """Where things are below a root; nothing is looked at.

    Attributes:
        root: the folder that has Data, Annotations, ImageSets and devkit.
        track: "DET" or "CLS-LOC".
    """

    root: Path
    track: str

    def images(self, split: str) -> Path:
        return self.root / "Data" / self.track / _base(split)

    def annotations(self, split: str) -> Path:
        return self.root / "Annotations" / self.track / _base(split)

    def list_file(self, split: str) -> Path:
        """The list of a split: val1 and val2 are lists of images of val."""
        return self.root / "ImageSets" / self.track / f"{split}.txt"

    def class_lists(self) -> list[Path]:
        """Of DET's training images, a list per class, by number; train_pos_<n>.txt where those of
        2014 are there."""
        folder = self.root / "ImageSets" / self.track
        for stem in ("train_", "train_pos_"):
            found = {}
            for path in folder.glob(f"{stem}*.txt"):
                if number := _number(path.stem.removeprefix(stem)):
                    found[number] = path
            if found:
                return [found[number] for number in sorted(found)]
        return []

    def is_of_val(self, split: str) -> bool:
        """Whether its images are val's, of which alone the kit has labels and a blacklist."""
        return _base(split) == "val"

    @property
    def kit(self) -> Path:
        return self.root / "devkit" / "data"

    @property
    def map_file(self) -> Path:
        return self.kit / ("map_det.txt" if self.track == DET else "map_clsloc.txt")

    def kit_file(self, ending: str) -> Path | None:
        """The newest file of the development kit with this ending, whatever its year."""
        found = sorted(self.kit.glob(f"*_{ending}"))
        return found[-1] if found else None

    @property
    def blacklist(self) -> Path | None:
        name = "det" if self.track == DET else "clsloc"
        return self.kit_file(f"{name}_validation_blacklist.txt")

    @property
    def validation_labels(self) -> Path | None:
        """CLS-LOC's id of each image of val; the file of 2012 has the same ids."""
        return self.kit_file("clsloc_validation_ground_truth.txt") or self.kit_file(
            "validation_ground_truth.txt"
        )


def _base(split: str) -> str:
    """The folder of a split's images: train_loc is of train, val1 and val2 of val."""
    return next((base for base in ("train", "val", "test") if split.startswith(base)), split)


# -- files -------------------------------------------------------------------------------------


def read_synsets(path: Path | str) -> SynsetMap:
    """The classes in map_det.txt or map_clsloc.txt: `<wnid> <id> <name>`, ids 1, 2, …

    Raises:
        DataError: no such file, or its lines are not so; names the first.
    """
    path = Path(path)
    wnids: list[str] = []
    names: list[str] = []
    for number, line in _lines(path):
        wnid, _, rest = line.partition(" ")
        given, _, name = rest.strip().partition(" ")
        if _number(given) != len(wnids) + 1:
            raise DataError(
                f'{path}, line {number}: "{line[:60]}" is not `wnid id name` with id '
                f"{len(wnids) + 1}. Copy the file of the development kit again."
            )
        wnids.append(wnid)
        names.append(name.strip().replace("_", " ") or wnid)
    if not wnids:
        raise DataError(f"{path} has no class in it. Copy the file of the development kit again.")
    if len(set(wnids)) < len(wnids):
        twice = sorted({w for w in wnids if wnids.count(w) > 1})
        raise DataError(f"{path} has wnids twice: {', '.join(twice[:5])}. Copy the file again.")
    return SynsetMap(tuple(wnids), tuple(names))


def read_images(path: Path | str) -> ImageList:
    """The images of a list: `<image id> <index>`, or image ids alone, which then count from 1.

    Raises:
        DataError: no such file, a line of another form, or an image or index twice.
    """
    path = Path(path)
    ids: list[str] = []
    indices: list[int] = []
    faulty: list[str] = []
    without = 0
    for number, line in _lines(path):
        parts = line.split()
        if len(parts) == 1:
            without += 1
            parts.append(str(len(ids) + 1))
        index = _number(parts[1]) if len(parts) == 2 else None
        if index is None:
            faulty.append(f'line {number}: "{line[:60]}"')
            continue
        ids.append(parts[0])
        indices.append(index)
    if faulty:
        raise DataError(
            f"{path}: {len(faulty):,} lines are not `image_id index`.\n{first_few(faulty, 5)}"
        )
    if 0 < without < len(ids):
        raise DataError(
            f"{path}: {without:,} of {len(ids):,} images have no index, the others have one. Give "
            "every line the image's index, or none."
        )
    if not ids:
        raise DataError(f"{path} lists 0 images. Write one image id a line.")
    for what, values in (("images", ids), ("indices", indices)):
        if len(set(values)) < len(values):
            raise DataError(
                f"{path} has {len(values) - len(set(values)):,} {what} twice, and each counts "
                "once. Delete the others."
            )
    return ImageList(tuple(ids), tuple(indices))


def read_labelled(path: Path | str) -> Iterator[tuple[str, str]]:
    """(image id, label) of each line of a class's training list; "1" where the list has none.

    Raises:
        DataError: no such file, or a label that is not 1, 0 or -1.
    """
    for number, line in _lines(Path(path)):
        image_id, _, label = line.partition(" ")
        label = label.strip() or POSITIVE
        if label not in (POSITIVE, PARTIAL, NEGATIVE):
            raise DataError(
                f'{path}, line {number}: the label "{label[:20]}" is not 1 (positive), 0 '
                "(partial) or -1 (negative)."
            )
        yield image_id, label


def read_det_blacklist(path: Path | str, place: dict[str, int]) -> list[tuple[int, int]]:
    """(index, DET id from 1) of pairs of image and class that are not scored: `<index> <wnid>`.

    Args:
        place: wnid to place, from 0.

    Raises:
        DataError: no such file, another form, or a wnid that is no class of the track.
    """
    pairs = []
    for number, line in _lines(Path(path)):
        index, _, wnid = line.partition(" ")
        number_of_image = _number(index)
        if number_of_image is None or wnid.strip() not in place:
            raise DataError(
                f'{path}, line {number}: "{line[:60]}" is not `index wnid` with a wnid of '
                "map_det.txt."
            )
        pairs.append((number_of_image, place[wnid.strip()] + 1))
    return pairs


def read_numbers(path: Path | str) -> list[int]:
    """The whole numbers of a file, one a line: LOC's blacklist, or its validation labels.

    Raises:
        DataError: no such file, or a line that is no whole number above 0.
    """
    numbers = []
    for place, line in _lines(Path(path)):
        value = _number(line)
        if value is None:
            raise DataError(f'{path}, line {place}: "{line[:40]}" is not a number from 1.')
        numbers.append(value)
    return numbers


def _number(text: str) -> int | None:
    """A whole number from 1 in plain digits, as an array of int64 takes it; None for another."""
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        return None
    return int(text) or None


def _lines(path: Path) -> list[tuple[int, str]]:
    """Lines with something in them and their numbers, blanks and tabs made single blanks."""
    try:
        text = bounded_files.read_text(path, encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError(
            f"{path} does not exist. `python datasets/prepare_ilsvrc.py ROOT` lists what an ILSVRC "
            "tree lacks, and where it is from."
        ) from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as text: {error}.") from None
    lines = enumerate(text.splitlines(), 1)
    return [(number, " ".join(line.split())) for number, line in lines if line.strip()]
