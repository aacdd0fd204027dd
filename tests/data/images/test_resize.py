"""A part of an image alone, against Pillow's resize of the whole, and JPEGs decoded in part."""

from __future__ import annotations

import functools
import io

import numpy as np
import pytest
from PIL import Image, ImageOps, JpegImagePlugin

from resdet.data.images import jpeg_rows
from resdet.data.images.reader import ImageReader
from resdet.data.images.resize import Axis, Region, resized
from resdet.data.options import DataOptions
from resdet.errors import DataError


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


def apart(one: np.ndarray, other: np.ndarray) -> int:
    return int(np.abs(one.astype(int) - other.astype(int)).max())


# -- resizing the part alone ---------------------------------------------------------------------


@pytest.mark.parametrize("resize_to", [(90, 60), (300, 200), (113, 75), (150, 100), (151, 101)])
def test_a_part_is_the_part_of_the_whole_resized_by_pillow(resize_to) -> None:
    """Smaller, larger, by odd ratios and not at all; in corners, at edges and inside; on noise."""
    picture = noise(150, 100)
    whole = np.asarray(picture.resize(resize_to, Image.Resampling.BILINEAR))
    across, down = resize_to[0] - 40, resize_to[1] - 40
    for left in (0, 1, across // 3, across // 2 + 1, across - 1, across):
        for top in (0, 1, down // 2, down):
            region = Region.of_resized((150, 100), resize_to, left, top, 40)
            part = whole[top : top + 40, left : left + 40]
            # Pillow rounds between its two passes, and so does torch, elsewhere.
            assert apart(resized(picture, region), part) <= 2, (left, top)


@pytest.mark.parametrize("width", [20, 39, 40, 41, 64, 97, 149])
def test_a_box_of_whole_pixels_is_pillows_resize_of_that_box(width: int) -> None:
    """Its edges read beyond the box; with upscaling by 2 several samples do."""
    picture = noise(150, 100, seed=1)
    for left in {0, 1, (150 - width) // 2, 150 - width}:
        for top, height in ((0, 100), (0, 23), (7, 80), (77, 23)):
            box = (left, top, left + width, top + height)
            expected = picture.resize((40, 40), Image.Resampling.BILINEAR, box=box)
            got = resized(picture, Region.of_box(left, top, width, height, 40))
            assert apart(got, np.asarray(expected)) <= 2, box


def test_as_many_pixels_as_samples_though_not_one_to_one() -> None:
    """222 pixels to 224 samples, cut with the two beyond: 224 to 224 is no copy."""
    picture = noise(500, 375, seed=3)
    expected = picture.resize((224, 224), Image.Resampling.BILINEAR, box=(120, 6, 342, 279))
    assert apart(resized(picture, Region.of_box(120, 6, 222, 273, 224)), np.asarray(expected)) <= 2


def test_most_values_are_equal_not_just_near() -> None:
    """A shift by a hundredth of a pixel would not pass: on noise it moves every value."""
    picture = noise(500, 375, seed=2)
    whole = np.asarray(picture.resize((490, 368), Image.Resampling.BILINEAR))
    got = resized(picture, Region.of_resized((500, 375), (490, 368), 100, 50, 224))
    part = whole[50:274, 100:324]
    assert (got == part).mean() > 0.9
    shifted = picture.resize((490, 368), Image.Resampling.BILINEAR, box=(0.01, 0.01, 500, 375))
    assert (np.asarray(shifted)[50:274, 100:324] == part).mean() < 0.9


@pytest.mark.parametrize(
    ("width", "height", "scale"),
    [(223, 900, 1), (447, 447, 1), (448, 448, 2), (895, 2000, 2), (896, 896, 4), (1792, 1800, 8),
     (9000, 9000, 8)],
)  # fmt: skip
def test_the_smallest_scale_that_leaves_enough_pixels(width: int, height: int, scale: int) -> None:
    """For 224 pixels: two a side from 448 on, four from 896, eight from 1792."""
    assert Region.of_box(3, 5, width, height, 224).scale() == scale


# -- JPEGs -----------------------------------------------------------------------------------------


@pytest.fixture
def photograph() -> Image.Image:
    """333 x 251, neither a multiple of a block; smooth, as its decoded versions are compared."""
    return noise(40, 30).resize((333, 251), Image.Resampling.BICUBIC)


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0", "grey", "CMYK"])
@pytest.mark.parametrize("scale", [1, 2, 4, 8])
def test_the_upper_rows_are_those_of_the_whole_to_the_bit(
    photograph, subsampling: str, scale: int
) -> None:
    """With Pillow's own decoding of the whole, at every DCT scale, for many heights."""
    mode = {"grey": "L", "CMYK": "CMYK"}.get(subsampling, "RGB")
    file = io.BytesIO()
    options = {} if mode == "L" else {"subsampling": subsampling if mode == "RGB" else "4:4:4"}
    photograph.convert(mode).save(file, "JPEG", quality=90, **options)

    def decode(rows: int | None) -> np.ndarray:
        stream = io.BytesIO(file.getvalue())
        picture = JpegImagePlugin.JpegImageFile(stream)
        if rows is not None:
            jpeg_rows.decode_only(picture, stream, rows, scale)
        picture.draft(None, (picture.width // scale, picture.height // scale))
        return np.asarray(picture)

    whole = decode(None)
    for rows in (1, 15, 16, 17, 31, 100, 127, 128, 129, 200):
        part = decode(rows)
        assert part.shape == whole.shape
        np.testing.assert_array_equal(part[: rows // scale], whole[: rows // scale])
    assert not decode(100)[-8 // scale :].any() or mode == "CMYK", "nothing was saved"


@pytest.mark.parametrize("kind", ["progressive", "restarts", "trailing bytes", "no end"])
def test_files_out_of_the_ordinary_are_decoded_whole(photograph, kind: str) -> None:
    file = io.BytesIO()
    options = {"progressive": True} if kind == "progressive" else {}
    if kind == "restarts":
        options["restart_marker_rows"] = 2
    photograph.save(file, "JPEG", **options)
    data = file.getvalue() + (b"\0" if kind == "trailing bytes" else b"")
    data = data[:-2] if kind == "no end" else data
    stream = io.BytesIO(data)
    picture = JpegImagePlugin.JpegImageFile(stream)
    before = picture.tile
    jpeg_rows.decode_only(picture, stream, 50)
    assert picture.tile == before
    assert stream.getvalue() == data


@pytest.mark.parametrize("size", [60, 8])
def test_no_row_is_missing_at_the_lower_edge(tmp_path, size: int) -> None:
    """Noise with halved chroma, boxes that end at every second row: the same to the bit."""
    noise(320, 240, seed=4).save(tmp_path / "a.jpg", quality=95, subsampling="4:2:0")
    whole = Image.fromarray(ImageReader().read(tmp_path / "a.jpg"))
    for bottom in range(60, 200, 2):
        region = Region.of_box(10, 5, 90, bottom - 5, size)
        choose = functools.partial(lambda region, size: region, region)
        part = ImageReader().read_region(tmp_path / "a.jpg", choose, smaller=False)
        np.testing.assert_array_equal(part, resized(whole, region), str(bottom))


def test_a_fault_far_below_the_region_is_found(tmp_path) -> None:
    """Pillow reads 64 KB at a time, and would stop before a marker for which it refuses a file."""
    path = tmp_path / "a.jpg"
    noise(800, 600, seed=5).save(path, quality=95)
    data = path.read_bytes()
    assert len(data) > 500_000
    path.write_bytes(data[:-100] + b"\xff\xd8" + data[-98:])
    with pytest.raises(DataError) as whole:
        ImageReader().read(path)
    with pytest.raises(DataError) as part:
        ImageReader().read_region(path, lambda size: Region.of_box(0, 0, 70, 60, 50))
    assert str(part.value) == str(whole.value)


def test_what_is_refused_and_fixed_is_the_same_as_of_whole_images(photograph, tmp_path) -> None:
    """Cut anywhere, bytes put in, changed or doubled: `read` and `read_region` agree on all."""
    file = io.BytesIO()
    photograph.save(file, "JPEG", quality=85)
    good = file.getvalue()
    start = good.index(b"\xff\xda")
    generator = np.random.default_rng(0)
    kinds: dict[str, list[bytes]] = {"cut": [], "changed": [], "marker": [], "end": []}
    for place in generator.integers(2, len(good), 25).tolist():
        kinds["cut"].append(good[:place])
    for place in generator.integers(2, len(good), 25).tolist():
        kinds["changed"].append(good[:place] + b"\x7f" + good[place + 1 :])
    for place in generator.integers(start + 12, len(good) - 2, 25).tolist():
        marker = bytes([0xFF, int(generator.choice([0xD8, 0xD9, 0xC2, 0xDA, 0xD0, 0xE5, 1]))])
        kinds["marker"].append(good[:place] + marker + good[place + 2 :])
    kinds["end"] = [
        good[:-2],
        good[:-1],
        good + b"\0\0",
        good + good,
        good[: len(good) // 2] + good,
    ]
    region = Region.of_box(20, 10, 100, 90, 64)
    outcomes: dict[str, set[str]] = {}
    for kind, files in kinds.items():
        for data in files:
            path = tmp_path / "a.jpg"
            path.write_bytes(data)
            whole, part = ImageReader(), ImageReader()
            try:
                expected = resized(Image.fromarray(whole.read(path)), region)
            except DataError as error:
                with pytest.raises(DataError) as caught:
                    part.read_region(path, lambda size: region)
                assert str(caught.value) == str(error)
                outcomes.setdefault(kind, set()).add("refused")
                continue
            np.testing.assert_array_equal(part.read_region(path, lambda size: region), expected)
            assert part.counts == whole.counts
            outcomes.setdefault(kind, set()).add("read")
    assert outcomes["cut"] == {"refused"}
    assert outcomes["changed"] == outcomes["marker"] == {"read", "refused"}
    assert "read" in outcomes["end"]


@pytest.mark.parametrize("exif", ["apply", "ignore"])
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("size", [40, 16])
def test_orientation_comes_before_the_region(
    photograph, tmp_path, make_exif, orientation: int, exif: str, size: int
) -> None:
    """At full size exact; decoded 4 times smaller (333 and 251 are no multiples) near by position.

    The picture is a ramp, so a part taken half a pixel off is off by more than the bound.
    """
    ramp = np.zeros((251, 333, 3), np.uint8)
    ramp[..., 0], ramp[..., 1] = np.arange(333) * 0.75, (np.arange(251) * 1.0)[:, None]
    path = tmp_path / "a.jpg"
    Image.fromarray(ramp).save(path, quality=100, subsampling=0, exif=make_exif(orientation))
    options = DataOptions(exif=exif)
    stored = Image.open(path)
    upright = ImageOps.exif_transpose(stored) if exif == "apply" else stored
    region = Region.of_box(60, 30, 80, 70, size)
    seen = []
    part = ImageReader(options).read_region(path, lambda size: seen.append(size) or region)
    assert seen == [upright.size]
    expected = upright.convert("RGB").resize(
        (size, size), Image.Resampling.BILINEAR, box=(60, 30, 140, 100)
    )
    assert region.scale() == (1 if size == 40 else 4)
    assert apart(part[2:-2, 2:-2], np.asarray(expected)[2:-2, 2:-2]) <= (2 if size == 40 else 3)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_smaller_and_whole_lie_over_each_other(tmp_path, make_exif, orientation: int) -> None:
    """A smooth picture whose sides are 8 n + 1: the odd row and column are where they belong."""
    wave = np.sin(np.arange(1001) / 25)
    values = 128 + 60 * wave[None, :801, None] * wave[:1001, None, None] * np.ones(3)
    path = tmp_path / "a.jpg"
    picture = Image.fromarray(values.astype(np.uint8))
    picture.save(path, quality=98, subsampling=0, exif=make_exif(orientation))
    reader = ImageReader()
    for size, scale in ((300, 2), (150, 4), (75, 8)):
        region = Region.of_box(100, 100, 600, 601, size)
        assert region.scale() == scale
        choose = functools.partial(lambda region, size: region, region)
        smaller = reader.read_region(path, choose)
        full = reader.read_region(path, choose, smaller=False)
        assert apart(smaller, full) <= 3


@pytest.mark.parametrize("name", ["a.png", "a.gif", "a.bmp", "a.webp", "a.tif"])
def test_other_formats_go_the_whole_way(photograph, tmp_path, name: str) -> None:
    photograph.save(tmp_path / name)
    region = Region.of_box(20, 10, 300, 240, 30)
    part = ImageReader().read_region(tmp_path / name, lambda size: region)
    whole = Image.fromarray(ImageReader().read(tmp_path / name))
    np.testing.assert_array_equal(part, resized(whole, region))


def test_sixteen_bits_grey_and_cmyk_are_read_as_in_whole_images(photograph, tmp_path) -> None:
    deep = np.asarray(photograph.convert("L")).astype(np.uint16) * 256
    Image.fromarray(deep).save(tmp_path / "deep.png")
    photograph.convert("L").save(tmp_path / "grey.jpg")
    photograph.convert("CMYK").save(tmp_path / "ink.jpg")
    region = Region.of_box(20, 10, 200, 180, 150)
    for name, count in (
        ("deep.png", "16 bits, high_byte"),
        ("grey.jpg", "grey"),
        ("ink.jpg", "CMYK"),
    ):
        reader = ImageReader(DataOptions(sixteen_bit="high_byte"))
        part = reader.read_region(tmp_path / name, lambda size: region)
        assert reader.counts[count] == 1
        whole = Image.fromarray(reader.read(tmp_path / name))
        np.testing.assert_array_equal(part, resized(whole, region))
    with pytest.raises(DataError, match=r"deep\.png has 16 bits"):
        ImageReader().read_region(tmp_path / "deep.png", lambda size: region)


def test_the_edges_of_an_axis_by_hand() -> None:
    """100 of 200 samples over 300 pixels, from the 20th on: pixels 30 to 180."""
    assert Axis(20 * 300, 300, 200, 100).edges == (30.0, 180.0)
    assert Region.of_resized((300, 150), (200, 100), 20, 10, 80).rows.edges == (15.0, 135.0)
