"""One VOC annotation file: its contents, and everything that is wrong with it.

Faults are collected with file and object, none is raised. Entities are never expanded and
nothing outside the file is opened, so a hostile XML file has no effect.

Numbers may have decimals (VOC 2012 has some); `pose`, `truncated` and `size` may be missing; a
missing `difficult` is 0, counted. `part` elements have boxes of their own and are not objects.

Not for: whether boxes fit their image, or classes their list (`resdet.data.readers.voc_reader`,
`resdet.evaluation.voc.voc_arrays`).
"""

from __future__ import annotations

import codecs
import math
import re
import xml.etree.ElementTree as ElementTree
from collections import Counter
from dataclasses import dataclass, field
from xml.parsers import expat

from resdet.formats import foreign

VOC_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa",
    "train", "tvmonitor",
)  # fmt: skip
# Of a file: ten thousand objects are three million.
MOST_BYTES = 64 << 20
# VOC has it as a pose; MakeSense writes it for each flag that it does not know.
UNSPECIFIED = "Unspecified"
CORNERS = ("xmin", "ymin", "xmax", "ymax")
# Of expat itself; texts in other encodings are decoded first.
NATIVE_ENCODINGS = ("utf-8", "utf-16", "us-ascii", "ascii", "iso-8859-1")
DECLARATION = re.compile(rb"""^(?:\xef\xbb\xbf)?<\?xml[^>]*?\bencoding\s*=\s*["']([\w.:-]+)["']""")
BARE_AMPERSAND = re.compile(r"&(?!#\d+;|#x[0-9a-fA-F]+;|[A-Za-z_][\w.-]*;)")
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


@dataclass
class VocObject:
    """One <object>: its box as the file has it, both ends inside; `number` counts from 1."""

    number: int
    name: str
    box: tuple[float, float, float, float]
    difficult: int
    truncated: int


@dataclass
class VocFile:
    """One annotation file.

    Attributes:
        where: how messages name it, such as "Annotations/000123.xml".
        size: (width, height); None where it is missing or 0 x 0.
        faults: sentences that start with `where`.
        repairs: what was fixed, and how often.
        is_whole: the file is an annotation, whatever its objects are.
    """

    where: str
    size: tuple[int, int] | None = None
    objects: list[VocObject] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    repairs: Counter[str] = field(default_factory=Counter)
    is_whole: bool = False


class _Refused(Exception):
    """A declaration that resdet does not follow."""


class _Undecodable(Exception):
    """A text that is not in the encoding that it declares."""


def parse_voc(data: bytes, where: str) -> VocFile:
    """The contents of an annotation file."""
    parsed = VocFile(where)
    if foreign.is_foreign(data[: foreign.HEAD_BYTES], len(data)):
        text = foreign.describe(data[: foreign.HEAD_BYTES], len(data), expected="an annotation")
        parsed.faults.append(f"{where} {text}")
        return parsed
    try:
        root = _tree(data)
    except _Refused as error:
        parsed.faults.append(f"{where} declares {error}; that is not followed. Remove it.")
        return parsed
    except _Undecodable as error:
        parsed.faults.append(f"{where} {error}")
        return parsed
    except expat.ExpatError as error:
        parsed.faults.append(f"{where}{_malformed(data, error)}")
        return parsed
    except (ValueError, LookupError) as error:
        parsed.faults.append(f"{where} is not readable as XML: {error}. Restore the file.")
        return parsed
    if root.tag != "annotation":
        parsed.faults.append(
            f"{where} opens with <{root.tag}>, a VOC annotation with <annotation>. "
            "Is it another format?"
        )
        return parsed
    parsed.is_whole = True
    _read_size(root, parsed)
    for number, element in enumerate(root.findall("object"), 1):
        _read_object(element, number, parsed)
    return parsed


def _tree(data: bytes) -> ElementTree.Element:
    builder = ElementTree.TreeBuilder()
    text = _decoded(data)
    # A given encoding goes before the declared one.
    parser = expat.ParserCreate() if text is None else expat.ParserCreate("utf-8")
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data

    def refuse_entity(name: str, *_: object) -> None:
        raise _Refused(f"the entity {name}")

    parser.EntityDeclHandler = refuse_entity
    parser.SkippedEntityHandler = refuse_entity
    parser.Parse(data if text is None else text.encode("utf-8", "surrogatepass"), True)
    return builder.close()


def _decoded(data: bytes) -> str | None:
    """The text of a file in an encoding that expat does not have; None for its own."""
    match = DECLARATION.match(data[: foreign.HEAD_BYTES])
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16")
    name = match[1].decode("ascii", "replace").lower() if match else "utf-8"
    if name in NATIVE_ENCODINGS:
        return None
    try:
        codec = codecs.lookup(_WIDER.get(name, name))
        if not codec._is_text_encoding:
            raise LookupError
    except LookupError:
        raise _Undecodable(
            f'declares the encoding "{name}", which is not known. Save it as UTF-8, with '
            'encoding="utf-8" in its first line.'
        ) from None
    try:
        return codec.decode(data)[0].removeprefix("\ufeff")
    except (UnicodeError, ValueError) as error:
        raise _Undecodable(
            f'declares the encoding "{name}", and its bytes are another: {error}. Save it as '
            'UTF-8, with encoding="utf-8" in its first line.'
        ) from None


# Editors write the wider one under the older name.
_WIDER = {"gb2312": "gb18030", "gbk": "gb18030", "x-gbk": "gb18030", "shift_jis": "cp932"}


def _malformed(data: bytes, error: expat.ExpatError) -> str:
    """What is wrong with a text that is no XML, with its line, and what to do; follows the name."""
    text = _decoded(data)
    lines = (data if text is None else text.encode("utf-8", "surrogatepass")).splitlines()
    place = f", line {error.lineno}"
    # Columns count bytes of the line, from 0.
    line = lines[error.lineno - 1] if 0 < error.lineno <= len(lines) else b""
    try:
        shown, before = line.decode("utf-8"), line[: error.offset].decode("utf-8", "ignore")
    except UnicodeDecodeError as wrong:
        if DECLARATION.match(data[: foreign.HEAD_BYTES]) is None:
            return (
                f"{place}: byte 0x{line[wrong.start]:02x} is not UTF-8, and the file declares no "
                "encoding. Save it as UTF-8, or name its encoding in the first line: "
                '<?xml version="1.0" encoding="gb2312"?>'
            )
        return f"{place}: {error}. Save the file as UTF-8."
    bare = [m.start() for m in BARE_AMPERSAND.finditer(shown) if m.start() <= len(before)]
    if bare:
        near = shown[max(0, bare[-1] - 15) : bare[-1] + 15].strip()
        return f'{place}: "&" stands for itself in "{near}". Write &amp; in its place.'
    if error.code in _ENDS_EARLY:
        return f"{place}: the file ends before </annotation>. Restore the file."
    reason = expat.ErrorString(error.code) or "not well-formed"
    near = shown[max(0, len(before) - 10) : len(before) + 20].strip()
    at = f' at "{near}"' if near else ""
    return f"{place}, column {len(before) + 1}: {reason}{at}. Fix this line."


_ENDS_EARLY = (
    expat.errors.codes[expat.errors.XML_ERROR_NO_ELEMENTS],
    expat.errors.codes[expat.errors.XML_ERROR_UNCLOSED_TOKEN],
    expat.errors.codes[expat.errors.XML_ERROR_PARTIAL_CHAR],
)


def _read_size(root: ElementTree.Element, parsed: VocFile) -> None:
    size = root.find("size")
    texts = (
        ["", ""]
        if size is None
        else [(size.findtext(t) or "").strip() for t in ("width", "height")]
    )
    values = [_as_number(text) for text in texts]
    if not any(texts) or values == [0, 0]:
        parsed.repairs["size missing, taken from the image"] += 1
        return
    if any(v is None or v <= 0 or v != int(v) for v in values):
        parsed.faults.append(
            f"{parsed.where}, <size>: width is {texts[0] or 'missing'}, height is "
            f"{texts[1] or 'missing'}. Write the image's, or delete <size>."
        )
        return
    parsed.size = (int(values[0] or 0), int(values[1] or 0))


def _read_object(element: ElementTree.Element, number: int, parsed: VocFile) -> None:
    where = f"{parsed.where}, object {number}"
    raw = element.findtext("name") or ""
    name = raw.strip()
    if not name:
        parsed.faults.append(f"{where} has no <name>. Write its class, or delete the object.")
        return
    if name != raw:
        parsed.repairs["blanks around a class name"] += 1
    where = f"{where} ({name})"
    bounds = element.findall("bndbox")
    if len(bounds) != 1:
        parsed.faults.append(f"{where} has {len(bounds)} <bndbox>, expected one. Fix the file.")
        return
    known = len(parsed.faults)
    box = tuple(_coordinate(bounds[0], tag, where, parsed) for tag in CORNERS)
    difficult = _flag(element, where, parsed)
    truncated = _truncated(element, where, parsed)
    if len(parsed.faults) == known:
        xmin, ymin, xmax, ymax = box
        parsed.objects.append(
            VocObject(number, name, (xmin, ymin, xmax, ymax), difficult, truncated)
        )


def _as_number(text: str) -> float | None:
    text = text.strip()
    return float(text) if NUMBER.fullmatch(text) and math.isfinite(float(text)) else None


def _coordinate(bounds: ElementTree.Element, tag: str, where: str, parsed: VocFile) -> float:
    text = bounds.findtext(tag)
    value = None if text is None else _as_number(text)
    if text is None:
        parsed.faults.append(f"{where} has no <{tag}>. Write it, or delete the object.")
    elif value is None:
        parsed.faults.append(f'{where}: {tag} is "{text.strip()}". Write a finite number.')
    return value or 0.0


def _flag(element: ElementTree.Element, where: str, parsed: VocFile) -> int:
    text = element.findtext("difficult")
    if text is None:
        parsed.repairs["difficult missing, read as 0"] += 1
        return 0
    if text.strip() == UNSPECIFIED:
        parsed.repairs["difficult Unspecified, read as 0"] += 1
        return 0
    value = _as_number(text)
    if value not in (0.0, 1.0):
        parsed.faults.append(f'{where}: difficult is "{text.strip()}". Write 0 or 1.')
    return int(value == 1.0)


def _truncated(element: ElementTree.Element, where: str, parsed: VocFile) -> int:
    # Some tools write how much is cut off, as a fraction; any cut is a cut.
    text = element.findtext("truncated")
    value = 0.0 if text is None or text.strip() == UNSPECIFIED else _as_number(text)
    if value is None or value < 0:
        parsed.faults.append(f'{where}: truncated is "{(text or "").strip()}". Write 0 or 1.')
        return 0
    return int(value > 0)
