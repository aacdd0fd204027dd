"""The mean image: exact, subtracted before padding, in the card, refused where there is none."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("detectron2")

from resdet.config import get_cfg
from resdet.data.readers.class_folders import load_folder
from resdet.data.records import ClassificationSet
from resdet.detect.architecture import derived_keys
from resdet.engine.speed.precision import Precision
from resdet.errors import ConfigError, DataError, WeightsError
from resdet.pretrain.augment import TrainCrop, centre_crop, resize_shorter
from resdet.pretrain.image_loading import Crops, collate
from resdet.pretrain.recipe.mean_image import MeanImage, mean_image_of, require_square
from resdet.pretrain.set_scores import Preparation
from resdet.weights import Card, Input


def pictures(number=2500, side=4):
    return np.random.default_rng(0).integers(0, 256, (number, side, side, 3), dtype=np.uint8)


def in_memory(images):
    return ClassificationSet("made up", np.zeros(len(images), np.int64), ("a",), images=images)


def test_it_is_the_exact_mean_rounded_once():
    """Beyond one block of a thousand images; numpy's mean in double."""
    images = pictures()
    found = mean_image_of(in_memory(images), 4)
    assert found.dtype == np.float32
    assert np.array_equal(found, images.mean(0, dtype=np.float64).astype(np.float32))


def test_files_give_the_same_as_memory(tmp_path):
    images = pictures(6)
    (tmp_path / "a").mkdir()
    for number, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / "a" / f"{number}.png")
    found = mean_image_of(load_folder(tmp_path, name="set"), 4)
    assert np.array_equal(found, mean_image_of(in_memory(images), 4))


def test_an_image_of_another_size_is_named(tmp_path):
    (tmp_path / "a").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "a" / "0.png")
    Image.new("RGB", (6, 5)).save(tmp_path / "a" / "1.png")
    with pytest.raises(ConfigError, match=r"of set a/1.png has 6 x 5 pixels, not 4 x 4"):
        mean_image_of(load_folder(tmp_path, name="set"), 4)
    with pytest.raises(ConfigError, match=r"its images has 4 x 4 pixels, not 8 x 8"):
        mean_image_of(in_memory(pictures(2)), 8)


def test_it_is_subtracted_before_padding_crop_and_mirror():
    """Section 4.2: around a centred image the padding is 0. A crop is the place that fits it."""
    images = pictures(3)
    mean = mean_image_of(in_memory(images), 4)
    crop = TrainCrop("pad", 4, (1, 1), True, 0.0, mean_image=MeanImage(mean))
    padded = np.pad(images[0] - mean, ((4, 4), (4, 4), (0, 0)))
    windows = {}
    for top in range(9):
        for left in range(9):
            window = padded[top : top + 4, left : left + 4]
            windows[window.tobytes()] = True
            windows[np.ascontiguousarray(window[:, ::-1]).tobytes()] = True
    for seed in range(50):
        found = crop(images[0], np.random.default_rng(seed))
        assert found.dtype == np.float32
        assert np.ascontiguousarray(found).tobytes() in windows


@pytest.mark.parametrize("order", ["RGB", "BGR"])
def test_training_and_test_have_one_input(order):
    """Subtracted in RGB, divided in the net's colour order; a card turns its own into RGB."""
    images = pictures(5)
    mean = mean_image_of(in_memory(images), 4)
    cfg = get_cfg()
    cfg.merge_from_list(["INPUT.FORMAT", order, "MODEL.PIXEL_STD", [1.0, 2.0, 4.0]])
    cfg.MODEL.DEVICE = "cpu"
    theirs = mean if order == "RGB" else mean[:, :, ::-1]
    in_card = MeanImage.of_input(Input.of_mean_image(order, theirs, (1.0, 2.0, 4.0)))
    prepare = Preparation(cfg, Precision())
    crop = TrainCrop("none", 4, (1, 1), False, 0.0, mean_image=MeanImage(mean))
    trained = Crops(in_memory(images), lambda image, _: crop(image, np.random.default_rng(0)))
    tested = Crops(in_memory(images), lambda image, _: centre_crop(image, 4, 4, in_card))
    one, other = (prepare(collate([crops[i] for i in range(5)])[0]) for crops in (trained, tested))
    assert torch.equal(one, other)
    centred = images.astype(np.float64) - images.mean(0, dtype=np.float64)
    centred = centred if order == "RGB" else centred[..., ::-1]
    expected = torch.from_numpy(centred / np.array([1.0, 2.0, 4.0])).permute(0, 3, 1, 2)
    torch.testing.assert_close(one.double(), expected, rtol=0, atol=3e-5)


def test_of_a_resized_image_the_resized_mean_image_is_subtracted():
    """Pillow resizes the centred image in float: the same but for the rounding to whole values."""
    images = pictures(4, side=12)
    mean = mean_image_of(in_memory(images), 12)
    ours = MeanImage(mean)
    for side in (8, 12, 30):
        for image in images:
            centred = (image - mean).transpose(2, 0, 1)
            expected = [
                Image.fromarray(np.ascontiguousarray(c)).resize((side, side), Image.BILINEAR)
                for c in centred
            ]
            found = ours.taken_from(resize_shorter(image, side))
            assert found.dtype == np.float32
            # Half of one for the image, and as much again for Pillow's first pass.
            assert np.abs(found - np.stack(expected, axis=2)).max() < 1.01


def test_an_image_that_is_not_square_is_named_before_a_test(tmp_path):
    (tmp_path / "a").mkdir()
    Image.new("RGB", (7, 7)).save(tmp_path / "a" / "0.png")
    require_square(load_folder(tmp_path, name="set"))
    Image.new("RGB", (6, 5)).save(tmp_path / "a" / "1.png")
    with pytest.raises(DataError, match=r"set, a/1.png: 6 x 5 pixels, .* square images"):
        require_square(load_folder(tmp_path, name="set"))
    require_square(in_memory(pictures(2)))
    with pytest.raises(DataError, match=r"record 0: 3 x 4 pixels"):
        require_square(in_memory(pictures(2)[:, :, :3]))


# -- in a card -----------------------------------------------------------------------------------


def card_with(order="RGB"):
    mean = mean_image_of(in_memory(pictures()), 4)
    return Card("cifar_resnet20", Input.of_mean_image(order, mean, (1.0, 1.0, 1.0))), mean


def test_a_card_keeps_it_to_the_bit():
    card, mean = card_with()
    again = Card.from_json(card.to_json(), "here")
    assert again == card
    assert np.array_equal(again.input.mean_image_array(), mean)
    assert again.input.size == 4
    np.testing.assert_allclose(again.input.mean, mean.mean((0, 1), dtype=np.float64), rtol=1e-12)


def test_a_card_without_one_is_as_before():
    card = Card("resnet18", Input("RGB", (1.0, 2.0, 3.0), (1.0, 1.0, 1.0)))
    assert "mean_image" not in json.loads(card.to_json())["input"]
    assert card.input.mean_image_array() is None


@pytest.mark.parametrize("text", ["A", "AAAA", "!!!!"])
def test_a_card_with_a_broken_one_is_refused(text):
    values = card_with()[0].to_dict()
    values["input"]["mean_image"] = text
    with pytest.raises(WeightsError, match="mean_image is not base64 of 4 x 4 x 3 float32 values"):
        Card.from_json(json.dumps(values), "here")


def test_in_the_other_colour_order_it_is_turned():
    card, mean = card_with()
    turned = card.input.turned()
    assert (turned.color_order, turned.mean) == ("BGR", tuple(reversed(card.input.mean)))
    assert np.array_equal(turned.mean_image_array(), mean[:, :, ::-1])
    assert turned.turned() == card.input
    plain = Input("BGR", (1.0, 2.0, 3.0), (4.0, 5.0, 6.0), 64, "ignore")
    assert plain.turned() == dataclasses.replace(
        plain, color_order="RGB", mean=(3.0, 2.0, 1.0), std=(6.0, 5.0, 4.0)
    )


def test_a_detector_takes_its_mean_per_channel_and_states_it():
    """As Detectron2 does with He et al.'s weights, which were trained with a mean image."""
    card, mean = card_with()
    facts = derived_keys.of_card(card)
    np.testing.assert_allclose(facts["MODEL.PIXEL_MEAN"], mean.mean((0, 1)), rtol=1e-6)
    note = derived_keys.mean_image_left_out(card)
    assert "mean for each pixel of 4 x 4" in note and f"({card.input.mean[0]:.3f}, " in note
    plain = dataclasses.replace(card, input=dataclasses.replace(card.input, mean_image=""))
    assert derived_keys.mean_image_left_out(plain) == ""
