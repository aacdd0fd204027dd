"""A classifier's result on a set as one HTML page with everything inside.

Names of users go through jinja2's escaping; only our own drawings are inserted as they are.

Not for: the comparison of detectors (`page`), or the numbers (`resdet.evaluation.classification`).
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from resdet.evaluation.classification.classifier_result import ClassifierResult, describe, rates
from resdet.report.render.confusion_chart import confusion_chart
from resdet.report.render.html_template import html_of

# Longest side on the page, in pixels; smaller images are enlarged by the browser, cell by cell.
THUMBNAIL = 160
QUALITY = 80


@dataclass(frozen=True)
class Thumbnail:
    """A small JPEG of an image, and the size to show it in."""

    uri: str
    width: int
    height: int


@dataclass(frozen=True)
class WrongImage:
    """An image that the classifier gets wrong.

    Attributes:
        guesses: the first classes with their probabilities, best first.
        rank: how many classes are ahead of the right one, 1 or more.
        true_probability: what the right class has.
        picture: None where the images are not at hand.
    """

    name: str
    true: str
    true_probability: float
    rank: int
    guesses: tuple[tuple[str, float], ...]
    picture: Thumbnail | None = None


def thumbnail(image: np.ndarray) -> Thumbnail:
    """Of an (H, W, 3) uint8 image; one that is smaller than the page's size keeps its pixels."""
    picture = Image.fromarray(image)
    scale = THUMBNAIL / max(picture.size)
    shown = tuple(max(1, round(side * scale)) for side in picture.size)
    if scale < 1:
        picture = picture.resize((shown[0], shown[1]), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    if scale < 1:
        picture.save(buffer, "JPEG", quality=QUALITY)
        kind = "jpeg"
    else:
        picture.save(buffer, "PNG")
        kind = "png"
    text = base64.b64encode(buffer.getvalue()).decode("ascii")
    return Thumbnail(f"data:image/{kind};base64,{text}", shown[0], shown[1])


def classifier_html(result: ClassifierResult, wrong: Sequence[WrongImage]) -> str:
    """The page.

    Args:
        wrong: the images to show, in that order.

    Raises:
        RunError: Jinja2 is not installed.
        ValueError: the classes of the images are not known, so that there is no error to show.
    """
    errors = result.last.errors
    if errors is None:
        raise ValueError("no labels, so no errors to show")
    first, fifth = rates(errors, errors)
    return html_of(
        "classifier.html",
        styles=("report.css", "classifier.css"),
        result=result,
        errors=errors,
        confusion=confusion_chart(errors.classes, errors.confusion()),
        classes=errors.per_class(),
        wrong=wrong,
        num_wrong=errors.top1.wrong,
        first=first,
        fifth=fifth,
        rates=rates,
        describe=describe,
    )
