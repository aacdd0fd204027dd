"""Made-up instances and results for the tests of COCO's rules, and for what records their oracle.

Not for: problems worked by hand (those stand in their tests).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.support.coco_json import annotation, detection

Scene = tuple[dict[str, Any], list[dict[str, Any]]]


def random_scene(seed: int, *, crowds: float = 0.0, levels: int = 0, categories: int = 4) -> Scene:
    """Instances and results of eight images: good and bad boxes, wrong classes, inventions.

    Args:
        crowds: share of crowd regions. Every category has an object that is none.
        levels: that many different scores, so that they tie; 0 for none that do.
    """
    rng = np.random.default_rng(seed)
    score = lambda: float(rng.integers(1, levels) / levels if levels else rng.random())  # noqa: E731
    images = [{"id": i, "width": 640, "height": 480} for i in range(1, 9)]
    annotations, results = [], []
    for number in range(int(rng.integers(10, 60))):
        image, category = int(rng.integers(1, 9)), int(rng.integers(1, categories + 1))
        x, y, w, h = rng.uniform([0, 0, 8, 8], [400, 300, 220, 160])
        crowd = number >= categories and rng.random() < crowds
        if number < categories:
            category = number + 1
        annotations.append(annotation(number + 1, image, category, [x, y, w, h], crowd=int(crowd)))
        for _ in range(rng.integers(0, 5)):
            off = rng.choice([0.03, 0.15, 0.35])
            dx, dy, dw, dh = rng.normal(0, off, 4)
            claimed = category if rng.random() < 0.7 else int(rng.integers(1, categories + 1))
            box = [x + dx * w, y + dy * h, w * np.exp(dw), h * np.exp(dh)]
            results.append(detection(image, claimed, box, score()))
    for _ in range(rng.integers(0, 15)):
        box = rng.uniform([0, 0, 8, 8], [400, 300, 220, 160]).tolist()
        claimed = int(rng.integers(1, categories + 1))
        results.append(detection(int(rng.integers(1, 9)), claimed, box, score()))
    names = [{"id": k, "name": f"c{k}"} for k in range(1, categories + 1)]
    return {"images": images, "annotations": annotations, "categories": names}, results
