"""The facts in an image's header, without decoding a pixel.

Every decision of the reader uses these facts, so a size that is checked before a training
starts is the size that is read in it.

Not for: pixels (`reader`).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple

from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from resdet.data.options import DataOptions
from resdet.errors import DataError
from resdet.formats import foreign

ALPHA_MODES = ("RGBA", "LA", "PA", "La", "RGBa")
ORIENTATION = 0x0112
# Below, filling in a JPEG's header costs no time; a marker may have some bytes of it before.
LARGE_BYTES, MOST_PADDING = 16 << 20, 64 << 10
START_OF_SCAN = 0xDA
# Of grey modes with more than 8.
_BITS = {"I;16": 16, "I;16B": 16, "I;16L": 16, "I;16N": 16, "I": 32, "F": 32}
# First bytes to format and opener. Formats outside are refused: some of Pillow's run programs.
Opener = Callable[[BinaryIO], ImageFile.ImageFile]
FORMATS: tuple[tuple[re.Pattern[bytes], str, Opener], ...] = (
    (re.compile(rb"\xff\xd8\xff"), "JPEG", JpegImagePlugin.jpeg_factory),
    (re.compile(rb"\x89PNG\r\n\x1a\n"), "PNG", PngImagePlugin.PngImageFile),
    (re.compile(rb"GIF8[79]a"), "GIF", GifImagePlugin.GifImageFile),
    (re.compile(rb"BM"), "BMP", BmpImagePlugin.BmpImageFile),
    (re.compile(rb"II\*\0|MM\0\*|II\+\0|MM\0\+"), "TIFF", TiffImagePlugin.TiffImageFile),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), "WEBP", WebPImagePlugin.WebPImageFile),
    (re.compile(rb"P[1-6]\s"), "PPM", PpmImagePlugin.PpmImageFile),
    (
        re.compile(rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51"),
        "JPEG2000",
        Jpeg2KImagePlugin.Jpeg2KImageFile,
    ),
)


class ImageFacts(NamedTuple):
    """One image's header.

    Attributes:
        format: of the content, "JPEG", "PNG", …
        mode: Pillow's, such as "RGB", "L", "I;16".
        width, height: as stored, before any rotation.
        orientation: EXIF's 1 to 8; 1 means as it stands, also where there is none.
        bits: per channel.
        frames: pictures in the file; 2 stands for "more than one" where counting is slow (GIF).
        has_alpha: some pixels may be transparent.
        broken_exif: there is an EXIF block that cannot be read.
        has_end: the end marker is there, as far as it can be seen without decoding (PNG).
    """

    format: str
    mode: str
    width: int
    height: int
    orientation: int = 1
    bits: int = 8
    frames: int = 1
    has_alpha: bool = False
    broken_exif: bool = False
    has_end: bool = True

    def size(self, options: DataOptions) -> tuple[int, int]:
        """(width, height) as the reader gives them."""
        if options.exif == "apply" and self.orientation in (5, 6, 7, 8):
            return self.height, self.width
        return self.width, self.height


def read_header(stream: BinaryIO, path: Path | str) -> tuple[Image.Image, ImageFacts]:
    """The picture, not yet decoded, and its facts; `stream` must stay open to decode it.

    Raises:
        DataError: it is no image, or its header is damaged; states which.
    """
    head = stream.read(foreign.HEAD_BYTES)
    size = stream.seek(0, 2)
    stream.seek(0)
    matching = [(name, opener) for magic, name, opener in FORMATS if magic.match(head)]
    if not matching:
        raise DataError(f"{path} {foreign.describe(head, size, expected='an image')}")
    name, opener = matching[0]
    try:
        if name == "JPEG" and size > LARGE_BYTES:
            _refuse_padding(stream)
        picture = opener(stream)
        facts = _facts(picture, name, stream)
    except MemoryError:
        raise
    except Exception as error:  # a parser of foreign bytes raises anything
        raise DataError(
            f"{path} starts as {name}, but its header is damaged or cut off ({size:,} bytes; "
            f"{error or type(error).__name__}). Fetch it again."
        ) from None
    if facts.width < 1 or facts.height < 1:
        raise DataError(f"{path} is {facts.width}x{facts.height}: it has no pixels. Replace it.")
    return picture, facts


def facts_of_picture(picture: Image.Image) -> ImageFacts:
    """The facts of a picture that a caller has opened or made with Pillow.

    Bits are those of its mode: Pillow has made 8 of 16 bits per colour before anyone can ask.
    """
    orientation, broken_exif = _orientation(picture)
    width, height = picture.size
    if picture.format == "TIFF" and orientation > 4:
        # Pillow has swapped them; facts have them as stored.
        width, height = height, width
    return ImageFacts(
        format=picture.format or "",
        mode=picture.mode,
        width=width,
        height=height,
        orientation=orientation,
        bits=_BITS.get(picture.mode, 8),
        has_alpha=picture.mode in ALPHA_MODES or "transparency" in picture.info,
        broken_exif=broken_exif,
    )


def _refuse_padding(stream: BinaryIO) -> None:
    """Raises ValueError for nothing but filling in a JPEG's header, which Pillow walks in bytes."""
    place = 2
    while True:
        stream.seek(place)
        head = stream.read(MOST_PADDING)
        start = len(head) - len(head.lstrip(b"\xff\0"))
        if start == len(head):
            raise ValueError(f"nothing from byte {place:,} on")
        marker, length = head[start], int.from_bytes(head[start + 1 : start + 3], "big")
        if marker == START_OF_SCAN or length < 2:
            break
        place += start + 1 + length
    stream.seek(0)


def _facts(picture: ImageFile.ImageFile, name: str, stream: BinaryIO) -> ImageFacts:
    width, height = picture.size
    bits = _BITS.get(picture.mode, 8)
    has_end = True
    if name == "PNG":
        bits, has_end = _png_details(picture, stream)
    elif name == "TIFF":
        assert isinstance(picture, TiffImagePlugin.TiffImageFile)
        # Pillow swaps the size of rotated TIFF files, the tags have it as stored.
        width, height = int(picture.tag_v2[256]), int(picture.tag_v2[257])
        bits = max(bits, *_as_tuple(picture.tag_v2.get(258, 8)))
    elif name == "PPM":
        bits = _ppm_bits(picture)
    orientation, broken_exif = _orientation(picture)
    return ImageFacts(
        format=name,
        mode=picture.mode,
        width=width,
        height=height,
        orientation=orientation,
        bits=bits,
        frames=_frames(picture, name),
        has_alpha=picture.mode in ALPHA_MODES or "transparency" in picture.info,
        broken_exif=broken_exif,
        has_end=has_end,
    )


def _frames(picture: ImageFile.ImageFile, name: str) -> int:
    if name == "GIF":
        return 1 + bool(getattr(picture, "is_animated", False))
    return int(getattr(picture, "n_frames", 1))


def _orientation(picture: Image.Image) -> tuple[int, bool]:
    try:
        value = picture.getexif().get(ORIENTATION, 1)
    except Exception:  # a broken EXIF block counts as none (F30), as in Detectron2
        return 1, True
    orientation = value if value in range(1, 9) else 1
    return orientation, orientation == 1 and _is_broken(picture.info.get("exif", b""))


def _is_broken(block: bytes) -> bool:
    """Whether an EXIF block has no whole first directory; of most of them Pillow only warns."""
    tiff = block.removeprefix(b"Exif\0\0")
    order: dict[bytes, Literal["little", "big"]] = {b"II*\0": "little", b"MM\0*": "big"}
    if not tiff:
        return False
    if tiff[:4] not in order or len(tiff) < 8:
        return True
    start = int.from_bytes(tiff[4:8], order[tiff[:4]])
    entries = int.from_bytes(tiff[start : start + 2], order[tiff[:4]])
    return start + 2 + 12 * entries > len(tiff)


def _as_tuple(value: int | tuple[int, ...]) -> tuple[int, ...]:
    return value if isinstance(value, tuple) else (value,)


def _ppm_bits(picture: ImageFile.ImageFile) -> int:
    arguments = picture.tile[0][3]
    largest = arguments[-1] if isinstance(arguments, tuple) else 255
    if arguments == "I;16B" or (isinstance(largest, int) and largest > 255):
        return 16
    return 32 if picture.mode == "F" else 8


def _png_details(picture: ImageFile.ImageFile, stream: BinaryIO) -> tuple[int, bool]:
    """Bits per channel, and whether the end chunk is there.

    Also hands EXIF and XMP blocks that lie behind the pixels to Pillow, which would decode the
    whole picture to find them.
    """
    place = stream.tell()
    stream.seek(24)
    bits = stream.read(1)[0]
    position, has_end = 8, False
    exif = picture.info.get("exif", b"")
    while not has_end:
        stream.seek(position)
        head = stream.read(8)
        if len(head) < 8:
            break
        length, kind = int.from_bytes(head[:4], "big"), head[4:]
        if kind == b"eXIf" and not exif:
            exif = stream.read(length)
        elif kind == b"iTXt" and "XML:com.adobe.xmp" not in picture.info:
            text = stream.read(length)
            if text.startswith(b"XML:com.adobe.xmp\0"):
                picture.info["XML:com.adobe.xmp"] = text.decode("utf-8", "replace")
        has_end = kind == b"IEND"
        position += 12 + length
    raw = str(picture.info.get("Raw profile type exif", ""))
    if raw and not exif:
        # ImageMagick's older way: three lines of heading, then hexadecimal digits.
        exif = bytes.fromhex("".join(raw.split("\n")[3:]))
    picture.info["exif"] = exif
    stream.seek(place)
    return max(bits, 8), has_end
