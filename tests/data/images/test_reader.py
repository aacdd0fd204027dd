"""The image reader: what it reads, what it fixes, and its cache of headers (F26 to F31)."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from resdet.data.images.reader import ImageReader, inspect, read_image, read_size
from resdet.data.images.scan import read_headers
from resdet.data.options import DataOptions
from resdet.errors import DataError
from tests.support.reading import HTML, counted

pytestmark = pytest.mark.usefixtures("private_cache")


# -- kinds of pictures --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "suffix", "count"),
    [
        pytest.param("RGB", ".jpg", {}, id="rgb"),
        pytest.param("CMYK", ".jpg", {"CMYK": 1}, id="cmyk"),
        pytest.param("L", ".jpg", {"grey": 1}, id="grey jpeg"),
        pytest.param("L", ".png", {"grey": 1}, id="grey png"),
        pytest.param("1", ".png", {"grey": 1}, id="one bit"),
        pytest.param("P", ".png", {"palette": 1}, id="palette"),
        pytest.param("RGBA", ".png", {}, id="opaque alpha"),
        pytest.param("LA", ".png", {"grey": 1}, id="grey with opaque alpha"),
        pytest.param("RGB", ".bmp", {}, id="bmp"),
        pytest.param("RGB", ".webp", {}, id="webp"),
        pytest.param("RGB", ".tif", {}, id="tiff"),
        pytest.param("RGB", ".ppm", {}, id="ppm"),
    ],
)
def test_every_kind_becomes_rgb_and_is_counted(
    tmp_path, make_picture, mode: str, suffix: str, count: dict[str, int]
) -> None:
    """F26, F27, F29: the pixels are Pillow's own conversion of the decoded file."""
    path = tmp_path / f"a{suffix}"
    make_picture().convert(mode).save(path)
    pixels, counts = counted(path)
    assert pixels.shape == (40, 60, 3)
    assert pixels.dtype == np.uint8
    assert pixels.flags.writeable
    assert counts == count
    with Image.open(path) as reference:
        np.testing.assert_array_equal(pixels, np.asarray(reference.convert("RGB")))


def test_inverted_adobe_cmyk_is_not_a_negative(tmp_path) -> None:
    """F26: pure cyan ink, written as Adobe does (inverted), is cyan: red 0, green and blue 255."""
    path = tmp_path / "cyan.jpg"
    Image.new("CMYK", (16, 16), (255, 0, 0, 0)).save(path, quality=100)
    assert b"Adobe" in path.read_bytes()
    np.testing.assert_allclose(read_image(path)[8, 8], (0, 255, 255), atol=3)


def test_grey_has_three_equal_channels(tmp_path) -> None:
    """F27: a grey value of 7 is (7, 7, 7)."""
    path = tmp_path / "grey.png"
    Image.new("L", (3, 2), 7).save(path)
    np.testing.assert_array_equal(read_image(path), np.full((2, 3, 3), 7))


def test_palette_gives_colours_not_indices(tmp_path) -> None:
    """F29: index 1 of the palette is (200, 100, 50), not brightness 1."""
    picture = Image.new("P", (4, 4), 1)
    picture.putpalette([0, 0, 0, 200, 100, 50])
    picture.save(tmp_path / "p.png")
    np.testing.assert_array_equal(read_image(tmp_path / "p.png")[0, 0], (200, 100, 50))


# -- alpha ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("over", "expected", "count"),
    [
        pytest.param(None, (200, 100, 50), "alpha dropped", id="stock"),
        pytest.param((0, 0, 0), (0, 0, 0), "alpha composited", id="over black"),
        pytest.param((9, 8, 7), (9, 8, 7), "alpha composited", id="over a colour"),
    ],
)
@pytest.mark.parametrize("mode", ["RGBA", "P"])
def test_transparent_pixels_show_what_was_asked_for(
    tmp_path, mode: str, over, expected, count: str
) -> None:
    """F29: a hidden colour under alpha 0 shows as in stock readers, or the ground does."""
    picture = Image.new("RGBA", (4, 4), (200, 100, 50, 0))
    picture.putpixel((0, 0), (1, 2, 3, 255))
    if mode == "P":
        indexed = Image.new("P", (4, 4), 1)
        indexed.putpixel((0, 0), 0)
        indexed.putpalette([1, 2, 3, 200, 100, 50])
        indexed.save(tmp_path / "a.png", transparency=bytes([255, 0]))
    else:
        picture.save(tmp_path / "a.png")
    pixels, counts = counted(tmp_path / "a.png", alpha_over=over)
    np.testing.assert_array_equal(pixels[2, 2], expected)
    np.testing.assert_array_equal(pixels[0, 0], (1, 2, 3))
    assert counts[count] == 1


def test_a_wholly_transparent_picture_is_refused(tmp_path) -> None:
    """F29: nothing would be seen of it."""
    Image.new("RGBA", (60, 40), (7, 7, 7, 0)).save(tmp_path / "ghost.png")
    with pytest.raises(DataError, match=r"ghost\.png is wholly transparent: all 60x40 pixels"):
        read_image(tmp_path / "ghost.png")


# -- 16 bits ----------------------------------------------------------------------------------


@pytest.fixture
def ramp(tmp_path) -> Path:
    """A 16-bit ramp over 256 pixels: 0, 256, …, 65280."""
    path = tmp_path / "scan_07.png"
    Image.fromarray((np.arange(256, dtype=np.uint16) * 256)[None].repeat(2, 0)).save(path)
    return path


def test_sixteen_bits_are_refused_by_name(ramp: Path) -> None:
    """F28: Pillow would clip 255 of these 256 values to white."""
    message = r"scan_07\.png has 16 bits per channel.*INPUT\.SIXTEEN_BIT high_byte .*stretch"
    for read in (read_image, read_size):
        with pytest.raises(DataError, match=message):
            read(ramp)


def test_sixteen_bits_by_choice(ramp: Path, tmp_path) -> None:
    """F28: by hand: the high byte of 256 k is k; 12-bit data stretch to 0 … 255."""
    pixels, counts = counted(ramp, sixteen_bit="high_byte")
    np.testing.assert_array_equal(pixels[0, :, 0], np.arange(256))
    assert counts == {"grey": 1, "16 bits, high_byte": 1}
    twelve = tmp_path / "twelve.png"
    Image.fromarray(np.array([[0, 1, 4095]], dtype=np.uint16)).save(twelve)
    stretched, _ = counted(twelve, sixteen_bit="stretch")
    np.testing.assert_array_equal(stretched[0, :, 1], (0, 0, 255))
    flat = tmp_path / "flat.png"
    Image.fromarray(np.full((2, 2), 999, dtype=np.uint16)).save(flat)
    assert counted(flat, sixteen_bit="stretch")[0].max() == 0


def test_sixteen_bit_tiff_and_32_bit_floats(tmp_path) -> None:
    """F28: the rule is about bits, not about PNG."""
    Image.fromarray(np.full((2, 3), 0x1234, dtype=np.uint16)).save(tmp_path / "a.tif")
    Image.fromarray(np.array([[0.0, 0.5, 1.0]], dtype=np.float32)).save(tmp_path / "f.tif")
    with pytest.raises(DataError, match=r"a\.tif has 16 bits"):
        read_image(tmp_path / "a.tif")
    assert read_image(tmp_path / "a.tif", DataOptions(sixteen_bit="high_byte"))[0, 0, 0] == 0x12
    with pytest.raises(DataError, match=r"f\.tif has 32 bits.*high_byte is not for such"):
        read_image(tmp_path / "f.tif", DataOptions(sixteen_bit="high_byte"))
    stretched = read_image(tmp_path / "f.tif", DataOptions(sixteen_bit="stretch"))
    np.testing.assert_array_equal(stretched[0, :, 0], (0, 128, 255))


# -- EXIF -------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_in_pixels_and_size(
    tmp_path, make_picture, make_exif, suffix: str, orientation: int
) -> None:
    """F30: Pillow's exif_transpose of the stored pixels; `ignore` gives the stored ones."""
    path = tmp_path / f"a{suffix}"
    lossless = {"lossless": True} if suffix == ".webp" else {}
    make_picture().save(path, exif=make_exif(orientation), **lossless)
    plain = tmp_path / f"plain{suffix}"
    make_picture().save(plain, **lossless)
    stored = Image.fromarray(read_image(plain))
    stored.getexif()[0x0112] = orientation
    upright, counts = counted(path)
    np.testing.assert_array_equal(upright, np.asarray(ImageOps.exif_transpose(stored)))
    assert counts == ({"EXIF rotation applied": 1} if orientation > 1 else {})
    assert read_size(path) == upright.shape[1::-1]
    ignored = read_image(path, DataOptions(exif="ignore"))
    np.testing.assert_array_equal(ignored, np.asarray(stored))
    assert read_size(path, DataOptions(exif="ignore")) == (60, 40)


def test_exif_behind_the_pixels_of_a_png(tmp_path, make_picture, make_exif) -> None:
    """F30: Pillow finds such a block only by decoding; the size must be right without."""
    path = tmp_path / "a.png"
    make_picture().save(path, exif=make_exif(6))
    data = path.read_bytes()
    start = data.index(b"eXIf") - 4
    length = int.from_bytes(data[start : start + 4], "big") + 12
    block = data[start : start + length]
    path.write_bytes(data[:start] + data[start + length : -12] + block + data[-12:])
    assert read_size(path) == (40, 60)
    assert read_image(path).shape == (60, 40, 3)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
@pytest.mark.parametrize(
    "block", [b"II*\0\xff\xff\xff", b"not TIFF at all", b"II*\0\xff\xff\xff\xff"]
)
def test_a_broken_exif_block_counts_as_none(tmp_path, make_picture, block: bytes) -> None:
    """F30, as in Detectron2."""
    path = tmp_path / "a.jpg"
    make_picture().save(path, exif=b"Exif\0\0" + block)
    pixels, counts = counted(path)
    assert pixels.shape == (40, 60, 3)
    assert read_size(path) == (60, 40)
    assert "EXIF rotation applied" not in counts and counts["broken EXIF ignored"] == 1


def test_a_whole_exif_block_is_not_broken(tmp_path, make_picture, make_exif) -> None:
    path = tmp_path / "a.jpg"
    make_picture().save(path, exif=make_exif(1))
    assert b"Exif" in path.read_bytes() and "broken EXIF ignored" not in counted(path)[1]


# -- the reader as a thing --------------------------------------------------------------------


def test_equal_to_detectron2s_reader(shared_data, tmp_path, make_picture, make_exif) -> None:
    """Detectron2's read_image in RGB on real photographs and on a rotated one."""
    read = pytest.importorskip("detectron2.data.detection_utils").read_image
    rotated = tmp_path / "r.jpg"
    make_picture().save(rotated, exif=make_exif(6))
    files = sorted((shared_data / "VOC2007" / "JPEGImages").glob("*.jpg"))[:10]
    files += sorted((shared_data / "imagenet_sample").glob("*/*.JPEG"))[:10]
    assert len(files) == 20
    for path in [*files, rotated]:
        np.testing.assert_array_equal(read_image(path), read(str(path), "RGB"), str(path))


def test_a_reader_can_be_sent_to_a_worker() -> None:
    """F66: everything that workers get can be pickled."""
    reader = ImageReader(DataOptions(alpha_over=(1, 2, 3)))
    assert pickle.loads(pickle.dumps(reader)).options == reader.options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"exif": "maybe"}, "exif is 'maybe', expected one of apply, ignore"),
        ({"sixteen_bit": "8"}, "sixteen_bit is '8'"),
        ({"voc_origin": 2}, "voc_origin is 2, expected one of 0, 1"),
        ({"clip_boxes": -1.0}, r"clip_boxes is -1\.0, expected 0 or more"),
        ({"drop_orphans": {"mine": -1}}, "drop_orphans is {'mine': -1}, expected 0 or more"),
        ({"alpha_over": (1, 2)}, r"alpha_over is \(1, 2\)"),
        ({"max_pixels": 0}, "max_pixels is 0"),
    ],
)
def test_options_out_of_range_are_refused(options, message: str) -> None:
    """A wrong call from Python is a ValueError with the value."""
    with pytest.raises(ValueError, match=message):
        DataOptions(**options)


# -- headers and their cache ------------------------------------------------------------------


def settle(path: Path) -> None:
    """Makes a file look old, as only such files are kept in the cache."""
    stat = path.stat()
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns - 10**10))


def test_headers_of_a_set_are_collected_with_all_faults(tmp_path, make_picture) -> None:
    """F1, F31: two of three files are bad, both are named."""
    make_picture().convert("L").save(tmp_path / "a.jpg")
    (tmp_path / "b.jpg").write_bytes(HTML)
    files = [str(tmp_path / name) for name in ("a.jpg", "b.jpg", "c.jpg")]
    headers = read_headers(files, DataOptions())
    assert list(headers.facts) == files[:1]
    assert headers.counts == {"grey": 1}
    assert "web page" in headers.faults[files[1]]
    assert "broken link" in headers.faults[files[2]]


def test_cached_headers_are_believed_only_while_the_file_is_the_same(
    tmp_path, make_picture, monkeypatch
) -> None:
    """F10: unchanged is not opened again; changed, or another version, is; no cache is the same."""
    path = tmp_path / "a.jpg"
    make_picture((60, 40)).save(path)
    settle(path)
    opened = []
    monkeypatch.setattr(
        "resdet.data.images.scan.inspect", lambda file: opened.append(file) or inspect(file)
    )

    def width(**options) -> int:
        return read_headers([str(path)], DataOptions(**options)).facts[str(path)].width

    assert width() == 60
    assert width() == 60
    assert len(opened) == 1
    assert width(cache=False) == 60
    assert len(opened) == 2
    make_picture((70, 40)).save(path)
    settle(path)
    assert width() == 70
    monkeypatch.setattr("resdet.data.images.scan.VERSION", "another")
    assert width() == 70
    assert len(opened) == 4


def test_options_are_applied_to_what_is_cached(tmp_path, make_picture, make_exif) -> None:
    """F10: the cache holds facts of the file, so no option can make it stale."""
    path = tmp_path / "a.jpg"
    make_picture().save(path, exif=make_exif(6))
    settle(path)
    for exif, size in (("apply", (40, 60)), ("ignore", (60, 40)), ("apply", (40, 60))):
        options = DataOptions(exif=exif)
        assert read_headers([str(path)], options).facts[str(path)].size(options) == size
    limited = read_headers([str(path)], DataOptions(max_pixels=100))
    assert "60x40" in limited.faults[str(path)]


@pytest.mark.parametrize("content", ["", "{", '{"version": 1}', "[]"])
def test_a_damaged_cache_is_made_anew(tmp_path, private_cache, make_picture, content: str) -> None:
    """F10: never an error, never believed."""
    path = tmp_path / "a.jpg"
    make_picture().save(path)
    settle(path)
    read_headers([str(path)], DataOptions())
    cached = list(private_cache.rglob("*.json"))
    assert len(cached) == 1
    cached[0].write_text(content, encoding="utf-8")
    assert read_headers([str(path)], DataOptions()).facts[str(path)].width == 60


def test_a_cache_that_cannot_be_written_only_costs_time(
    tmp_path, make_picture, monkeypatch
) -> None:
    """F69: its place is taken by a file."""
    (tmp_path / "taken").write_text("", encoding="utf-8")
    monkeypatch.setenv("RESDET_CACHE", str(tmp_path / "taken"))
    make_picture().save(tmp_path / "a.jpg")
    settle(tmp_path / "a.jpg")
    assert read_headers([str(tmp_path / "a.jpg")], DataOptions()).facts
