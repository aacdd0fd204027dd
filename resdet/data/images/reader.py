"""The one image reader: strict, the same for classifier, detector, evaluation and pictures.

Gives H x W x 3 uint8 RGB always. What may be fixed is fixed the same way everywhere and
counted (grey, CMYK, palette, EXIF rotation, a missing end marker); everything else is refused
with the file's name (`docs/faults.md` F26 to F33). The content decides what a file is, never its
suffix. An ICC profile is not applied, as Pillow, OpenCV and Detectron2 do not.

Pillow's global switches stay untouched: files are opened by their format's own class, as
`Image.open` has a limit of pixels that only a global switch can raise.

Not for: which images belong to a set (`catalog`), or changing them (`pretrain.augment`).
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from PIL import Image, JpegImagePlugin

from resdet import bounded_files
from resdet.data.images import jpeg_rows, jpeg_truncation
from resdet.data.images.header import ImageFacts, facts_of_picture, read_header
from resdet.data.images.resize import Region, resized
from resdet.data.options import DataOptions
from resdet.errors import DataError

SUFFIXES = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png", ".apng"),
    "GIF": (".gif",),
    "BMP": (".bmp", ".dib"),
    "WEBP": (".webp",),
    "TIFF": (".tif", ".tiff"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
    "JPEG2000": (".jp2", ".j2k", ".jpc", ".jpf", ".jpx"),
}
IMAGE_SUFFIXES = tuple(s for suffixes in SUFFIXES.values() for s in suffixes)
GREY_MODES = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N", "F")
# EXIF orientation to the transposition that makes the image upright, and its inverse.
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
AS_STORED = {**UPRIGHT, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}


def read_image(path: Path | str, options: DataOptions | None = None) -> np.ndarray:
    """The image as H x W x 3 uint8 RGB; raises DataError as `ImageReader.read`."""
    return ImageReader(options).read(path)


def read_size(path: Path | str, options: DataOptions | None = None) -> tuple[int, int]:
    """(width, height) as `read_image` gives them, from the header alone."""
    return ImageReader(options).read_size(path)


def inspect(path: Path | str) -> ImageFacts:
    """The facts in the header; no pixel is decoded.

    Raises:
        DataError: no such file, or not an image; states what it is instead.
    """
    try:
        with bounded_files.open_file(path) as stream:
            return read_header(stream, path)[1]
    except OSError as error:
        raise _unreadable(path, error) from None


def refusal(facts: ImageFacts, options: DataOptions) -> str | None:
    """Why an image with this header is not read, to follow its name; None if it is."""
    pixels = facts.width * facts.height
    if pixels > options.max_pixels:
        return (
            f"is {facts.width}x{facts.height} ({pixels / 1e6:.0f} Mpx; limit INPUT.MAX_PIXELS "
            f"{options.max_pixels / 1e6:g} Mpx). Raise the limit or cut the image into tiles."
        )
    if facts.frames > 1 and facts.format == "TIFF":
        return f"has {facts.frames} pages; only one can belong to an annotation. Split it."
    ways = ways_to_eight_bits(facts)
    if facts.bits > 8 and options.sixteen_bit not in ways:
        head = f"has {facts.bits} bits per channel"
        if options.sixteen_bit == "refuse":
            head += ". Reading it as 8 bits would clip or darken it. "
        else:
            head += f", and INPUT.SIXTEEN_BIT {options.sixteen_bit} is not for such files. "
        offer = " or ".join(f"{way} ({WAYS[way]})" for way in ways)
        return head + (f"Convert it, or set INPUT.SIXTEEN_BIT {offer}." if ways else "Convert it.")
    return None


def most_bytes(options: DataOptions) -> int:
    """What a file may have: four channels of 32 bits for each pixel, and what cameras add."""
    return 16 * options.max_pixels + (64 << 20)


# How values of more bits become 8, in words.
WAYS = {"high_byte": "divide by 256", "stretch": "per file, min to max"}


def ways_to_eight_bits(facts: ImageFacts) -> tuple[str, ...]:
    """The values of INPUT.SIXTEEN_BIT that read an image with this header.

    Only 16 bits have a high byte to keep; only grey pictures are stretched.
    """
    ways = ("high_byte",) if facts.bits == 16 else ()
    return (*ways, "stretch") if facts.mode in GREY_MODES else ways


def repairs(facts: ImageFacts, path: Path | str, options: DataOptions) -> Iterable[str]:
    """What is fixed in an image with this header, in the words of the counts."""
    if facts.orientation > 1 and options.exif == "apply":
        yield "EXIF rotation applied"
    if facts.orientation > 1 and options.exif == "ignore":
        yield "EXIF rotation ignored"
    if facts.broken_exif:
        yield "broken EXIF ignored"
    if facts.mode in GREY_MODES:
        yield "grey"
    if facts.mode == "CMYK":
        yield "CMYK"
    if facts.mode in ("P", "PA"):
        yield "palette"
    if facts.bits > 8:
        yield f"{facts.bits} bits, {options.sixteen_bit}"
    if facts.frames > 1:
        yield "first frame of several"
    # A name from a table may have no suffix, or a dot that is none.
    suffix = Path(path).suffix.lower()
    if suffix in IMAGE_SUFFIXES and suffix not in SUFFIXES.get(facts.format, (suffix,)):
        yield "suffix of another format"


class ImageReader:
    """Reads images and counts what it fixed.

    Attributes:
        counts: "EXIF rotation applied", "grey", "CMYK", … to how many images.
    """

    def __init__(self, options: DataOptions | None = None):
        self.options = options or DataOptions()
        self.counts: Counter[str] = Counter()

    def read(self, path: Path | str, data: bytes | None = None) -> np.ndarray:
        """The image as H x W x 3 uint8 RGB.

        Args:
            data: its content, where it is no file; `path` is then what messages call it.

        Raises:
            DataError: the file is missing, cut off, no image, too large, has more than 8 bits,
                several pages, or nothing but transparency; names it and what to do.
        """
        return np.array(self._read(path, None, data=data)[0])

    def read_region(
        self,
        path: Path | str,
        choose: Callable[[tuple[int, int]], Region],
        *,
        smaller: bool = True,
        data: bytes | None = None,
    ) -> np.ndarray:
        """A part of the image at another size, as if `read` and resized, in less time.

        A JPEG is decoded at the smallest DCT scale at which the part has at least as many pixels
        as the result, and down to the last row that is needed.

        Args:
            choose: (width, height) of the upright image to the region; called once.
            smaller: False decodes at full size always: the same within 2 of 255 levels.
            data: as for `read`.

        Raises:
            DataError: as `read`.
        """
        picture, region = self._read(path, choose, smaller, data)
        assert region is not None
        return resized(picture, region)

    def _read(
        self,
        path: Path | str,
        choose: Callable[[tuple[int, int]], Region] | None,
        smaller: bool = False,
        data: bytes | None = None,
    ) -> tuple[Image.Image, Region | None]:
        """The picture in RGB, upright, and the region on it."""
        if data is None:
            try:
                data = bounded_files.read_bytes(path, most_bytes(self.options))
            except OSError as error:
                raise _unreadable(path, error) from None
        stream = io.BytesIO(data)
        picture, facts = read_header(stream, path)
        self._refuse(path, facts)
        fixed = list(repairs(facts, path, self.options))
        region = choose(facts.size(self.options)) if choose else None
        scale = 1
        if region is not None and facts.format == "JPEG" and facts.frames == 1:
            scale = region.scale() if smaller else 1
            is_as_stored = facts.orientation == 1 or self.options.exif == "ignore"
            if is_as_stored and isinstance(picture, JpegImagePlugin.JpegImageFile):
                jpeg_rows.decode_only(picture, stream, region.rows_needed(), scale)
        picture = self._decoded(path, picture, facts, data, fixed, scale)
        picture = self._oriented(picture, facts)
        if region is not None and scale > 1:
            region = _on_smaller(region, scale, facts, picture, self.options)
        picture = self._in_eight_bits(path, picture, facts, fixed)
        self.counts.update(fixed)
        return picture, region

    def read_picture(self, picture: Image.Image, name: str) -> np.ndarray:
        """H x W x 3 uint8 RGB of a picture that is open already, by the same rules as a file.

        Args:
            name: what messages call it.

        Raises:
            DataError: as `read`; the picture's own file can no longer be read.
        """
        facts = facts_of_picture(picture)
        self._refuse(name, facts)
        fixed = list(repairs(facts, name, self.options))
        try:
            picture.load()
        except (OSError, ValueError, SyntaxError, EOFError) as error:
            raise DataError(f"{name} does not decode: {error}. Open it again.") from None
        picture = self._oriented(picture, facts)
        picture = self._in_eight_bits(name, picture, facts, fixed)
        self.counts.update(fixed)
        return np.array(picture)

    def _in_eight_bits(
        self, path: Path | str, picture: Image.Image, facts: ImageFacts, fixed: list[str]
    ) -> Image.Image:
        """In RGB."""
        if facts.bits > 8 and facts.mode in GREY_MODES:
            return self._from_many_bits(path, picture, facts)
        return self._rgb(path, picture, facts, fixed)

    def read_size(self, path: Path | str) -> tuple[int, int]:
        """(width, height) as `read` gives them, from the header alone; raises as `read`."""
        facts = inspect(path)
        self._refuse(path, facts)
        return facts.size(self.options)

    def _refuse(self, path: Path | str, facts: ImageFacts) -> None:
        why = refusal(facts, self.options)
        if why is not None:
            raise DataError(f"{path} {why}")

    def _decoded(
        self,
        path: Path | str,
        picture: Image.Image,
        facts: ImageFacts,
        data: bytes,
        fixed: list[str],
        scale: int,
    ) -> Image.Image:
        try:
            _shrink(picture, scale)
            picture.load()
        except MemoryError:
            raise
        except Exception as error:  # a decoder of foreign bytes raises anything
            if facts.format != "JPEG":
                raise DataError(
                    f"{path} is cut off or damaged: its {len(data):,} bytes do not decode as "
                    f"{facts.format} ({error}). Fetch it again."
                ) from None
            row = jpeg_truncation.first_missing_row(data)
            if row is not None:
                raise DataError(
                    f"{path} is cut off: the file ends after {len(data):,} bytes, inside row {row} "
                    f"of {facts.height}. Fetch it again."
                ) from None
            fixed.append("end marker missing")
            picture, _ = read_header(io.BytesIO(data + jpeg_truncation.END_MARKER), path)
            _shrink(picture, scale)
            picture.load()
        else:
            if not facts.has_end:
                fixed.append("end marker missing")
        return picture

    def _oriented(self, picture: Image.Image, facts: ImageFacts) -> Image.Image:
        # Pillow makes TIFF files upright while decoding them, and no others.
        is_upright = facts.orientation == 1 or facts.format == "TIFF"
        if self.options.exif == "apply":
            return picture if is_upright else picture.transpose(UPRIGHT[facts.orientation])
        if facts.format == "TIFF" and facts.orientation > 1:
            return picture.transpose(AS_STORED[facts.orientation])
        return picture

    def _rgb(
        self, path: Path | str, picture: Image.Image, facts: ImageFacts, fixed: list[str]
    ) -> Image.Image:
        if facts.bits > 8 and self.options.sixteen_bit == "stretch":
            raise DataError(
                f"{path} is a colour file with {facts.bits} bits per channel, and stretch is for "
                "grey ones. Convert it, or set INPUT.SIXTEEN_BIT high_byte."
            )
        try:
            if facts.has_alpha:
                picture = self._without_alpha(path, picture, fixed)
            return picture if picture.mode == "RGB" else picture.convert("RGB")
        except ValueError as error:
            raise DataError(
                f"{path} has colours of the kind {facts.mode}: {error}. Convert it to RGB."
            ) from None

    def _without_alpha(
        self, path: Path | str, picture: Image.Image, fixed: list[str]
    ) -> Image.Image:
        with_alpha = picture.convert("RGBA")
        low, high = with_alpha.getchannel("A").getextrema()
        if high == 0:
            raise DataError(
                f"{path} is wholly transparent: all {picture.width}x{picture.height} pixels have "
                "alpha 0, so there is no picture in it. Replace it."
            )
        if low == 255:
            return picture
        if self.options.alpha_over is None:
            fixed.append("alpha dropped")
            # Not `picture`: Pillow warns about palettes with more than one transparent colour.
            return with_alpha if picture.mode == "P" else picture
        fixed.append("alpha composited")
        ground = Image.new("RGBA", picture.size, (*self.options.alpha_over, 255))
        return Image.alpha_composite(ground, with_alpha)

    def _from_many_bits(
        self, path: Path | str, picture: Image.Image, facts: ImageFacts
    ) -> Image.Image:
        values = np.asarray(picture).astype(np.float64)
        if not np.isfinite(values).all():
            raise DataError(f"{path} has pixels that are not finite numbers. Convert it to 8 bits.")
        if self.options.sixteen_bit == "stretch":
            low, high = values.min(), values.max()
            values = np.rint((values - low) * (255.0 / (high - low if high > low else 1.0)))
        elif facts.bits == 16:
            values = np.floor(values / 256.0)
        else:
            raise DataError(
                f"{path} has {facts.bits} bits per channel, so it has no high byte of 16. Convert "
                "it, or set INPUT.SIXTEEN_BIT stretch."
            )
        return Image.fromarray(values.astype(np.uint8)).convert("RGB")


def _shrink(picture: Image.Image, scale: int) -> None:
    """Has a JPEG decoded `scale` times smaller, rounded up; Pillow takes a size to stay above."""
    if scale > 1:
        picture.draft(None, (picture.width // scale, picture.height // scale))


def _on_smaller(
    region: Region, scale: int, facts: ImageFacts, picture: Image.Image, options: DataOptions
) -> Region:
    """The region on the picture that was decoded smaller and made upright."""
    # Its last column and row, as stored, may stand for fewer pixels; upright they may come first.
    width, height = facts.size(options)
    turned = facts.orientation if options.exif == "apply" else 1
    shift_x = picture.width * scale - width if turned in (2, 3, 7, 6) else 0
    shift_y = picture.height * scale - height if turned in (3, 4, 7, 8) else 0
    return Region(region.columns.on_smaller(scale, shift_x), region.rows.on_smaller(scale, shift_y))


def _unreadable(path: Path | str, error: OSError) -> DataError:
    if isinstance(error, FileNotFoundError):
        return DataError(f"{path} does not exist. Put it there, or take it out of the list.")
    if isinstance(error, IsADirectoryError):
        return DataError(f"{path} is a folder, not an image. Give a file.")
    return DataError(f"{path} cannot be read: {error.strerror or error}.")
