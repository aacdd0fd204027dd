"""The painted digits: draws, material, splits, boxes, and the published pictures."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import pytest

from resdet.data import digits
from resdet.data.digits import sources, splits
from resdet.data.digits.manifest import unit_hash
from resdet.data.digits.material import DIGITS, PHOTOS
from resdet.data.digits.painting.canvas import blend
from resdet.data.digits.painting.draws import Draws
from resdet.data.digits.painting.glyphs import (
    MASK_SIZE,
    digit_glyphs,
    place_glyph,
    stroke_glyphs,
    tight_box,
)
from resdet.data.digits.painting.painter import CROP_SIZE, HIDDEN_LIMIT, SCENE_SIZE, paint_scene
from resdet.data.digits.worker import Studio, digest, image_id
from resdet.errors import DataError

# unit_hash of the first pictures of each unit: 40 crops and 20 scenes.
FIRST_PICTURES = {
    "crops_train": "5fd54da09b37ae4e87f6f5f5d19a32d34c6373fd47c8a6919ed2f89a38d202ea",
    "crops_val": "8be0a3a0fba69e6d09d9f70bba9de3750a9abdce0cab1b5fed7a4e7182d43f91",
    "crops_test": "20ce34e7c2cb371cad7c6de31ec6dbab8302af5b6df1a1c10041b75c865145c4",
    "scenes_train": "099001b8c1ffde512fa8617a682d46c58f422bc3635cb3f1eefbac4a4dd82c6b",
    "scenes_val": "0ca94a2e4b12cebf4877f2c0098a5934e381ca1bf2c6bb089c359963fdfb5a42",
    "scenes_test": "1d70df0a7ca761ccee6f7a1fcb6f6a18d296b9730ebe2b51bbcc5b3350aaa3c2",
}


@pytest.fixture(scope="module")
def material() -> sources.Sources:
    return sources.read()


@pytest.fixture(scope="module")
def studio(material: sources.Sources) -> Studio:
    return Studio(material)


@pytest.fixture(scope="module")
def scenes(studio: Studio) -> list:
    """150 test scenes, as the painter gives them."""
    return [paint_scene(Draws(7, i), studio.material["test"]) for i in range(150)]


# -- draws -------------------------------------------------------------------------------------


def test_draws_repeat_and_differ_by_name():
    """Property of a seeded stream."""
    assert [Draws(1, 2).below(1000) for _ in range(3)] == [Draws(1, 2).below(1000)] * 3
    assert Draws(1, 2).uniform() != Draws(1, 3).uniform()


def test_the_stream_of_words_is_the_known_one():
    """NumPy promises the raw stream of PCG64 and SeedSequence; values of NumPy 2.4."""
    draws = Draws(1, 2, 3)
    assert [draws.below(1 << 31) for _ in range(3)] == [1586935652, 1922658867, 1884392623]


def test_integers_cover_their_range_evenly():
    """10,000 draws of 10 values: 1,000 each, five standard deviations are 150."""
    draws = Draws(5)
    counts = np.bincount([draws.between(3, 12) for _ in range(10_000)], minlength=13)
    assert counts[:3].sum() == 0
    assert np.abs(counts[3:] - 1000).max() < 150


@pytest.mark.parametrize("sigma", [0.0, 0.5, 3.0, 8.0])
def test_noise_has_the_mean_and_spread_asked_for(sigma: float):
    """Rounding to integers adds 1/12 to the variance, once it spreads over several levels."""
    noise = Draws(6).noise((300, 301, 3), sigma)
    assert noise.shape == (300, 301, 3)
    assert abs(noise.mean()) < 0.05
    expected = math.sqrt(sigma**2 + 1 / 12) if sigma else 0.0
    assert noise.std() == pytest.approx(expected, abs=0.05)


def test_a_permutation_holds_every_number_once():
    assert sorted(Draws(9).permutation(50)) == list(range(50))


# -- material and splits -----------------------------------------------------------------------


def test_all_material_is_there_and_decodes_as_published(material: sources.Sources):
    """Counts: 18 photographs and the 1,797 digits of scikit-learn."""
    assert material.digits.shape == (1797, 8, 8) and material.digits.max() == 16
    assert len(PHOTOS) == len(material.photos) == 18
    assert material.differing == ()


def test_no_digit_lies_in_two_splits(material: sources.Sources):
    """1,000, 200 and 597 by index, and no two digits with equal pixels."""
    parts = {split: splits.digit_indices(split) for split in splits.SPLITS}
    assert [len(part) for part in parts.values()] == [1000, 200, 597]
    assert sorted(i for part in parts.values() for i in part) == list(range(1797))
    assert len(np.unique(material.digits.reshape(1797, 64), axis=0)) == 1797


def test_every_split_has_every_digit_class(material: sources.Sources):
    for split in splits.SPLITS:
        assert set(material.labels[splits.digit_indices(split)]) == set(range(10))


def test_photo_regions_of_the_splits_share_no_pixel(material: sources.Sources):
    """36, 18 and 18 regions; each pixel of each photograph is counted once."""
    regions = {split: splits.photo_regions(split, material) for split in splits.SPLITS}
    assert [len(r) for r in regions.values()] == [36, 18, 18]
    for photo in PHOTOS:
        boxes = [r.box for part in regions.values() for r in part if r.photo == photo.name]
        assert len(boxes) == 4
        right, bottom = max(b[2] for b in boxes), max(b[3] for b in boxes)
        seen = np.zeros((bottom, right), int)
        for x0, y0, x1, y1 in boxes:
            seen[y0:y1, x0:x1] += 1
        assert (seen == 1).all()


def test_every_split_sees_every_photograph_in_at_least_150_pixels(material: sources.Sources):
    for split in splits.SPLITS:
        regions = splits.photo_regions(split, material)
        assert {r.photo for r in regions} == {p.name for p in PHOTOS}
        assert min(min(r.image.shape[:2]) for r in regions) >= 150


def test_shrinking_keeps_flat_areas_and_the_mean():
    """Worked by hand: 5 x 5 pixels become 3 x 3, each the mean of 5/3 x 5/3."""
    flat = np.full((10, 15, 3), 77, np.uint8)
    np.testing.assert_array_equal(splits.shrink_to_60_percent(flat), np.full((6, 9, 3), 77))
    column = np.zeros((5, 5, 3), np.uint8)
    column[:, 1] = 250  # a third of it belongs to the second column, two thirds to the first
    np.testing.assert_array_equal(
        splits.shrink_to_60_percent(column)[0, :, 0], [250 * 2 / 5, 250 / 5, 0]
    )


def test_a_missing_package_is_named_with_what_to_type(monkeypatch: pytest.MonkeyPatch):
    """The page names which file of which wheel, and the extra to install."""
    found = sources._package_folder
    monkeypatch.setattr(
        sources, "_package_folder", lambda name: None if name == "skimage" else found(name)
    )
    with pytest.raises(DataError, match=r"15 of 19 are missing") as error:
        sources.locate()
    assert "data/astronaut.png of scikit-image: not installed" in str(error.value)
    assert 'pip install "resdet[demo]"' in str(error.value)


def test_another_file_under_a_known_name_is_refused(tmp_path, monkeypatch: pytest.MonkeyPatch):
    """Neither its bytes nor its pixels are those of the picture that the set was made from."""
    from PIL import Image

    Image.new("RGB", (512, 512)).save(tmp_path / "astronaut.png")
    paths = sources.locate() | {"astronaut.png": tmp_path / "astronaut.png"}
    monkeypatch.setattr(sources, "locate", lambda: paths)
    with pytest.raises(DataError, match=r"astronaut.png is another file than"):
        sources.read()


def test_another_decoder_is_noted_and_stops_nothing(monkeypatch: pytest.MonkeyPatch):
    """The file is the known one, its pixels are not: retina.jpg read one level brighter."""
    read_photo = sources._read_photo

    def brighter(path):
        image = read_photo(path)
        return image | 1 if path.name == "retina.jpg" else image

    monkeypatch.setattr(sources, "_read_photo", brighter)
    assert sources.read().differing == ("retina.jpg",)


def test_sources_name_every_file_and_licence():
    for source in (DIGITS, *PHOTOS):
        assert source.name in digits.SOURCES and source.licence and source.credit in digits.SOURCES
    assert "CC BY 2.0" in digits.SOURCES


# -- glyphs ------------------------------------------------------------------------------------


def test_an_unturned_glyph_is_the_enlarged_digit(material: sources.Sources):
    """At full size, without turn, shear or stretch, the mask comes back, cut tight."""
    glyph = digit_glyphs(material.digits[:1], material.labels[:1])[0]
    mask = glyph.pyramid[0][1:-1, 1:-1]
    assert mask.shape == (MASK_SIZE, MASK_SIZE)
    x0, y0, x1, y1 = tight_box(mask >= 128)
    placed = place_glyph(glyph, max(x1 - x0, y1 - y0), degrees=0, shear=0, stretch=1)
    assert placed.shape == (y1 - y0, x1 - x0)
    assert np.abs(placed.astype(int) - mask[y0:y1, x0:x1]).max() <= 1


@pytest.mark.parametrize("longer_side", [8, 16, 23.5, 40, 56])
def test_a_placed_glyph_has_the_size_asked_for(longer_side: float, material: sources.Sources):
    """Within a pixel of rounding and half a pixel of blur at either end.

    Thin strokes, which are distractors only, may fade to a pixel at 8; digits never do.
    """
    glyphs = digit_glyphs(material.digits[:60], material.labels[:60])
    strokes = stroke_glyphs()[::5] if longer_side >= 16 else []
    for i, glyph in enumerate([*glyphs, *strokes]):
        mask = place_glyph(glyph, longer_side, degrees=i % 51 - 25, shear=0.2, stretch=0.9)
        assert abs(max(mask.shape) - longer_side) <= 2.5, i


def test_a_quarter_turn_of_an_upright_stroke_lies_flat():
    """The letter L, 80 % as wide as high, turned by 90 degrees."""
    letter_l = stroke_glyphs()[15]
    upright = place_glyph(letter_l, 40, degrees=0, shear=0, stretch=1)
    turned = place_glyph(letter_l, 40, degrees=90, shear=0, stretch=1)
    assert np.abs(np.rot90(upright).astype(int) - turned).max() <= 1


def test_blending_reaches_both_ends_exactly():
    """Alpha 0 keeps the canvas, 255 gives the colour, without a rounding error."""
    canvas = np.full((1, 3, 3), 200, np.int32)
    blend(canvas, np.array([[0, 255, 128]]), np.array([10, 20, 30]))
    assert canvas[0, 0].tolist() == [200] * 3 and canvas[0, 1].tolist() == [10, 20, 30]
    assert canvas[0, 2].tolist() == [104, 109, 114]


# -- scenes and crops --------------------------------------------------------------------------


def test_boxes_are_tight_around_visible_pixels(scenes: list):
    """Of a digit that nothing hides, every side of the box touches its pixels."""
    whole = 0
    for scene in scenes:
        for digit in scene.digits:
            x0, y0, x1, y1 = digit.box
            assert 0 <= x0 < x1 <= SCENE_SIZE and 0 <= y0 < y1 <= SCENE_SIZE
            vx0, vy0, vx1, vy1 = tight_box(digit.visible)
            assert vx0 >= x0 and vy0 >= y0 and vx1 <= x1 and vy1 <= y1
            if digit.hidden == 0:
                whole += 1
                assert (vx0, vy0, vx1, vy1) == digit.box
    assert whole > 200


def test_scenes_are_hard_in_the_ways_promised(scenes: list):
    """3.5 digits a scene, a quarter occluded; some difficult, some cut."""
    single = [d for s in scenes for d in s.digits if not d.in_crowd]
    assert 3.0 < len(single) / len(scenes) < 3.9
    share = {
        "occluded": np.mean([d.hidden > 0.13 for d in single]),
        "difficult": np.mean([d.is_difficult for d in single]),
        "truncated": np.mean([d.is_truncated for d in single]),
        "small": np.mean([max(d.box[2] - d.box[0], d.box[3] - d.box[1]) < 24 for d in single]),
    }
    assert 0.2 < share["occluded"] < 0.35, share
    assert 0.02 < share["difficult"] < 0.12, share
    assert 0.02 < share["truncated"] < 0.12, share
    assert 0.2 < share["small"] < 0.5, share


def test_cut_digits_touch_the_border_and_whole_ones_are_marked_whole(scenes: list):
    cut = [d for s in scenes for d in s.digits if d.is_truncated]
    assert cut
    assert all(0 in d.box[:2] or SCENE_SIZE in d.box[2:] for d in cut)


def test_hidden_digits_are_difficult_and_none_is_hidden_wholly(scenes: list):
    for digit in (d for s in scenes for d in s.digits):
        assert digit.hidden <= HIDDEN_LIMIT
        assert digit.is_difficult or digit.hidden < 0.35


def test_no_pixel_is_visible_in_two_digits(scenes: list):
    for scene in scenes:
        total = sum(d.visible.astype(int) for d in scene.digits)
        assert np.max(total) <= 1


def test_a_crop_does_not_depend_on_what_was_painted_before(studio: Studio):
    """Each picture has its own stream: number 5 alone is number 5 in a row."""
    in_a_row = [studio.crop("train", i) for i in range(6)][5]
    alone = studio.crop("train", 5)
    np.testing.assert_array_equal(in_a_row[0], alone[0])
    assert in_a_row[1] == alone[1]


def test_crops_hold_all_classes_about_equally(studio: Studio):
    """300 crops of ten classes: 30 each; 8 to 60 is over four standard deviations wide."""
    labels = [studio.crop("val", i)[1] for i in range(300)]
    assert np.bincount(labels, minlength=10).min() >= 8
    assert np.bincount(labels).max() <= 60


def test_pictures_are_uint8_rgb_of_the_stated_size(studio: Studio):
    image, label = studio.crop("test", 0)
    scene, _ = studio.scene("test", 0, "000001")
    assert (image.shape, image.dtype) == ((CROP_SIZE, CROP_SIZE, 3), np.uint8)
    assert (scene.shape, scene.dtype) == ((SCENE_SIZE, SCENE_SIZE, 3), np.uint8)
    assert 0 <= label <= 9


@pytest.mark.parametrize("unit", FIRST_PICTURES)
def test_first_pictures_are_the_published_ones(unit: str, studio: Studio):
    """Hashes of pixels before encoding and of annotations: equal on every machine."""
    kind, split = unit.split("_")
    found = {}
    for i in range(40 if kind == "crops" else 20):
        picture = (
            studio.crop(split, i)
            if kind == "crops"
            else studio.scene(split, i, image_id(split, i, digits.SIZES))
        )
        found[i] = digest(*picture)
    assert unit_hash(found) == FIRST_PICTURES[unit]


def test_digest_sees_pixels_and_annotations():
    image = np.zeros((2, 2, 3), np.uint8)
    other = image.copy()
    other[0, 0, 0] = 1
    assert len({digest(image, 1), digest(image, 2), digest(other, 1)}) == 3
    assert digest(image, 1) == hashlib.sha256(b"[[2,2,3],1]" + bytes(12)).hexdigest()
