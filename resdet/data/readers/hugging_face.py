"""Labelled images of Hugging Face `datasets`: Arrow, memory-mapped, from this machine alone.

    hf:FOLDER:SPLIT   what `save_to_disk` left, or a folder of Parquet files, as a hub's clone has
    hf:NAME:SPLIT     a data set of the hub that `datasets` has in its own cache already

Nothing is fetched: the hub is never asked. Parquet files are turned into Arrow once, by `datasets`
and into its cache, which takes as much room again. Images come in the order of class folders, by
label and then by name, so that a set has one order whatever it lies in.

Not for: how a name is divided (`resdet.data.names`).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from resdet import bounded_files
from resdet.data.checks.faults import Faults
from resdet.data.images.reader import ImageReader
from resdet.data.options import DataOptions
from resdet.data.records import ClassificationSet
from resdet.data.serialized import TextList
from resdet.data.shards.shard_headers import check_headers, refuse_huge
from resdet.errors import DataError

logger = logging.getLogger(__name__)

ROWS_AT_A_TIME = 4096
# Where several columns have names of classes: of CIFAR-100, for one, the fine ones count.
_LABELS = ("label", "labels", "fine_label", "class")


@dataclass(frozen=True)
class TableImages:
    """The images of a table, in the set's order; as `EncodedImages`.

    Attributes:
        set_name: for messages.
        table: a `datasets.Dataset` with one column, `column`, of undecoded images.
        rows: (N,) int64, places in the table. sizes: (N,) int64, in bytes.
        names: of their files, or made of the rows.
    """

    set_name: str
    table: Any
    column: str
    rows: np.ndarray
    sizes: np.ndarray
    names: TextList

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, index: int) -> bytes:
        """Raises DataError where the row has no bytes, and its file cannot be read."""
        entry = self.table[int(self.rows[index])][self.column] or {}
        if entry.get("bytes") is not None:
            return bytes(entry["bytes"])
        path = entry.get("path")
        if not path or "://" in path:
            raise DataError(
                f"{self.where(index)} has no bytes, and no file on this machine ({path}). Load the "
                "set with `datasets` once, and save it: save_to_disk."
            )
        try:
            return bounded_files.read_bytes(path)
        except OSError as error:
            raise DataError(f"{self.where(index)}: {path}: {error.strerror or error}.") from None

    def size(self, index: int) -> int:
        return int(self.sizes[index])

    def name(self, index: int) -> str:
        return str(self.names[index])

    def where(self, index: int) -> str:
        return f"{self.set_name}: row {int(self.rows[index])}: {self.names[index]}"

    def chosen(self, places: Sequence[int]) -> TableImages:
        chosen = np.asarray(places, dtype=np.int64)
        names = TextList(self.names[i] for i in chosen.tolist())
        return TableImages(
            self.set_name, self.table, self.column, self.rows[chosen], self.sizes[chosen], names
        )


def load_table(
    source: str, split: str, *, name: str, options: DataOptions | None = None
) -> ClassificationSet:
    """A split of a data set, as `datasets` has it.

    Raises:
        DataError: `datasets` is not installed, the set is not on this machine or has no such split,
            no column of images or of labels; or faults in it, one page with all, by row.
    """
    options = options or DataOptions()
    table = _opened(source, split, name)
    column, label_column = _columns(table, name)
    faults = Faults(name, source)
    labels = _labels(table, label_column, faults)
    classes = _classes(table, label_column, labels, faults)
    names, sizes = _names_and_sizes(table, column, faults)
    faults.stop()
    rows = np.array(
        sorted(range(len(names)), key=lambda i: (labels[i], names[i], i)), dtype=np.int64
    )
    images = TableImages(
        name,
        _undecoded(table, column),
        column,
        rows,
        sizes[rows],
        TextList(names[i] for i in rows.tolist()),
    )
    labels = labels[rows]
    refuse_huge(images, faults, options)
    faults.stop()
    counts = {"images": len(images), "classes": len(classes)}
    notes: list[str] = []
    if options.check_images:
        repaired, odd = check_headers(images, faults, options)
        faults.stop()
        counts |= repaired
        notes += odd
    digest = hashlib.sha256(json.dumps(list(classes)).encode())
    for file_name, label, size in zip(
        images.names, labels.tolist(), images.sizes.tolist(), strict=True
    ):
        line = f"{classes[label]}/{file_name} {size}\n"
        digest.update(line.encode("utf-8", "surrogateescape"))
    return ClassificationSet(
        name=name,
        labels=labels,
        classes=classes,
        encoded=images,
        hash=digest.hexdigest(),
        counts={k: v for k, v in counts.items() if v},
        reader=ImageReader(options),
        notes=tuple(notes),
    )


def _opened(source: str, split: str, name: str) -> Any:
    """The `datasets.Dataset` of a split."""
    datasets = _library(name)
    folder = Path(source).expanduser()
    try:
        with _offline(datasets), _quiet(datasets):
            if (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file():
                found = datasets.load_from_disk(str(folder))
            else:
                where = str(folder.absolute()) if folder.is_dir() else source
                found = datasets.load_dataset(where)
    except Exception as error:  # its own, and those of many libraries below it
        raise DataError(_not_loaded(name, source, folder, error)) from None
    if not hasattr(found, "keys"):
        return found  # a folder of one split
    if split not in found:
        raise DataError(f"{name}: {source} has no split {split!r}. It has: {', '.join(found)}.")
    return found[split]


def _library(name: str) -> Any:
    """The package; a folder of its name in the current one, such as a checkout has, is none."""
    try:
        import datasets
    except ImportError:
        datasets = None
    if not hasattr(datasets, "load_from_disk"):
        raise DataError(f'{name} needs the package datasets. Run: pip install "resdet[hf]"')
    return datasets


def _not_loaded(name: str, source: str, folder: Path, error: Exception) -> str:
    told = (str(error).splitlines() or [""])[0][:300]
    if folder.is_dir():
        return (
            f"{name}: `datasets` cannot load {folder}: {type(error).__name__}: {told}. Give a "
            "folder that save_to_disk wrote, or one of Parquet files."
        )
    return (
        f"{name}: there is no folder {source}, and `datasets` has no {source} in its cache here "
        f"({type(error).__name__}: {told}). Nothing is fetched by resdet; fetch it once:\n"
        f'  python -c "import datasets; datasets.load_dataset({source!r})"'
    )


@contextlib.contextmanager
def _offline(datasets: Any) -> Iterator[None]:
    """The hub is not asked, whatever the environment has: a training must not wait for it."""
    import huggingface_hub

    places = [datasets.config, huggingface_hub.constants]
    before = [getattr(place, "HF_HUB_OFFLINE", None) for place in places]
    for place in places:
        place.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        for place, value in zip(places, before, strict=True):
            place.HF_HUB_OFFLINE = value


@contextlib.contextmanager
def _quiet(datasets: Any) -> Iterator[None]:
    """Its progress bars rewrite a line, which no log can show."""
    was_on = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if was_on:
            datasets.enable_progress_bars()


def _columns(table: Any, name: str) -> tuple[str, str]:
    """The columns of images and of labels."""
    from datasets import ClassLabel, Image

    features = table.features
    images = [c for c, f in features.items() if isinstance(f, Image)]
    image = "image" if "image" in images else images[0] if len(images) == 1 else ""
    if not image:
        raise DataError(
            f"{name} has {len(images)} columns of images ({_described(features)}); one is needed, "
            "or one called image. Cast it: cast_column(NAME, datasets.Image())."
        )
    named = [c for c, f in features.items() if isinstance(f, ClassLabel)]
    plain = [c for c in _LABELS if c in features and features[c].dtype in _WHOLE_NUMBERS]
    label = next((c for c in _LABELS if c in named), "")
    label = label or (named[0] if len(named) == 1 else "") or (plain[0] if plain else "")
    if not label:
        raise DataError(
            f"{name} has no column of labels that can be told from others "
            f"({_described(features)}). Call it label: rename_column, or cast it to ClassLabel."
        )
    return image, label


_WHOLE_NUMBERS = frozenset(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))


def _described(features: Any) -> str:
    return ", ".join(f"{c}: {type(f).__name__}" for c, f in features.items())


def _labels(table: Any, column: str, faults: Faults) -> np.ndarray:
    values = table.select_columns([column]).with_format("arrow")
    parts = [part.column(column).to_pylist() for part in values.iter(ROWS_AT_A_TIME)]
    labels = [v for part in parts for v in part]
    for row, label in enumerate(labels):
        if label is None or label < 0:
            faults.add(
                "labels",
                f"row {row}: {column} is {label}",
                fix="Test splits of the hub often have no labels. Name another split.",
            )
    return np.array([-1 if v is None else v for v in labels], dtype=np.int64)


def _classes(table: Any, column: str, labels: np.ndarray, faults: Faults) -> tuple[str, ...]:
    names = getattr(table.features[column], "names", None)
    number = int(labels.max(initial=-1)) + 1
    if names is not None:
        if number > len(names):
            what = f"{column} has labels up to {number - 1}, and {len(names)} names"
            faults.add("labels", what, fix="Correct the ClassLabel's names.")
        return tuple(names)
    if number > max(1, len(labels)):
        what = f"{column} has labels up to {number - 1} in {len(labels):,} rows"
        faults.add("labels", what, fix="Cast it to a ClassLabel with the names of the classes.")
        return ()
    return tuple(map(str, range(number)))


def _undecoded(table: Any, column: str) -> Any:
    from datasets import Image

    return table.select_columns([column]).cast_column(column, Image(decode=False))


def _names_and_sizes(table: Any, column: str, faults: Faults) -> tuple[list[str], np.ndarray]:
    """Names of files, or of rows where there are none, and sizes in bytes; no image is read."""
    import pyarrow.compute as pc

    names: list[str] = []
    sizes: list[int] = []
    for part in _undecoded(table, column).with_format("arrow").iter(ROWS_AT_A_TIME):
        images = part.column(column)
        paths = pc.struct_field(images, "path").to_pylist()
        lengths = pc.binary_length(pc.struct_field(images, "bytes")).to_pylist()
        for path, length in zip(paths, lengths, strict=True):
            row = len(names)
            names.append(os.path.basename(path.replace("\\", "/")) if path else f"{row:08d}")
            sizes.append(_size_of_file(path, row, faults) if length is None else length)
    return names, np.array(sizes, dtype=np.int64)


def _size_of_file(path: str | None, row: int, faults: Faults) -> int:
    fix = "Save the set with its images: save_to_disk."
    if not path or "://" in path:
        faults.add(
            "images", f"row {row} has no bytes and no file on this machine ({path})", fix=fix
        )
        return 0
    try:
        return os.stat(path).st_size
    except OSError as error:
        faults.add("images", f"row {row}: {path}: {error.strerror}", fix=fix)
        return 0
