"""How large the embedded set is, and the hashes that every machine should get.

A change of the recipe that changes a picture needs a new `VERSION` and new hashes (the
manifest of a made folder holds them), and makes older numbers incomparable.

Not for: computing them (`build`).
"""

from __future__ import annotations

VERSION = "1"
SIZES = {
    "crops_train": 20000,
    "crops_val": 1000,
    "crops_test": 1000,
    "scenes_train": 1000,
    "scenes_val": 300,
    "scenes_test": 600,
}
# SHA-256 over the digests of a unit's pictures (pixels before encoding, annotations) in order.
PUBLISHED: dict[str, str] = {}
# SHA-256 of the first train scene, encoded and decoded by libjpeg-turbo.
FIRST_JPEG = ""
