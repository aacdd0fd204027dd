"""VOC's image lists: ImageSets/Main/<split>.txt, one id a line (`docs/faults.md` F2, F5, F9).

Read line by line: a list of one image is a list, `#` is a letter, and a BOM, CRLF, blank lines and
blanks at the ends are fixed.

Not for: finding the images (`resdet.data.readers.listed_files`).
"""

from __future__ import annotations

import shlex
from pathlib import Path, PureWindowsPath

from resdet import bounded_files
from resdet.errors import DataError
from resdet.formats import foreign

PRESENCE = ("-1", "0", "1")
_OF_IMAGES = (".jpg", ".jpeg", ".png", ".bmp")


def read_list(root: Path, split: str) -> tuple[str, ...]:
    """The ids of a split, in the file's order.

    Raises:
        DataError: no such list (names those that are there), no text, two columns, an id twice,
            or no id at all.
    """
    path = root / "ImageSets" / "Main" / f"{split}.txt"
    where = f"ImageSets/Main/{split}.txt"
    try:
        data = bounded_files.read_bytes(path, bounded_files.TEXT_BYTES)
    except (OSError, ValueError) as error:  # a zero byte, which no file has in its name
        raise DataError(_no_list(root, split, error)) from None
    head = data[: foreign.HEAD_BYTES]
    if data and foreign.is_foreign(head, len(data)):
        raise DataError(f"{path} {foreign.describe(head, len(data), expected='a list of images')}")
    try:
        lines = data.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text: {error}. Save it as UTF-8.") from None
    numbered = [(n, line.strip()) for n, line in enumerate(lines, 1) if line.strip()]
    if torn := [n for n, line in numbered if "\0" in line]:
        raise DataError(
            f"{path}, line {torn[0]}: a zero byte in an image id, which no file name can hold. "
            "Write one image id a line."
        )
    if not numbered:
        raise DataError(f"{path} lists 0 images, so the set is empty. Write one image id a line.")
    columns = [line.split() for _, line in numbered]
    if all(len(c) == 2 and c[1] in PRESENCE for c in columns):
        whole = split.rpartition("_")[2]
        raise DataError(
            f'{where} in {root} has two columns ("{numbered[0][1]}"): it lists one class. Use '
            f"{whole}.txt."
        )
    _refuse_file_names([image_id for _, image_id in numbered], root, path)
    _refuse_repeated(numbered, root, where)
    return tuple(image_id for _, image_id in numbered)


def _refuse_file_names(ids: list[str], root: Path, path: Path) -> None:
    """Other tools' lists: JPEGImages/000031.jpg, or 000031.jpg, for 000031."""
    names = [PureWindowsPath(line) for line in ids]  # takes both kinds of slashes
    is_file = all(name.suffix.lower() in _OF_IMAGES for name in names)
    if not is_file or (root / "JPEGImages" / f"{ids[0]}.jpg").exists():
        return
    code = (
        "import pathlib, sys; p = pathlib.Path(sys.argv[1]); p.write_text("
        '"".join(pathlib.PureWindowsPath(n.strip()).stem + "\\n" '
        "for n in p.read_text().splitlines() if n.strip()))"
    )
    raise DataError(
        f"{path} lists names of files ({ids[0]}), expected image ids ({names[0].stem}). Make ids "
        f"of them:\n  python -c {shlex.quote(code)} {shlex.quote(str(path))}"
    )


def _refuse_repeated(numbered: list[tuple[int, str]], root: Path, where: str) -> None:
    first: dict[str, int] = {}
    twice = []
    for number, image_id in numbered:
        if image_id in first:
            twice.append(f"{image_id} in lines {first[image_id]} and {number}")
        first.setdefault(image_id, number)
    if twice:
        shown = "; ".join(twice[:20])
        raise DataError(
            f"{where} in {root} lists {len(twice)} of {len(first)} images twice: {shown}"
            f"{'; …' if len(twice) > 20 else ''}. Their objects would count twice; delete one line "
            "of each."
        )


def _no_list(root: Path, split: str, error: OSError | ValueError) -> str:
    folder = root / "ImageSets" / "Main"
    path = folder / f"{split}.txt"
    if not folder.is_dir():
        return (
            f"{folder} does not exist. VOC's layout is ImageSets/Main/{split}.txt, "
            f"Annotations/<id>.xml and JPEGImages/<id>.jpg in {root}.{to_make_layout(root, split)}"
        )
    if isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
        return f"{path} cannot be read: {error.strerror}."
    there = sorted(p.stem for p in folder.glob("*.txt") if "_" not in p.stem)
    more = "" if there else to_make_layout(root, split)
    return (
        f"{path} does not exist. The folder has these splits: {', '.join(there) or 'none'}.{more}"
    )


def to_make_layout(root: Path, split: str) -> str:
    """What to type so that the VOC export of a tool gets VOC's layout; "" where there is no XML.

    Label Studio writes Annotations/ and images/, FiftyOne labels/ and data/; Roboflow and
    MakeSense write XML and images into one folder, Roboflow into one for each split.
    """
    root = root.absolute()
    found = [
        (xml, images)
        for xml, images in (
            *((root / a, root / b) for a in _ANNOTATIONS for b in _IMAGES),
            (root, root),
            (root / split, root / split),
        )
        if images.is_dir() and next(xml.glob("*.xml"), None)
    ]
    if not found:
        return ""
    xml, images = found[0]
    target = root
    if (xml.name, xml.parent) != ("Annotations", root) or images.name != "JPEGImages":
        target = root.with_name(f"{root.name}-voc")
    main = target / "ImageSets" / "Main"
    lines = [f"mkdir -p {shlex.quote(str(main))}"]
    if target != root:
        for name, place in (("Annotations", xml), ("JPEGImages", images)):
            lines.append(f"ln -s {shlex.quote(str(place))} {shlex.quote(str(target / name))}")
    listed = shlex.quote(str(main / f"{split}.txt"))
    lines.append(f"(cd {shlex.quote(str(xml))} && ls | sed -n 's/\\.xml$//p') > {listed}")
    number = sum(1 for _ in xml.glob("*.xml"))
    typed = "".join(f"\n  {line}" for line in lines)
    named = f"\nThen the root is {target}." if target != root else ""
    return f" To make it of the {number:,} XML files in {xml}, type:{typed}{named}"


_ANNOTATIONS = ("Annotations", "annotations", "labels")
_IMAGES = ("JPEGImages", "images", "data")
