"""File names from names in data: a class, an image id. The only place where one becomes the other.

A name in data is any text. Used as it is, "../../victim" would be a path out of the folder.

Not for: names of data sets as folders of a run (`resdet.run`), which quote more.
"""

from __future__ import annotations

import hashlib

# In bytes. File systems take 255; this leaves room for what stands before and after.
LONGEST = 200
_SEPARATORS = "/\\%"


def file_name(text: str) -> str:
    r"""A file name for any text, another one for each; a name that is safe stays as it is.

    Separators, "%", control characters, lone surrogates and a dot at the start are written as %XX.
    A name of more than `LONGEST` bytes becomes its beginning, its end and a hash, joined by "+".

    >>> file_name("traffic light")
    'traffic light'
    >>> file_name("../../victim")
    '%2E.%2F..%2Fvictim'
    """
    name = "".join(_quoted(c) if _is_unsafe(c) else c for c in text)
    if name.startswith("."):
        name = "%2E" + name[1:]
    raw = name.encode()
    if len(raw) <= LONGEST:
        return name
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    start, end = (part.decode(errors="ignore") for part in (raw[:80], raw[-60:]))
    return f"{start}+{end}+{digest[:16]}"


def _is_unsafe(character: str) -> bool:
    return character in _SEPARATORS or not (character.isprintable() or character == "\u00a0")


def _quoted(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode("utf-8", "surrogatepass"))
