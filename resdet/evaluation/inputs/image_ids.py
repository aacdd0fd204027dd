"""Image ids that results give in another way than the set: as stems, file names, or text.

    exact     the set's own ids, number or text (the default)
    stem      the file's name without folder and suffix: 000000000139 of val2017/000000000139.jpg
    name      the file's name, with or without its folders
    number    the whole number that an id is or, as text, has: "139" and "000000000139" are 139

The set's own ids are taken under each. Nothing is mapped unless it is stated; what would map all
of a file's unknown ids is named (`suggestion`).

Not for: ids of categories.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from resdet.errors import DataError
from resdet.evaluation.inputs.arrays import ImageId

EXACT = "exact"
WAYS = (EXACT, "stem", "name", "number")
WORDS = {
    "stem": "the stems of listed files",
    "name": "the names of listed files",
    "number": "the set's ids in another form, as text or as numbers",
}


class _ByNumber(dict[Any, int]):
    """Places by id; what is not there is looked up by its number."""

    def get(self, key: Any, default: Any = None) -> Any:
        place = super().get(key)
        if place is None:
            place = super().get(("number", _number(key)))
        return default if place is None else place


def image_places(
    ids: Sequence[ImageId], names: Sequence[str | None], way: str = EXACT, title: str = "the set"
) -> dict[Any, int]:
    """The place of each image by what results may call it.

    Args:
        ids: of the set. names: its files; None where the set names none.
        way: one of `WAYS`. title: of the set, in messages.

    Raises:
        DataError: two images have the same stem, name or number, or none has a file name.
    """
    if way not in WAYS:
        raise ValueError(f"way is {way!r}, expected one of {WAYS}")
    exact: dict[Any, int] = {value: i for i, value in enumerate(ids)}
    if way == EXACT:
        return exact
    others = _others(ids, names, way)
    if not others:
        raise DataError(
            f"--image-ids {way}: {title} has no {'number' if way == 'number' else 'file_name'} for "
            "its images. Leave it out."
        )
    places = _ByNumber(exact) if way == "number" else exact
    for key, place in others:
        if places.setdefault(key, place) != place:
            shown = key[1] if isinstance(key, tuple) else key
            raise DataError(
                f"--image-ids {way}: images {ids[places[key]]} and {ids[place]} of {title} both "
                f"have {shown}, so it names neither. Write the set's image ids."
            )
    return places


def _others(ids: Sequence[ImageId], names: Sequence[str | None], way: str) -> list[tuple[Any, int]]:
    if way == "number":
        numbers = ((_number(value), i) for i, value in enumerate(ids))
        return [(("number", number), i) for number, i in numbers if number is not None]
    keys: dict[tuple[Any, int], None] = {}
    for i, name in enumerate(names):
        if name:
            whole = name.replace("\\", "/")
            base = whole.rpartition("/")[2]
            for key in (base.rpartition(".")[0] or base,) if way == "stem" else (whole, base):
                keys[key, i] = None
    return list(keys)


def _number(value: object) -> int | None:
    if isinstance(value, str):
        # A number of more digits is no id.
        return int(value) if value.isascii() and value.isdigit() and len(value) < 19 else None
    return value if type(value) is int else None


class Suggestion:
    """Which way would map every unknown id of a file; asked value by value.

    Args:
        ids, names: of the set, as for `image_places`.
    """

    def __init__(self, ids: Sequence[ImageId], names: Sequence[str | None]):
        self._places: dict[str, dict[Any, int]] = {}
        for way in WAYS[1:]:
            try:
                self._places[way] = image_places(ids, names, way)
            except DataError:
                continue

    def add(self, values: Iterable[Any]) -> None:
        values = list(values)
        for way, places in list(self._places.items()):
            if any(places.get(value) is None for value in values):
                del self._places[way]

    @property
    def way(self) -> str | None:
        return next(iter(self._places), None)
