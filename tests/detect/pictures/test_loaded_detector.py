"""The Python twin of `resdet detect`: the run's results and Pillow's decoding are the source."""

import io
import json

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("detectron2")

import resdet
from resdet.errors import ConfigError, DataError
from resdet.run.folder import Run
from tests.support import detector_runs
from tests.support.detector_runs import IMAGES, SET


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return detector_runs.train(tmp_path_factory.mktemp("pictures"), "run")


@pytest.fixture(scope="module")
def detector(run):
    return resdet.load_detector(run, device="cpu")


def same(a, b):
    return (
        np.array_equal(a.boxes, b.boxes)
        and np.array_equal(a.scores, b.scores)
        and (a.names, a.width, a.height) == (b.names, b.width, b.height)
    )


def test_boxes_of_a_file_are_those_of_the_run_to_the_bit(run, detector):
    """By class name and corners, from coco_instances_results.json; the twin sorts by score."""
    path = Run.open(run).results(SET) / "coco_instances_results.json"
    results = json.loads(path.read_text(encoding="utf-8"))
    for image_id, size in IMAGES.items():
        found = detector(run.parent / "voc" / "JPEGImages" / f"{image_id}.jpg")
        assert (found.width, found.height) == size and len(found) > 5
        boxes = found.boxes.astype(np.float64)
        boxes[:, 2:] -= boxes[:, :2]
        ours = [
            (("ape", "bee").index(name) + 1, box, score)
            for name, box, score in zip(
                found.names, boxes.tolist(), found.scores.astype(np.float64).tolist(), strict=True
            )
        ]
        own = [r for r in results if r["image_id"] == image_id]
        key = lambda r: -r["score"]  # noqa: E731 stable, as the twin sorts
        assert ours == [(r["category_id"], r["bbox"], r["score"]) for r in sorted(own, key=key)]


def test_a_path_an_image_and_an_array_give_the_same(run, detector):
    path = run.parent / "voc" / "JPEGImages" / "000004.jpg"
    array = np.asarray(Image.open(path))
    by_path = detector(path)
    found = detector(
        [str(path), Image.open(path), np.ascontiguousarray(array[:, :, ::-1])], order="BGR"
    )
    assert len(found) == 3 and all(same(by_path, each) for each in found)
    assert same(by_path, detector(array, order="RGB"))
    assert not same(by_path, detector(array, order="BGR"))


def made(folder):
    """Files of the kinds that phones and scanners leave, by name."""
    generator = np.random.default_rng(0)
    picture = Image.fromarray(generator.integers(0, 256, (48, 80, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.save(folder / "turned.jpg", exif=exif)
    picture.convert("CMYK").save(folder / "cmyk.jpg")
    picture.convert("L").save(folder / "grey.png")
    picture.quantize(32).save(folder / "palette.gif")
    picture.save(folder / "turned.tiff", exif=exif)
    picture.save(folder / "plain.webp", lossless=True)
    clear = picture.copy()
    clear.putalpha(Image.linear_gradient("L").resize(picture.size))
    clear.save(folder / "alpha.png")
    return picture


def test_an_open_picture_is_read_by_the_rules_of_files(detector, tmp_path):
    """Seven kinds of file, each by path and through Pillow; EXIF turns 80x48 into 48x80."""
    made(tmp_path)
    files = sorted(tmp_path.iterdir())
    assert len(files) == 7
    for path in files:
        by_path = detector(path)
        with Image.open(path) as picture:
            assert same(by_path, detector(picture)), path.name
        turned = path.stem == "turned"
        assert (by_path.width, by_path.height) == ((48, 80) if turned else (80, 48))


def test_sixteen_bits_are_refused_and_accepted_by_key(run, detector, tmp_path):
    values = np.arange(48 * 80, dtype=np.uint16).reshape(48, 80) * 16
    Image.fromarray(values).save(tmp_path / "scan.png")
    for picture in (tmp_path / "scan.png", Image.open(tmp_path / "scan.png")):
        with pytest.raises(DataError, match=r"scan\.png has 16 bits per channel.*high_byte"):
            detector(picture)
    accepting = resdet.load_detector(run, device="cpu", keys=("INPUT.SIXTEEN_BIT", "high_byte"))
    expected = accepting((values // 256).astype(np.uint8))
    assert same(accepting(tmp_path / "scan.png"), expected)
    assert same(accepting(Image.open(tmp_path / "scan.png")), expected)
    assert accepting.built.changed == {"INPUT.SIXTEEN_BIT": ("refuse", "high_byte")}


def test_score_and_top_leave_the_best(run, detector):
    path = run.parent / "voc" / "JPEGImages" / "000005.jpg"
    whole = detector(path)
    assert (np.diff(whole.scores) <= 0).all()
    threshold = float(np.median(whole.scores))
    kept = detector(path, score=threshold)
    assert 0 < len(kept) < len(whole) and kept.scores.min() >= threshold
    assert np.array_equal(detector(path, top=3).boxes, whole.boxes[:3])


@pytest.mark.parametrize(
    ("picture", "error", "page"),
    [
        (np.zeros((8, 8, 3)), TypeError, "picture 1 has type float64, expected uint8"),
        (np.zeros((8, 8, 4), np.uint8), ValueError, r"picture 1 has shape \(8, 8, 4\)"),
        (np.zeros((0, 8), np.uint8), ValueError, r"has shape \(0, 8\)"),
        (np.zeros((8, 8, 3), np.uint8), ValueError, "order is '', expected 'RGB', or 'BGR'"),
        (7, TypeError, "picture 1 is a int, expected a path"),
        ("gone.jpg", DataError, "gone.jpg does not exist"),
    ],
)
def test_what_is_no_picture_is_named(detector, picture, error, page):
    with pytest.raises(error, match=page):
        detector([np.zeros((8, 8), np.uint8), picture])


@pytest.mark.parametrize(
    ("shape", "page"),
    [((3, 8, 8), "channels last"), ((1, 8, 8, 3), "pictures as a list"), ((8, 8, 4), "drop the")],
)
def test_the_shape_of_an_array_is_told_what_it_looks_like(detector, shape, page):
    with pytest.raises(ValueError, match=page):
        detector(np.zeros(shape, np.uint8), order="RGB")


@pytest.mark.parametrize(
    ("given", "page"),
    [
        (None, "a NoneType was given, expected a path"),
        (b"bytes", "a bytes was given.*io.BytesIO"),
        (io.BytesIO(b"bytes"), "a BytesIO was given.*PIL.Image.open"),
    ],
)
def test_what_is_no_picture_and_no_list_is_told(detector, given, page):
    with pytest.raises(TypeError, match=page):
        detector(given)


@pytest.mark.parametrize(("score", "error"), [(50, ValueError), ("0.5", TypeError)])
def test_a_score_that_is_none_is_refused(detector, score, error):
    """50 left nothing, in silence."""
    with pytest.raises(error, match="score is .*0 to 1"):
        detector(np.zeros((8, 8), np.uint8), score=score)


def test_keys_are_pairs_or_a_mapping(run):
    by_mapping = resdet.load_detector(run, device="cpu", keys={"INPUT.SIXTEEN_BIT": "high_byte"})
    assert by_mapping.built.changed == {"INPUT.SIXTEEN_BIT": ("refuse", "high_byte")}
    with pytest.raises(ConfigError, match="keys has 1 entries, the last 'INPUT.SIXTEEN_BIT'"):
        resdet.load_detector(run, device="cpu", keys=("INPUT.SIXTEEN_BIT",))


def test_the_device_is_an_argument_of_its_own(run):
    with pytest.raises(ConfigError, match="give the argument device"):
        resdet.load_detector(run, keys=("MODEL.DEVICE", "cpu"))
