"""Crops by region against crops of whole images; workers and the cache change nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("detectron2")

from resdet import weights
from resdet.data.options import DataOptions
from resdet.data.order import Sample
from resdet.data.readers.class_folders import load_folder
from resdet.data.records import ClassificationSet
from resdet.pretrain import image_loading
from resdet.pretrain.augment import KINDS, TrainCrop, centre_crop
from resdet.pretrain.image_loading import Crops
from tests.support import children, trainings

CONFIG = trainings.classifier({
    "MODEL.PIXEL_MEAN": [60.0, 60.0, 60.0],
    "MODEL.PIXEL_STD": [50.0, 50.0, 50.0],
    "PRETRAIN": {"TRAIN": "data", "VAL": "", "CROP": 16, "JITTER": [18, 60], "SCALED_DECODE": "on"},
    "ENGINE.WORKERS": "auto",
    "SOLVER.IMS_PER_BATCH": 4,
    "SOLVER.BASE_LR": 0.05,
    "SOLVER.STEPS": [3],
})  # fmt: skip


def photographs(folder, side=(200, 160), number=6, **save):
    """Smooth pictures with edges, as JPEGs in two class folders."""
    generator = np.random.default_rng(0)
    for i in range(number):
        small = generator.integers(0, 256, (side[1] // 8, side[0] // 8, 3), dtype=np.uint8)
        picture = Image.fromarray(small).resize(side, Image.Resampling.BICUBIC)
        path = folder / "ab"[i % 2] / f"{i}.jpg"
        path.parent.mkdir(exist_ok=True, parents=True)
        picture.save(path, quality=90, **save)
    return load_folder(folder, name="made", options=DataOptions(cache=False))


def crop_of(kind, crop=64, jitter=(70, 110), color_std=0.1):
    return TrainCrop(kind, crop, jitter, True, color_std)


def both(images, crop, cache_mb=0.0):
    return [Crops(images, crop, 5, cache_mb, by_region=by_region) for by_region in (False, True)]


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return photographs(tmp_path_factory.mktemp("classes"))


@pytest.mark.parametrize("kind", KINDS)
def test_crops_by_region_are_those_of_whole_images_within_two_levels(images, kind):
    """The same draws: place, size, mirror and colour; 200 x 160 is decoded at full size for 64."""
    off, on = both(images, crop_of(kind, jitter=(90, 140)))
    for epoch in range(4):
        for index in range(len(images)):
            one, other = off[Sample(epoch, index)], on[Sample(epoch, index)]
            assert one[1:] == other[1:]
            assert one[0].shape == other[0].shape == (64, 64, 3)
            scale = 1
            if kind != "pad":
                region = on.crop.region(
                    (200, 160), image_loading.generator_for(5, Sample(epoch, index))
                )
                scale = region.scale()
            apart = np.abs(one[0].astype(int) - other[0].astype(int))
            assert apart.max() <= (2 if scale == 1 else 25), (epoch, index, scale)


@pytest.mark.parametrize("kind", ["paper", "area", "none"])
def test_smaller_decoded_crops_of_real_photographs_stay_in_the_stated_bound(shared_data, kind):
    """PRETRAIN.SCALED_DECODE: at most 6 levels in the mean of a crop, 1 to 2 over all."""
    files = sorted((shared_data / "imagenet_sample").glob("*/*.JPEG"))[::3]
    files += sorted((shared_data / "coco" / "val2017").glob("*.jpg"))[:20]
    labels = np.zeros(len(files), np.int64)
    data = ClassificationSet("real", labels, ("one",), tuple(map(str, files)))
    scales, apart = set(), []
    for crop, jitter in ((96, (110, 160)), (32, (36, 60))):
        off, on = both(data, TrainCrop(kind, crop, jitter, True, 0.0))
        for index in range(len(files)):
            sample = Sample(0, index)
            size = data.reader.read_size(files[index])
            scale = on.crop.region(size, image_loading.generator_for(5, sample)).scale()
            if scale > 1:
                difference = off[sample][0].astype(float) - on[sample][0].astype(float)
                scales.add(scale)
                apart.append(np.abs(difference).mean())
                assert abs(difference.mean()) < 1
    assert scales >= {2, 4, 8}
    assert max(apart) <= 6
    assert 0.1 < np.mean(apart) <= 2


def test_off_is_what_it_always_was_to_the_bit(images):
    """Resize, cut, mirror by numpy, colour in floats: written out here."""
    off, _ = both(images, crop_of("paper"))
    for index in range(len(images)):
        sample = Sample(2, index)
        generator = image_loading.generator_for(5, sample)
        image = images.read(index)
        side = int(generator.integers(70, 111))
        size = (round(200 * (side / 160)), side)
        image = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
        top = int(generator.integers(side - 63))
        left = int(generator.integers(size[0] - 63))
        image = image[top : top + 64, left : left + 64]
        if generator.random() < 0.5:
            image = image[:, ::-1]
        alpha = generator.normal(0.0, 0.1, 3) * np.array([0.2175, 0.0188, 0.0045])
        components = np.array(
            [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]]
        )
        image = np.clip(np.rint(image + components @ alpha * 255.0), 0, 255).astype(np.uint8)
        np.testing.assert_array_equal(off[sample][0], image)


@pytest.mark.parametrize("by_region", [False, True])
@pytest.mark.parametrize("cache_mb", [0, 0.25, 100])
def test_batches_do_not_depend_on_workers_or_the_cache(images, by_region, cache_mb):
    """Room for two images of six, or all, in 0, 1 and 2 workers, over two epochs."""
    crop = crop_of("area", crop=40)

    def batches(workers, cache):
        crops = Crops(images, crop, 5, cache, by_region=by_region)
        stream = image_loading.train_batches(
            crops, batch_size=4, seed=3, start=0, num_workers=workers
        )
        return [next(stream) for _ in range(3)]

    first = batches(0, cache_mb)
    for workers in (1, 2):
        for one, other in zip(first, batches(workers, cache_mb), strict=True):
            assert torch.equal(one[0], other[0]) and torch.equal(one[1], other[1])
            assert one[2] == other[2]
    again = Crops(images, crop, 5, cache_mb, by_region=by_region)
    last = Crops(images, crop, 5, cache_mb, by_region=by_region)
    order = [Sample(1, i) for i in range(6)]
    forward = [again[s][0] for s in order * 2]
    backward = [last[s][0] for s in order[::-1]][::-1]
    for one, other, third in zip(forward[:6], forward[6:], backward, strict=True):
        np.testing.assert_array_equal(one, other)
        np.testing.assert_array_equal(one, third)


def test_the_cache_holds_whole_images_and_no_more_than_its_room(images):
    """200 x 160 x 3 = 96,000 bytes each: 0.25 MB hold two."""
    crops = Crops(images, crop_of("area", crop=16), 5, 0.25, by_region=True)
    for index in range(6):
        crops[Sample(0, index)]
    assert [image.shape for image in crops._kept.values()] == [(160, 200, 3)] * 2


def test_workers_share_the_room_of_the_cache(images, monkeypatch):
    """Half of 0.25 MB holds one."""
    info = type("Info", (), {"num_workers": 2})()
    monkeypatch.setattr(torch.utils.data, "get_worker_info", lambda: info)
    crops = Crops(images, crop_of("area"), 5, 0.25)
    for index in range(6):
        crops[Sample(0, index)]
    assert len(crops._kept) == 1


def test_images_in_memory_have_crops_by_region_too(images):
    stack = np.stack([images.read(i) for i in range(6)])
    in_memory = ClassificationSet("memory", images.labels, images.classes, images=stack)
    off, on = both(in_memory, crop_of("area"))
    for index in range(6):
        apart = off[Sample(0, index)][0].astype(int) - on[Sample(0, index)][0]
        assert np.abs(apart).max() <= 2


def test_test_crops_are_of_whole_images(images):
    """By number there is no region, whatever the key is."""

    def crop(image, generator):
        return centre_crop(image, 70, 64)

    on = Crops(images, crop, by_region=True)
    np.testing.assert_array_equal(on[3][0], centre_crop(images.read(3), 70, 64))


def test_a_training_with_the_keys_on_is_the_same_with_any_workers(tmp_path):
    """ENGINE.WORKERS auto against two, to the bit; the card keeps SCALED_DECODE."""
    photographs(tmp_path / "data")
    (tmp_path / "c.yaml").write_text(CONFIG, encoding="utf-8")
    off = ["ENGINE.WORKERS", "off", "DATALOADER.NUM_WORKERS", "2"]
    found = []
    for name, keys in (("one", []), ("two", off)):
        done = children.run_cli(
            "pretrain_cls", "--config", "c.yaml", "--output", name, *keys, cwd=tmp_path
        )
        assert done.returncode == 0, done.stderr
        found.append(weights.load(tmp_path / name / "model.safetensors"))
    (one, card), (two, _) = found
    assert all(torch.equal(one[k], two[k]) for k in one)
    assert "SCALED_DECODE: 'on'" in card.config
