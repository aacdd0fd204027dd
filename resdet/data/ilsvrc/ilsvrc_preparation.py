"""What an ILSVRC tree has, what of the rest can be made, and where the other files are from.

Only files that are missing are ever written, each whole or not at all: lists in ImageSets, and the
maps of classes in devkit/data. Images, annotations and files that are there are never touched.

Not for: printing (`datasets/prepare_ilsvrc.py`), or reading images.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from resdet import bounded_files
from resdet.atomic import write_text
from resdet.errors import DataError, first_few
from resdet.formats.ilsvrc_tree import (
    DET,
    DET_CLASSES,
    LOC,
    IlsvrcTree,
    ImageList,
    read_images,
    read_synsets,
)
from resdet.formats.voc_xml import MOST_BYTES, parse_voc
from resdet.printable import counted

THERE, MADE, MISSING, OPTIONAL = "there", "made", "missing", "missing, not needed"
ARCHIVES = {DET: "ILSVRC2015_DET.tar.gz", LOC: "ILSVRC2015_CLS-LOC.tar.gz"}
SITE = "image-net.org, after signing in"


@dataclass(frozen=True)
class TreePart:
    """One file or folder of a tree.

    Attributes:
        path: below the root.
        state: `THERE`, `MADE` now, `MISSING`, or `OPTIONAL`, missing and not needed.
        what: its contents, in words, or what is wrong with them.
        source: where a missing one is from.
    """

    path: Path
    state: str
    what: str
    source: str = ""


def prepare(
    root: Path | str,
    *,
    tracks: Sequence[str] = (DET, LOC),
    loc_wnids: Sequence[str] = (),
    val1: Path | str | None = None,
    val2: Path | str | None = None,
    halves: bool = False,
) -> list[TreePart]:
    """Looks at every part of a tree, and makes the lists that are missing and can be made.

    Args:
        loc_wnids: the classes of CLS-LOC by their ids, for a map that is missing.
        val1, val2: lists of DET's val images, R-CNN's or one's own; without `val2` it is the rest.
        halves: without `val1`, halves of val with about as many objects of each class are made.

    Raises:
        DataError: there is no such folder; a list has images that are not in val.txt, or the two
            have one image both; a part is there and cannot be read.
    """
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"{root} is not a folder. Give the one that has Data and Annotations.")
    parts = []
    for track in tracks:
        tree = IlsvrcTree(root, track)
        parts += _det(tree, val1, val2, halves) if track == DET else _loc(tree, loc_wnids)
    return parts


def whole(parts: Iterable[TreePart]) -> bool:
    """Whether nothing that is needed is missing."""
    return all(part.state != MISSING for part in parts)


# -- DET ---------------------------------------------------------------------------------------


def _det(
    tree: IlsvrcTree, val1: Path | str | None, val2: Path | str | None, halves: bool
) -> list[TreePart]:
    kit, archive = f"the development kit in {ARCHIVES[DET]}", f"{ARCHIVES[DET]} ({SITE})"
    parts = [
        _file(tree, tree.map_file, kit, _classes_of, make=lambda: _map_of_meta(tree)),
        _folder(tree, tree.images("train"), archive),
        _folder(tree, tree.annotations("train"), archive),
        _class_lists(tree, archive),
        _folder(tree, tree.images("val"), archive),
        _folder(tree, tree.annotations("val"), archive),
        _file(tree, tree.list_file("val"), archive, _images_of,
              make=lambda: _list_of_folder(tree.images("val"))),
        _folder(tree, tree.images("test"), archive, needed=False),
        _file(tree, tree.list_file("test"), archive, _images_of, needed=False,
              make=lambda: _list_of_folder(tree.images("test"))),
        _kit_file(tree, "det_validation_blacklist.txt", kit),
    ]  # fmt: skip
    return [*parts, *_val_halves(tree, val1, val2, halves)]


def _class_lists(tree: IlsvrcTree, archive: str) -> TreePart:
    found = tree.class_lists()
    path = Path("ImageSets") / DET / f"train_<1 to {DET_CLASSES}>.txt"
    if not found:
        return TreePart(path, MISSING, "lists of training images by class", archive)
    try:
        number = len(read_synsets(tree.map_file))
    except DataError:
        number = DET_CLASSES
    if len(found) < number:
        return TreePart(path, MISSING, f"{len(found):,} of {number:,} class lists", archive)
    return TreePart(path, THERE, f"{len(found):,} class lists")


def _map_of_meta(tree: IlsvrcTree) -> str | None:
    """map_det.txt of meta_det.mat; None without it, or without scipy to read it."""
    path = tree.kit / "meta_det.mat"
    if not path.is_file():
        return None
    try:
        from scipy.io import loadmat
    except ImportError:
        return None
    try:
        synsets = loadmat(path, squeeze_me=True, struct_as_record=False)["synsets"]
        rows = [(s.WNID, str(s.name)) for s in synsets[:DET_CLASSES]]
    except Exception as error:  # scipy has errors of its own for files of other versions
        raise DataError(
            f"{path} cannot be read as the development kit's ({error}). Copy it again, or put "
            "map_det.txt beside it."
        ) from None
    return "".join(
        f"{wnid} {i} {name.replace(' ', '_')}\n" for i, (wnid, name) in enumerate(rows, 1)
    )


def _val_halves(
    tree: IlsvrcTree, val1: Path | str | None, val2: Path | str | None, halves: bool
) -> list[TreePart]:
    """Both lists; one that is there is kept, and the other is then the rest of val."""
    paths = [tree.list_file(name) for name in ("val1", "val2")]
    lists = [_half(path, given) for path, given in zip(paths, (val1, val2), strict=True)]
    there = [path.is_file() for path in paths]
    if not all(there):
        val_file = tree.list_file("val")
        if not val_file.is_file() or (lists == [None, None] and not halves):
            return [_part_of_half(tree, path) for path in paths]
        val = read_images(val_file)
        lists = _completed(lists, paths, val, tree)
    first, second = (set() if half is None else half for half in lists)
    if both := sorted(first & second):
        raise DataError(
            f"{len(both):,} images are in val1 and in val2 ({val1 or paths[0]}, "
            f"{val2 or paths[1]}), and would be trained and tested on.\n{first_few(both, 5)}\n"
            "Take them out of one of the two."
        )
    parts = []
    for path, ids, is_there in zip(paths, (first, second), there, strict=True):
        if not is_there:
            index = dict(zip(val.ids, val.indices, strict=True))
            write_text(path, "".join(f"{i} {index[i]}\n" for i in val.ids if i in ids))
        parts.append(_part_of_half(tree, path, THERE if is_there else MADE))
    return parts


def _part_of_half(tree: IlsvrcTree, path: Path, state: str = THERE) -> TreePart:
    short = path.relative_to(tree.root)
    if path.is_file():
        return TreePart(short, state, _images_of(path))
    how = "R-CNN's lists (val1.txt and val2.txt of its data): --val1 FILE [--val2 FILE]"
    return TreePart(short, MISSING, "half of val", how)


def _half(path: Path, given: Path | str | None) -> set[str] | None:
    """The images of a list that is there, else of the one that is given.

    Raises:
        DataError: both are there, and have other images.
    """
    stated = None if given is None else set(read_images(given).ids)
    if not path.is_file():
        return stated
    own = set(read_images(path).ids)
    if stated is not None and stated != own:
        raise DataError(
            f"{path} is there, with {counted(len(own), 'image')}, and {given} has {len(stated):,}, "
            f"{len(own ^ stated):,} of them in one of the two alone. Nothing that is there is "
            "written over: move it away, or leave the file out."
        )
    return own


def _completed(
    lists: list[set[str] | None], paths: Sequence[Path], val: ImageList, tree: IlsvrcTree
) -> list[set[str] | None]:
    """Both halves of val: a missing one is the rest, two missing ones are balanced.

    Raises:
        DataError: one has images that are not in val.
    """
    known = set(val.ids)
    for path, ids in zip(paths, lists, strict=True):
        if unknown := sorted((ids or set()) - known):
            raise DataError(
                f"the list for {path.name}: {len(unknown):,} of {len(ids or ()):,} images are not "
                f"in val.txt.\n{first_few(unknown, 5)}\nIs it a list of this val? The years' names "
                "differ."
            )
    if lists == [None, None]:
        return list(balanced_halves(val.ids, _objects_by_image(tree, val)))
    other = next(ids for ids in lists if ids is not None)
    return [known - other if ids is None else ids for ids in lists]


def balanced_halves(
    ids: Sequence[str], objects: Mapping[str, Counter[str]]
) -> tuple[set[str], set[str]]:
    """Two halves of the images with about as many objects of each class, the same each time.

    An image with the rarest class goes first, to the half that has fewer objects of that class;
    images without an object are dealt last, to the smaller half.

    Example:
        >>> first, second = balanced_halves(["a", "b", "c"], {"a": Counter(x=1), "b": Counter(x=1)})
        >>> sorted(first), sorted(second)
        (['a', 'c'], ['b'])
    """
    total: Counter[str] = Counter()
    for counts in objects.values():
        total.update(counts)

    def rarest(image_id: str) -> str:
        return min(objects.get(image_id, ()), key=lambda c: (total[c], c), default="")

    rare = {i: rarest(i) for i in ids}
    order = sorted(ids, key=lambda i: (not rare[i], total[rare[i]]))
    halves: tuple[set[str], set[str]] = (set(), set())
    seen: tuple[Counter[str], Counter[str]] = (Counter(), Counter())
    for image_id in order:
        name = rare[image_id]
        load = [(seen[h][name], len(halves[h]), h) for h in (0, 1)]
        half = min(load)[2]
        halves[half].add(image_id)
        seen[half].update(objects.get(image_id, Counter()))
    return halves


def _objects_by_image(tree: IlsvrcTree, images: ImageList) -> dict[str, Counter[str]]:
    folder, found = tree.annotations("val"), {}
    for image_id in images.ids:
        path = folder / f"{image_id}.xml"
        if path.is_file():
            parsed = parse_voc(bounded_files.read_bytes(path, MOST_BYTES), str(path))
            found[image_id] = Counter(item.name for item in parsed.objects)
    return found


# -- CLS-LOC -----------------------------------------------------------------------------------


def _loc(tree: IlsvrcTree, wnids: Sequence[str]) -> list[TreePart]:
    kit, archive = f"the development kit in {ARCHIVES[LOC]}", f"{ARCHIVES[LOC]} ({SITE})"

    def map_of_wnids() -> str | None:
        # The classes of ImageNet are known; those of a tree with others are not.
        train = tree.images("train")
        there = {e.name for e in os.scandir(train) if e.is_dir()} if train.is_dir() else set()
        if not there or not there <= set(wnids):
            return None
        return "".join(f"{wnid} {i} {wnid}\n" for i, wnid in enumerate(wnids, 1))

    return [
        _file(tree, tree.map_file, kit, _classes_of, make=map_of_wnids),
        _folder(tree, tree.images("train"), archive),
        _folder(tree, tree.annotations("train"), archive),
        _file(tree, tree.list_file("train_loc"), archive, _images_of,
              make=lambda: _list_of_boxed(tree)),
        _folder(tree, tree.images("val"), archive),
        _folder(tree, tree.annotations("val"), archive),
        _file(tree, tree.list_file("val"), archive, _images_of,
              make=lambda: _list_of_folder(tree.images("val"))),
        _folder(tree, tree.images("test"), archive, needed=False),
        _file(tree, tree.list_file("test"), archive, _images_of, needed=False,
              make=lambda: _list_of_folder(tree.images("test"))),
        _kit_file(tree, "clsloc_validation_ground_truth.txt", kit),
        _kit_file(tree, "clsloc_validation_blacklist.txt", kit),
    ]  # fmt: skip


def _list_of_boxed(tree: IlsvrcTree) -> str | None:
    """train_loc.txt: the training images that have an annotation and a file, class by class."""
    boxed, images = tree.annotations("train"), tree.images("train")
    if not boxed.is_dir() or not images.is_dir():
        return None
    ids = []
    for folder in sorted(e.name for e in os.scandir(boxed) if e.is_dir()):
        there = set(_stems(images / folder, ".JPEG"))
        ids += [f"{folder}/{stem}" for stem in _stems(boxed / folder, ".xml") if stem in there]
    return _numbered(ids)


# -- parts -------------------------------------------------------------------------------------


def _list_of_folder(folder: Path) -> str | None:
    """`<image id> <index>` of the images of a folder, in the order of their names, as the lists of
    val and test have them."""
    return _numbered(_stems(folder, ".JPEG"))


def _numbered(ids: Sequence[str]) -> str | None:
    return "".join(f"{image_id} {n}\n" for n, image_id in enumerate(ids, 1)) or None


def _stems(folder: Path, suffix: str) -> list[str]:
    if not folder.is_dir():
        return []
    names = (e.name for e in os.scandir(folder))
    return sorted(name.removesuffix(suffix) for name in names if name.endswith(suffix))


def _classes_of(path: Path) -> str:
    return f"{len(read_synsets(path)):,} classes"


def _images_of(path: Path) -> str:
    return counted(len(read_images(path)), "image")


def _file(
    tree: IlsvrcTree,
    path: Path,
    source: str,
    describe: Callable[[Path], str],
    *,
    make: Callable[[], str | None],
    needed: bool = True,
) -> TreePart:
    """A file that is there, or is made now where `make` gives a text for it."""
    short, state = path.relative_to(tree.root), THERE
    if not path.is_file():
        text = make()
        if text is None:
            return TreePart(short, MISSING if needed else OPTIONAL, "", source)
        write_text(path, text)
        state = MADE
    return TreePart(short, state, describe(path))


def _folder(tree: IlsvrcTree, path: Path, source: str, *, needed: bool = True) -> TreePart:
    short = path.relative_to(tree.root)
    if path.is_dir() and any(os.scandir(path)):
        return TreePart(short, THERE, f"{sum(1 for _ in os.scandir(path)):,} entries")
    return TreePart(short, MISSING if needed else OPTIONAL, "", source)


def _kit_file(tree: IlsvrcTree, ending: str, source: str) -> TreePart:
    path = tree.kit_file(ending)
    if path is None:
        return TreePart(Path("devkit/data") / f"ILSVRC2015_{ending}", OPTIONAL, "", source)
    return TreePart(path.relative_to(tree.root), THERE, "")
