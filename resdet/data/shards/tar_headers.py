"""The members of a tar, from its headers alone, strictly: where each one's bytes lie.

Read are the formats that tools write: V7, ustar, GNU (long names), pax. No member is written to a
disk, and a name is only ever a text. Python's `tarfile` passes over a missing end, and over what
follows the first end; here both are faults.

Not for: which members make a sample (`samples`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple, NoReturn

from resdet.formats import foreign

BLOCK = 512
_ZEROS = bytes(BLOCK)
_BLANK_SUM = 8 * 32  # of the checksum's own field, taken for blanks
# Of a pax header or a long name; real ones have some hundred bytes.
MOST_OF_NAMES = 1 << 20
REST = 1 << 20
_PACKED = (
    (b"\x1f\x8b", "gzip", "gunzip -k"),
    (b"BZh", "bzip2", "bunzip2 -k"),
    (b"\xfd7zXZ\0", "xz", "unxz -k"),
    (b"\x28\xb5\x2f\xfd", "zstd", "unzstd"),
)
_KINDS = {
    b"1": "a hard link", b"2": "a symbolic link", b"3": "a device", b"4": "a device",
    b"6": "a pipe", b"S": "a sparse file", b"M": "a file that goes on in another volume",
}  # fmt: skip
_AGAIN = "Fetch or write these shards again."


class TarMember(NamedTuple):
    """A regular file in a tar.

    Attributes:
        name: as the tar has it, without "./" before it.
        offset, size: of its content, in bytes.
        header: where its own header begins.
    """

    name: str
    offset: int
    size: int
    header: int


class TarFault(Exception):
    """What is wrong with a tar; what came before was whole.

    Attributes:
        kind: in two or three words. what: a sentence that follows the shard's name. fix: what to do
            about such shards.
    """

    def __init__(self, kind: str, what: str, fix: str = _AGAIN):
        super().__init__(f"{what} {fix}")
        self.kind, self.what, self.fix = kind, what, fix


class Window:
    """A file that is read forwards, a block at a time, so that small neighbours cost one read.

    Args:
        read: (start, length) to bytes.
        size: of the file.
        block: bytes that are read at once.
    """

    def __init__(self, read: Callable[[int, int], bytes], size: int, block: int):
        self._read = read
        self.size = size
        self.block = block
        self._start, self._data = 0, b""

    def take(self, start: int, length: int) -> bytes:
        """So many bytes, or fewer at the end of the file."""
        begin = start - self._start
        if begin < 0 or begin + length > len(self._data):
            wanted = min(max(length, self.block), max(0, self.size - start))
            self._start, self._data = start, self._read(start, wanted) if wanted else b""
            begin = 0
        return self._data[begin : begin + length]


def members(window: Window) -> Iterator[TarMember]:
    """The regular files of a tar, in its order; folders are passed over.

    Raises:
        TarFault: it is packed or no tar, a header is damaged, it is cut off, a member is a link or
            sparse, or something follows its end.
    """
    _refuse_others(window)
    position, long_name, pax, last = 0, "", dict[str, str](), "its beginning"
    while True:
        header = window.take(position, BLOCK)
        if len(header) < BLOCK:
            _cut_off(f"ends after {window.size:,} bytes, behind {last}, without an archive's end")
        if header == _ZEROS:
            _refuse_rest(window, position, last)
            return
        size, kind = _checked(header, position, last)
        start = position + BLOCK
        if kind in (b"x", b"g", b"L", b"K"):
            text = _text(window, start, size, position)
            if kind == b"L":
                long_name = _decoded(text.partition(b"\0")[0])
            elif kind == b"x":
                pax = _pax_records(text, position)
            position = start + _padded(size)
            continue
        if "size" in pax:
            size = _pax_size(pax["size"], position)
        named = pax.get("GNU.sparse.name") or pax.get("path")
        name = _plain(named or long_name or _name(header))
        _refuse_kind(name, kind, pax)
        if start + size > window.size:
            _cut_off(f"is cut off inside {name}: {max(0, window.size - start):,} of {size:,} bytes")
        if kind != b"5" and not name.endswith("/"):
            yield TarMember(name, start, size, position)
        last, long_name, pax = name, "", {}
        position = start + _padded(size)


def _cut_off(what: str) -> NoReturn:
    raise TarFault("shards cut off", what)


def _damaged(what: str) -> NoReturn:
    raise TarFault("damaged shards", what)


def _refuse_others(window: Window) -> None:
    head = window.take(0, BLOCK)
    for magic, packer, command in _PACKED:
        if head.startswith(magic):
            raise TarFault(
                "packed shards",
                f"is packed by {packer}, so that no image in it can be read alone",
                f"Unpack these once: {command} SHARD. JPEGs are no smaller for it.",
            )
    if foreign.is_foreign(head, window.size) or head.startswith(b"PK\x03\x04"):
        what = foreign.describe(head, window.size, expected="a tar").rstrip(".")
        raise TarFault("no shards", what, "Replace these, or take them out of the pattern.")


def _refuse_rest(window: Window, position: int, last: str) -> None:
    """Behind the first block of zeros there are only zeros, else samples would be passed over."""
    if position == 0:
        raise TarFault(
            "empty shards", "is a tar without a member", "Take these out of the pattern."
        )
    start = position + BLOCK
    if start + BLOCK > window.size:
        _cut_off(f"ends behind {last} with one block of zeros instead of two")
    while start < window.size:
        data = window.take(start, min(REST, window.size - start))
        if not data:
            _cut_off(f"cannot be read behind byte {start:,}")
        if data.strip(b"\0"):
            raise TarFault(
                "several tars in one shard",
                f"has {window.size - position:,} bytes behind its end, after {last}: was another "
                "tar joined to it?",
                "Readers stop at the first end. Make each a shard of its own.",
            )
        start += len(data)


def _checked(header: bytes, position: int, last: str) -> tuple[int, bytes]:
    """Size and kind of a header whose checksum is right."""
    stated = _number(header[148:156])
    plain_sum = sum(header) - sum(header[148:156]) + _BLANK_SUM
    if stated != plain_sum and stated != _signed_sum(header):
        if position == 0:
            what = foreign.describe(header, len(header), expected="a tar").rstrip(".")
            raise TarFault("no shards", what, "Replace these, or take them out of the pattern.")
        _damaged(f"has no header at byte {position:,}, behind {last}")
    size = _number(header[124:136])
    if size is None:
        _damaged(f"has a header without a size at byte {position:,}, behind {last}")
    return size, header[156:157]


def _signed_sum(header: bytes) -> int:
    """As some old writers had it."""
    return sum(b - 256 if b > 127 else b for b in header[:148] + header[156:]) + _BLANK_SUM


def _number(field: bytes) -> int | None:
    """Octal digits, or GNU's base 256 for large values; None for neither, or below 0."""
    if field[0] & 0x80:
        return None if field[0] & 0x40 else int.from_bytes(field[1:], "big")
    digits = field.partition(b"\0")[0].strip()
    try:
        number = int(digits, 8) if digits else 0
    except ValueError:
        return None
    return number if number >= 0 else None


def _pax_size(text: str, position: int) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        _damaged(f"has a pax header whose size is {text[:20]!a}, before byte {position:,}")
    return int(text)


def _text(window: Window, start: int, size: int, position: int) -> bytes:
    """The content of a header that is about the next member."""
    if size > MOST_OF_NAMES:
        _damaged(f"has a header of {size:,} bytes for a name, at byte {position:,}")
    data = window.take(start, size)
    if len(data) < size:
        _cut_off(f"ends inside a header at byte {position:,}")
    return data


def _pax_records(data: bytes, position: int) -> dict[str, str]:
    """Lines of `length key=value`, the length that of the whole line."""
    records = {}
    while data.strip(b"\0"):
        digits = data.partition(b" ")[0]
        length = int(digits) if digits.isdigit() and len(digits) < 9 else 0
        key, equals, value = data[len(digits) + 1 : length].partition(b"=")
        if length > len(data) or not equals or not value.endswith(b"\n"):
            _damaged(f"has a pax header that cannot be read, at byte {position:,}")
        records[_decoded(key)] = _decoded(value[:-1])
        data = data[length:]
    return records


def _refuse_kind(name: str, kind: bytes, pax: dict[str, str]) -> None:
    what = _KINDS.get(kind)
    if any(key.startswith("GNU.sparse.") for key in pax):
        what = _KINDS[b"S"]
    if what is None and kind not in (b"0", b"\0", b"7", b"5"):
        what = f"of the kind {kind!r}, which is not known"
    if what is not None:
        raise TarFault(
            "members that are no files",
            f"{name} is {what}",
            "Write these shards with the files themselves, such as by `resdet make_shards`.",
        )


def _name(header: bytes) -> str:
    name = header[:100].partition(b"\0")[0]
    prefix = header[345:500].partition(b"\0")[0] if header[257:263] == b"ustar\0" else b""
    return _decoded(prefix + b"/" + name if prefix else name)


def _plain(name: str) -> str:
    while name.startswith("./"):
        name = name[2:].lstrip("/")
    return name


def _decoded(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def _padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK
