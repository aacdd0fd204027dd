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
PUBLISHED: dict[str, str] = {
    "crops_train": "259727b34780bb0f2f060d55c4d059c3c1e7d12887cfecd538fa59a284c6b588",
    "crops_val": "17d085f211e1eb841965e3fb86541dbcc1908aad41e380c947af7adc3eb7fa2e",
    "crops_test": "69a78f3ce7064c0a2bdd614778834a847d5d0f0551cb39a4ea8b1555fff63080",
    "scenes_train": "64258a9072f860a2045ae2311a88d3f9eb0e30d6c150201e05410ccf7fc99d40",
    "scenes_val": "fc5f943904d7cccd2866f848d6a8a4c4d0561c6e7a6af5afa7180216b6ce4624",
    "scenes_test": "7885b38200b6f27fb685a315bfbb2d7e127f2352bcf89d44706635527c5da58d",
}
# SHA-256 of the first train scene, encoded and decoded by libjpeg-turbo.
FIRST_JPEG = "ef9f858e9ff640e1acf5b22291113f262715850da30cdabb472a2991bfd245d7"
