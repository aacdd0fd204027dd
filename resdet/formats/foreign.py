"""What a file is that should have been something else, told by its first bytes.

Downloads go wrong in few ways: nothing arrived, a web page arrived, Git LFS left its pointer.
One sentence for each, the same for images, annotations and binaries.

Not for: files of the right kind that are damaged.
"""

from __future__ import annotations

import re

HEAD_BYTES = 512
# Pictures of other formats: the brand of a file in the ISO container, at byte 8.
_BRANDS = {
    b"heic": "a HEIC picture", b"heix": "a HEIC picture", b"mif1": "a HEIF picture",
    b"msf1": "a HEIF picture", b"avif": "an AVIF picture", b"avis": "an AVIF picture",
}  # fmt: skip
_OTHER = (
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "a zip archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"\x93NUMPY", "a numpy array"),
    *((bytes([0x80, version]), "a Python pickle") for version in range(2, 6)),
    (b"<?xml", "an XML file"),
    (b"<svg", "an SVG drawing"),
)


def describe(head: bytes, size: int, *, expected: str, quotes: bool = False) -> str:
    """The rest of a sentence that starts with the file's name: what it is, what to do.

    Args:
        head: the first `HEAD_BYTES` bytes.
        size: bytes of the whole file.
        expected: what it should have been, such as "an image".
        quotes: whether its beginning is shown. False for a file that data name: a list may name
            any file of the reader's, and pages are passed on.
    """
    if size == 0:
        return "is empty (0 bytes). Fetch it again."
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    lower = text.lower()
    if lower.startswith(b"version https://git-lfs"):
        real = re.search(rb"^size (\d+)", text, re.MULTILINE)
        whole = f"; the real file has {int(real[1]):,}" if real else ""
        return f"is a Git LFS pointer ({size} bytes{whole}), not {expected}. Run: git lfs pull"
    if lower.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return (
            f"is a web page, not {expected}. The download was answered with a page: check the link "
            "or the login, and fetch it again."
        )
    if not any(head):
        return f"starts with {len(head)} zero bytes, so it is not {expected}. Fetch it again."
    if head[4:8] == b"ftyp" and (picture := _BRANDS.get(head[8:12])):
        return f"is {picture}, which is not read here. Convert it to JPEG or PNG."
    for magic, name in _OTHER:
        if lower.startswith(magic.lower()):
            return f"is {name}, not {expected}. Replace it."
    if lower.startswith(b"404: not found"):
        return f"is the answer that a link leads nowhere (404), not {expected}. Fetch it again."
    line = text.splitlines()[0][:40] if text else b""
    if line and all(32 <= byte < 127 or byte == 9 for byte in line):
        shown = f' ("{line.decode("ascii")}")' if quotes else f" of {size:,} bytes"
        return f"is text{shown}, not {expected}. Replace it."
    shown = f" (it starts with {head[:8].hex(' ')})" if quotes else ""
    return f"is not {expected} that resdet can read{shown}. Replace it."


def is_foreign(head: bytes, size: int) -> bool:
    """Whether this is nothing, a web page or an LFS pointer, whatever was expected."""
    lower = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    marks = (b"version https://git-lfs", b"<!doctype html", b"<html", b"<head", b"<body")
    return size == 0 or lower.startswith(marks)
