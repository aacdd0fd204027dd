"""Which files are meant by what was typed: files, folders and patterns.

- A file that is named is taken, whatever it is called: its content decides whether it is an image.
- Of a folder, the files with the suffix of a format that is read (`reader.IMAGE_SUFFIXES`), in the
  order of their names; hidden ones are left out. Others are counted by suffix, so that nobody
  takes a folder of HEIC for an empty one.
- A word with `*`, `?` or `[` that names no file is a pattern; `**` goes through folders.

Not for: reading them (`data.images.reader`).
"""

from __future__ import annotations

import glob
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from resdet.data.images.reader import IMAGE_SUFFIXES
from resdet.errors import DataError
from resdet.printable import counted


@dataclass
class ImageFiles:
    """Files to detect on, each once.

    Attributes:
        paths: as they were typed or found, in that order; of a file and links to it the file.
        left_out: number of files in the folders by the suffix that is none of an image's.
        repeats: further names of files that are there already, such as links.
    """

    paths: list[Path] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    repeats: int = 0

    def sentence(self) -> str:
        """What was left out; "" where nothing was."""
        again = f"{counted(self.repeats, 'further name')} of the same files left out."
        return " ".join(filter(None, [self._other_kinds(), again if self.repeats else ""]))

    def _other_kinds(self) -> str:
        if not self.left_out:
            return ""
        kinds = ", ".join(f"{s or 'no suffix'} {n}" for s, n in self.left_out.most_common(6))
        return (
            f"left out of the folders: {sum(self.left_out.values()):,} files without the suffix "
            f"of a format that is read ({kinds}). Formats: {', '.join(_SHOWN)}."
        )


_SHOWN = (".jpg", ".png", ".tif", ".webp", ".bmp", ".gif", ".ppm", ".jp2")


def image_files(words: Sequence[str | Path], *, recursive: bool = False) -> ImageFiles:
    """The files of all words, in their order.

    Args:
        recursive: folders with all folders below them.

    Raises:
        DataError: a word names nothing, or a folder has no image; states what is there.
    """
    files = ImageFiles()
    names: dict[Path, Path] = {}
    for word in words:
        for path in _of_word(str(word), recursive, files.left_out):
            real = path.resolve()
            known = names.setdefault(real, path)
            if known is not path:
                files.repeats += 1
                if known.is_symlink() and not path.is_symlink():
                    names[real] = path
    files.paths = list(names.values())
    return files


def _of_word(word: str, recursive: bool, left_out: Counter[str]) -> Iterator[Path]:
    path = Path(word)
    if path.is_dir():
        found = [p for p in _in_folder(path, recursive) if _counted(p, left_out)]
        if not found:
            raise DataError(_empty(path, recursive))
        yield from found
    elif path.exists() or not glob.has_magic(word):
        if not path.exists():
            raise DataError(f"{word} does not exist. Give an image, a folder or a pattern.")
        yield path
    else:
        matching = [Path(p) for p in sorted(glob.glob(word, recursive=True))]
        found = [p for p in matching if p.is_file() and _counted(p, left_out)]
        if not found:
            what = f"{len(matching)} names, none of an image" if matching else "nothing"
            raise DataError(f"the pattern {word} matches {what}. Formats: {', '.join(_SHOWN)}.")
        yield from found


def _in_folder(folder: Path, recursive: bool) -> list[Path]:
    """Its files in the order of names, without hidden ones."""
    paths = folder.rglob("*") if recursive else folder.iterdir()
    parts = len(folder.parts)
    return sorted(
        p
        for p in paths
        if not any(n.startswith(".") for n in p.parts[parts:]) and (p.is_file() or _is_dangling(p))
    )


def _is_dangling(path: Path) -> bool:
    """A link to nothing: taken, so that the reader refuses it by name."""
    return path.is_symlink() and not path.exists()


def _counted(path: Path, left_out: Counter[str]) -> bool:
    """Whether it has the suffix of an image; counts it where not."""
    is_image = path.suffix.lower() in IMAGE_SUFFIXES
    if not is_image:
        left_out[path.suffix.lower()] += 1
    return is_image


def _empty(folder: Path, recursive: bool) -> str:
    """Why a folder has no image, and what is there instead."""
    others: Counter[str] = Counter()
    for path in _in_folder(folder, recursive):
        _counted(path, others)
    if others:
        kinds = ", ".join(f"{s or 'no suffix'} {n}" for s, n in others.most_common(6))
        head = f"{folder} has no image: {sum(others.values()):,} files of other kinds ({kinds})"
        return f"{head}. Formats that are read: {', '.join(_SHOWN)}. Convert them, or name files."
    below = 0 if recursive else sum(
        p.suffix.lower() in IMAGE_SUFFIXES for p in _in_folder(folder, True)
    )  # fmt: skip
    if below:
        return f"{folder} has no image of its own, {below:,} in folders below it. Add --recursive."
    return f"{folder} is empty: it has no image. Give a folder with images."
