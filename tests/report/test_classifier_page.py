"""The page of a classifier: everything inside, names escaped, drawings that fit any number of
classes."""

from __future__ import annotations

import base64
import io
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("jinja2")

from resdet.evaluation.classification.classifier_result import evaluated
from resdet.evaluation.classification.score_files import ClassScores, save_scores
from resdet.report.render.charts import standalone
from resdet.report.render.classifier_page import (
    THUMBNAIL,
    WrongImage,
    classifier_html,
    thumbnail,
)
from resdet.report.render.confusion_chart import NAMED, NUMBERED, confusion_chart

EVIL = "<script>alert(1)</script>"


def saved(path: Path, seed: int, classes: tuple[str, ...], labelled: bool = True) -> Path:
    values = np.random.default_rng(seed).normal(size=(12, len(classes)))
    logs = values - np.log(np.exp(values).sum(axis=1, keepdims=True))
    labels = np.arange(12) % len(classes) if labelled else np.full(12, -1)
    images = tuple(f"{EVIL}/{n}" for n in range(12))
    net = {"title": f"net & {seed}", "name": "resnet18"}
    save_scores(path, ClassScores(logs.astype(np.float32), labels, images, classes, EVIL, "h", net))
    return path


def test_the_page_is_whole_and_names_are_escaped(tmp_path: Path) -> None:
    """Tags in names of classes, images and sets; no address is asked for."""
    classes = ("a & b", EVIL, "c")
    paths = [saved(tmp_path / f"{s}.npz", s, classes) for s in (0, 1)]
    result = evaluated(["one", EVIL], paths)
    picture = thumbnail(np.zeros((8, 4, 3), np.uint8))
    wrong = [WrongImage(EVIL, EVIL, 0.25, 1, (("c", 0.5), (EVIL, 0.25)), picture)]
    text = classifier_html(result, wrong)
    assert "<script" not in text and "&lt;script&gt;" in text
    assert not re.findall(r'(?:src|href)="(?!data:)', text) and "http" not in text
    for words in ("ensemble of 2", "McNemar", "top-1 error", "taken for", "1 of "):
        assert words in text


def test_without_labels_there_is_no_page(tmp_path: Path) -> None:
    result = evaluated(["one"], [saved(tmp_path / "s.npz", 0, ("a", "b"), labelled=False)])
    with pytest.raises(ValueError, match="no labels"):
        classifier_html(result, [])


@pytest.mark.parametrize(("shape", "kind"), [((32, 32, 3), "png"), ((375, 500, 3), "jpeg")])
def test_small_images_keep_their_pixels(shape: tuple[int, ...], kind: str) -> None:
    """CIFAR's are stored as they are; photographs at the page's size."""
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    made = thumbnail(image)
    assert max(made.width, made.height) == THUMBNAIL
    head, _, content = made.uri.partition(",")
    assert head == f"data:image/{kind};base64"
    stored = np.asarray(Image.open(io.BytesIO(base64.b64decode(content))))
    if kind == "png":
        assert np.array_equal(stored, image)
    else:
        assert stored.shape == (120, 160, 3)


@pytest.mark.parametrize("size", [1, 2, NUMBERED, NUMBERED + 1, NAMED, NAMED + 1, 1000])
def test_every_pair_is_one_cell(size: int) -> None:
    """As many rectangles as pairs, all inside; names up to 60 classes, numbers up to 20."""
    cells = [(k, (k * 7) % size, k + 1) for k in range(size)]
    drawing = standalone(confusion_chart([f"class {k}" for k in range(size)], cells))
    root = ET.fromstring(drawing)
    width, height = (float(v) for v in root.attrib["viewBox"].split()[2:])
    rects = [e for e in root.iter() if e.tag.endswith("rect")]
    assert len(rects) == size
    for rect in rects:
        x, y, side = (float(rect.attrib[k]) for k in ("x", "y", "width"))
        assert x >= 0 and x + side <= width and y >= 0 and y + side <= height
    words = [e.text for e in root.iter() if e.tag.endswith("text")]
    assert ("class 0" in words) == (size <= NAMED)
    assert (str(size) in words) == (size <= NUMBERED)
