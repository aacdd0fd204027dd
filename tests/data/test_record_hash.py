"""The hash of a set's records, against its definition."""

from __future__ import annotations

import hashlib
import json

import numpy as np

from resdet.data.records import hash_of_records


def defined(records, classes, **how) -> str:
    """SHA-256 over the JSON of classes, reading and each image's row, by the standard library."""
    digest = hashlib.sha256(json.dumps([list(classes), sorted(how.items())]).encode())
    for r in records:
        row = [r["file_name"], str(r["image_id"]), r["width"], r["height"]]
        for a in r["annotations"]:
            flags = [a["category_id"], a["iscrowd"], a["difficult"]]
            row += [[*map(float, a["bbox"]), *flags], float(a["area"])]
        digest.update(json.dumps(row).encode())
    return digest.hexdigest()


def test_it_is_that_of_its_definition() -> None:
    """Whole numbers, tiny and huge ones, quotes and foreign letters in names, no objects."""
    rng = np.random.default_rng(0)
    boxes = [[0, 1, 2, 3], [1e-7, 1e22, 0.1 + 0.2, 5e-324], *rng.random((20, 4)).tolist()]
    objects = [
        {"bbox": b, "category_id": i % 3, "iscrowd": i % 2, "difficult": 0, "area": 7 + i / 3}
        for i, b in enumerate(boxes)
    ]
    names = ['a "b".jpg', "ü.jpg", "c.jpg"]
    records = [
        {"file_name": n, "image_id": i, "width": 3, "height": 4, "annotations": objects[at::2]}
        for at, (n, i) in enumerate(zip(names, (1, "x", 99), strict=True))
    ]
    assert hash_of_records(records, ("k",), exif="apply") == defined(
        records, ("k",), exif="apply"
    )  # fmt: skip
    records[0]["annotations"] = []
    assert hash_of_records(records, ()) == defined(records, ())
