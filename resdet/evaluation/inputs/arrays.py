"""Lists of any origin to arrays, without a crash on any of them.

Values come from JSON or from Python: numbers, text, true, null, lists, or integers too large
for a float. Each function here reports which entries it could not take and never raises for one.

Not for: what a value means.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import json
import math
import shlex
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from resdet import bounded_files
from resdet.errors import DataError, ResdetError, first_few
from resdet.formats import foreign
from resdet.formats.json_decoding import loads
from resdet.printable import one_line

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
ImageId = int | str

MISSING = object()
# Of a file that is not JSON, to look for what it is: longer than a line of results.
LINE_BYTES = 1 << 16
# Of a folder that was given for a file, to name those that may be meant.
_MOST_LOOKED_AT = 100


def is_number(value: object) -> bool:
    """A number that may be counted with: not text, not true, not null."""
    return _is_number_type(type(value))


def _is_number_type(kind: type) -> bool:
    return issubclass(kind, int | float | np.integer | np.floating) and not issubclass(kind, bool)


def is_id(value: object) -> bool:
    """An integer, a float that is one, or text; never true, which Python takes for 1."""
    if isinstance(value, str):
        return True
    return is_number(value) and math.isfinite(to_float(value)) and value == int(value)  # type: ignore[call-overload]


def entries_without(column: Sequence[object], accept: Callable[[type], bool]) -> list[int]:
    """Places in `column` whose value is not of an accepted type, asked once per type."""
    accepted = {kind: accept(kind) for kind in set(map(type, column))}
    if all(accepted.values()):
        return []
    return [i for i, value in enumerate(column) if not accepted[type(value)]]


def not_numbers(column: Sequence[object]) -> list[int]:
    """Places in `column` that hold no number."""
    return entries_without(column, _is_number_type)


def to_float(value: Any) -> float:
    """The number as a float; infinite when it is an integer beyond every float."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def to_floats(values: Iterable[Any]) -> FloatArray:
    """Numbers as float64; use `not_numbers` first."""
    values = list(values)
    try:
        return np.array(values, dtype=np.float64)
    except OverflowError:
        return np.array([to_float(v) for v in values], dtype=np.float64)


def places(ids: Iterable[Any], index: dict[Any, int]) -> IntArray:
    """Where each id stands in `index`, -1 for an id that it does not have."""
    return np.fromiter((index.get(i, -1) for i in ids), dtype=np.int64)


def stable_order(values: npt.NDArray[Any]) -> IntArray:
    """np.argsort(values, kind="stable") for values from 0 on, 16 bits at a time.

    numpy sorts 16 bits by counting, ten times faster than it sorts 64 by comparing.
    """
    if (values[1:] >= values[:-1]).all():
        return np.arange(len(values))
    if values.dtype.itemsize <= 2:
        return np.argsort(values, kind="stable")
    order = np.arange(len(values))
    for shift in range(0, int(values.max()).bit_length(), 16):
        digit = (values >> values.dtype.type(shift)).astype(np.uint16)
        if (digit[1:] != digit[:-1]).any():
            order = order[np.argsort(digit[order], kind="stable")]
    return order


def compact(values: IntArray) -> npt.NDArray[Any]:
    """The same whole numbers, from 0 on, in as few bytes as hold them."""
    return values.astype(np.min_scalar_type(int(values.max(initial=0))))


def falling(scores: FloatArray) -> npt.NDArray[np.uint64]:
    """Whole numbers that rise as scores fall: but for their sign, floats are ordered as bits.

    For `stable_order`; without NaN.
    """
    bits = (scores + 0.0).view(np.uint64)  # + 0.0: -0.0 is 0.0
    negative = bits >> np.uint64(63) != 0
    return np.where(negative, bits, ~bits & ~np.uint64(1 << 63))


def as_text(value: object, limit: int = 40) -> str:
    """A value as a message shows it: text in quotes with its kind, everything else as JSON."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str):
        return f'text ("{shorten(value, limit)}")'
    if is_number(value) and not math.isfinite(to_float(value)):
        return "NaN" if to_float(value) != to_float(value) else "infinite"
    return shorten(str(value), limit)


def shorten(text: str, limit: int) -> str:
    return one_line(text if len(text) <= limit else text[: limit - 1] + "…")


def not_readable(path: Path, error: OSError) -> DataError:
    """Of a folder the files that may be meant: results of a run, or JSON files in it."""
    if not path.is_dir():
        return DataError(f"{path} is not readable: {error.strerror}.")
    found = sorted(path.glob("results/*/coco_instances_results.json")) or sorted(
        itertools.islice(path.rglob("*.json"), _MOST_LOOKED_AT)
    )
    files = f"Such as:\n{first_few(found, 5)}" if found else "There is none below it."
    return DataError(f"{path} is a folder. Give the path of a JSON file. {files}")


def read_json(path: Path | str, unreadable: type[ResdetError]) -> Any:
    """The value in a .json or .json.gz file; NaN and Infinity pass, the validator names them.

    Raises:
        DataError: there is no such file.
        unreadable: it does not hold JSON; states where it breaks.
    """
    path = Path(path)
    try:
        raw = bounded_files.read_given(path)
    except FileNotFoundError:
        raise DataError(f"{path} does not exist. Give the path of a JSON file.") from None
    except OSError as error:
        raise not_readable(path, error) from None
    try:
        text = bounded_files.unpacked(raw)
        with collector_paused():
            return loads(text)
    except (ValueError, OSError, EOFError, RecursionError, zlib.error) as error:
        raise unreadable_json(path, error, unreadable) from None


@contextlib.contextmanager
def collector_paused() -> Iterator[None]:
    """Without the search for cycles, of which JSON has none: it costs a third of reading."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def unreadable_json(path: Path, error: Exception, unreadable: type[ResdetError]) -> ResdetError:
    """The refusal of a file that is not JSON: what it is, or the place where it breaks."""
    return unreadable(
        _other_format(path)
        or f"{path} is not readable as JSON: {error}. Was it written to its end?"
    )


def _other_format(path: Path) -> str:
    """The sentence on a file of another format; "" where it begins as JSON or cannot be read."""
    try:
        with bounded_files.open_file(path) as file:
            head, size = file.read(LINE_BYTES), path.stat().st_size
    except OSError:
        return ""  # also a pipe, which is read once
    if head[:1] == b"\x80" and head[1:2] in b"\x02\x03\x04\x05":
        return (
            f"{path} is a Python pickle, not JSON. It is not opened, as that would run what is in "
            "it: write the same list with json.dump where it was made."
        )
    if head.lstrip()[:1] not in (b"[", b"{", b"\xef", b"\x1f"):
        described = foreign.describe(head[: foreign.HEAD_BYTES], size, expected="JSON", quotes=True)
        return f"{path} {described}"
    first, _, rest = head.lstrip().partition(b"\n")
    if not rest.strip() or not first.startswith(b"{"):
        return ""
    try:
        json.loads(first)
    except (ValueError, RecursionError):
        return ""
    code = "import json, sys; json.dump([json.loads(s) for s in sys.stdin if s.strip()], "
    code += "sys.stdout)"
    target = path.with_name(f"{path.stem}.list.json")
    return (
        f"{path} holds one JSON value a line (JSON lines), not one list. Make the list:\n"
        f'  python -c "{code}" < {shlex.quote(str(path))} > {shlex.quote(str(target))}'
    )
