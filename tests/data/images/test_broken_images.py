"""Damaged, foreign and oversized pictures: refused by name (F31 to F33)."""

from __future__ import annotations

import re
import zlib

import numpy as np
import pytest
from PIL import Image, ImageFile

from resdet.data.images.reader import read_image, read_size
from resdet.data.options import DataOptions
from resdet.errors import DataError
from tests.support.reading import HTML, POINTER, counted

pytestmark = pytest.mark.usefixtures("private_cache")


# -- damaged and foreign files ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"", r"is empty \(0 bytes\)", id="empty"),
        pytest.param(HTML, r"is a web page, not an image", id="web page"),
        pytest.param(b"\xef\xbb\xbf  <HTML>no", r"is a web page", id="page with BOM"),
        pytest.param(POINTER, r"LFS pointer .*has 102,530,333.*git lfs pull", id="LFS pointer"),
        pytest.param(b"404: Not Found\n", r"link leads nowhere \(404\)", id="text"),
        pytest.param(b"%PDF-1.4", r"is a PDF document, not an image", id="pdf"),
        pytest.param(b"\0" * 999, r"zero bytes", id="zeros"),
        pytest.param(b"\x01\x02\xff\xfe", r"is not an image that resdet can read", id="unknown"),
        pytest.param(b"\xff\xd8\xff\xe0\0\x10JFIF", r"starts as JPEG, .*cut off \(10", id="stub"),
        pytest.param(b"\x89PNG\r\n\x1a\n\0\0", r"starts as PNG, .*cut off \(10", id="png stub"),
        pytest.param(b"%!PS-Adobe-3.0 EPSF", r"text of 19 bytes", id="PostScript is not run"),
    ],
)
def test_foreign_files_are_named_for_what_they_are(tmp_path, content: bytes, message: str) -> None:
    """F31: by their first bytes, before any decoder sees them, for pixels and for size."""
    path = tmp_path / "000033.jpg"
    path.write_bytes(content)
    for read in (read_image, read_size):
        with pytest.raises(DataError, match=rf"000033\.jpg.*{message}"):
            read(path)


def test_missing_files_and_folders(tmp_path) -> None:
    """F1: no traceback of the operating system."""
    with pytest.raises(DataError, match=r"gone\.jpg does not exist"):
        read_image(tmp_path / "gone.jpg")
    with pytest.raises(DataError, match="is a folder, not an image"):
        read_image(tmp_path)


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("lost", [1, 2])
def test_a_missing_end_marker_alone_is_fixed(
    tmp_path, make_picture, progressive: bool, lost: int
) -> None:
    """F31: Pillow refuses such a file though every pixel is there."""
    path = tmp_path / "a.jpg"
    make_picture((400, 300)).save(path, progressive=progressive)
    whole = read_image(path)
    path.write_bytes(path.read_bytes()[:-lost])
    pixels, counts = counted(path)
    np.testing.assert_array_equal(pixels, whole)
    assert counts == {"end marker missing": 1}


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("lost", [3, 4, 10, 200])
def test_a_jpeg_that_lacks_pixels_is_refused(
    tmp_path, make_picture, progressive: bool, lost: int
) -> None:
    """F31: libjpeg would fill the rest with grey and only warn."""
    path = tmp_path / "000032.jpg"
    make_picture((400, 300)).save(path, progressive=progressive)
    data = path.read_bytes()[:-lost]
    path.write_bytes(data)
    message = (
        rf"000032\.jpg is cut off: the file ends after {len(data):,} bytes, inside row \d+ of 300"
    )
    with pytest.raises(DataError, match=message):
        read_image(path)


def test_the_row_of_the_cut_is_about_right(tmp_path, make_picture) -> None:
    """F31: a picture equally busy everywhere, cut in half, ends near its middle row."""
    path = tmp_path / "a.jpg"
    make_picture((400, 400)).save(path)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError) as caught:
        read_image(path)
    row = int(re.search(r"row (\d+)", str(caught.value))[1])
    assert 150 < row < 250


def test_a_progressive_jpeg_cut_between_two_scans_is_refused(tmp_path, make_picture) -> None:
    """F31: it decodes with every row, only coarsely; its scan headers give it away."""
    path = tmp_path / "a.jpg"
    make_picture((400, 300)).save(path, progressive=True)
    data = path.read_bytes()
    starts = [m.start() for m in re.finditer(rb"\xff\xda", data)]
    assert len(starts) > 3
    for start in starts[1:4]:
        path.write_bytes(data[:start])
        with pytest.raises(DataError, match="is cut off"):
            read_image(path)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".gif", ".tif", ".webp"])
def test_half_a_file_is_refused_in_every_format(tmp_path, make_picture, suffix: str) -> None:
    """F31: strict decoding everywhere."""
    path = tmp_path / f"a{suffix}"
    make_picture().save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with pytest.raises(DataError, match=rf"a\{suffix} .*(cut off|damaged)"):
        read_image(path)


def test_pillows_global_switches_stay_as_they_are(tmp_path, make_picture) -> None:
    """F31, F32: neither truncated files nor larger limits for the rest of the process."""
    before = ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS
    path = tmp_path / "a.jpg"
    make_picture().save(path)
    path.write_bytes(path.read_bytes()[:-2])
    read_image(path, DataOptions(max_pixels=10**9))
    assert before == (ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS)
    assert before[0] is False


# -- suffixes, bombs, frames ------------------------------------------------------------------


def test_the_content_decides_and_a_wrong_suffix_is_counted(tmp_path, make_picture) -> None:
    """F32: n02105855_2933.JPEG of ImageNet is a PNG."""
    path = tmp_path / "n02105855_2933.JPEG"
    make_picture().save(path, format="PNG")
    pixels, counts = counted(path)
    np.testing.assert_array_equal(pixels, np.asarray(make_picture()))
    assert counts == {"suffix of another format": 1}


def test_too_many_pixels_are_refused_by_the_header(tmp_path) -> None:
    """F32: 20000 x 20000 is 400 Mpx; nothing is decoded, so this takes no time."""
    path = tmp_path / "big.png"
    Image.new("1", (1, 1)).save(path)
    data = path.read_bytes()
    header = b"IHDR" + (20000).to_bytes(4, "big") * 2 + data[24:29]
    checked = header + zlib.crc32(header).to_bytes(4, "big")
    path.write_bytes(data[:12] + checked + data[33:])
    message = r"big\.png is 20000x20000 \(400 Mpx; limit INPUT\.MAX_PIXELS 90 Mpx\)"
    with pytest.raises(DataError, match=message):
        read_image(path)
    assert read_size(path, DataOptions(max_pixels=400_000_000)) == (20000, 20000)


def test_the_limit_itself_is_allowed(tmp_path) -> None:
    """F32: 60 x 40 is 2,400 pixels."""
    path = tmp_path / "a.png"
    Image.new("RGB", (60, 40)).save(path)
    assert read_image(path, DataOptions(max_pixels=2400)).shape == (40, 60, 3)
    with pytest.raises(DataError, match="60x40"):
        read_image(path, DataOptions(max_pixels=2399))


@pytest.mark.parametrize("suffix", [".gif", ".png", ".webp"])
def test_the_first_frame_of_several_is_taken_and_counted(tmp_path, suffix: str) -> None:
    """F33: as Pillow, OpenCV and Detectron2 do, but reported."""
    frames = [Image.new("RGB", (8, 8), c) for c in ("#ff0000", "#00ff00", "#0000ff")]
    path = tmp_path / f"a{suffix}"
    frames[0].save(path, save_all=True, append_images=frames[1:], lossless=True)
    pixels, counts = counted(path)
    np.testing.assert_array_equal(pixels[4, 4], (255, 0, 0))
    assert counts["first frame of several"] == 1


def test_a_tiff_of_several_pages_is_refused(tmp_path) -> None:
    """F33: its pages are usually different pictures."""
    pages = [Image.new("RGB", (8, 8), c) for c in ("red", "green", "blue")]
    pages[0].save(tmp_path / "stack.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(DataError, match=r"stack\.tif has 3 pages"):
        read_size(tmp_path / "stack.tif")
