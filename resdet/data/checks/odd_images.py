"""ImageNet's odd files, which stop or mislead other readers: named before a training starts.

They are listed by those who met them (cytsai/ilsvrc-cmyk-image-list; FluxML/Metalhead.jl has the
one of val; "Cleaning the ImageNet dataset", 2016, the PNG). Headers of so large a set are not read,
but those of these files are, so that the note has what they are here: copies are often repaired.

Not for: the repair itself, which the reader makes of any file (`images.reader`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from resdet.data.images.header import ImageFacts
from resdet.data.images.reader import repairs
from resdet.data.options import DataOptions

CMYK_FILES = (
    "n01739381_1309", "n02077923_14822", "n02447366_23489", "n02492035_15739", "n02747177_10752",
    "n03018349_4028", "n03062245_4620", "n03347037_9675", "n03467068_12171", "n03529860_11437",
    "n03544143_17228", "n03633091_5218", "n03710637_5125", "n03961711_5286", "n04033995_2932",
    "n04258138_17003", "n04264628_27969", "n04336792_7448", "n04371774_5854", "n04596742_4225",
    "n07583066_647", "n13037406_4650", "ILSVRC2012_val_00019877",
)  # fmt: skip
PNG_FILES = ("n02105855_2933",)
ODD_FILES = frozenset((*CMYK_FILES, *PNG_FILES))
_ODD = {
    "CMYK": "CMYK, made RGB",
    "suffix of another format": "of another format than its suffix, read by its content",
    "broken EXIF ignored": "with a broken EXIF block, which is not read",
}
_SHOWN = 3


def places_of_odd(names: Iterable[str]) -> list[int]:
    """Places of the known files among names of files, whatever their suffix is."""
    return [place for place, name in enumerate(names) if name.partition(".")[0] in ODD_FILES]


def odd_files_note(
    found: Sequence[tuple[str, ImageFacts]], options: DataOptions
) -> tuple[str, ...]:
    """The sentence on known files that are odd here, too; () where there is none.

    Args:
        found: names of files, and the facts in their headers.
    """
    by_kind: dict[str, list[str]] = {}
    for name, facts in found:
        for repair in repairs(facts, name, options):
            if repair in _ODD:
                by_kind.setdefault(repair, []).append(name)
    if not by_kind:
        return ()
    parts = []
    for repair, names in sorted(by_kind.items()):
        more = ", …" if len(names) > _SHOWN else ""
        parts.append(f"{len(names)} {_ODD[repair]} ({', '.join(names[:_SHOWN])}{more})")
    return (f"odd files of ImageNet: {'; '.join(parts)}",)
