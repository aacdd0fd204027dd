"""Which versions and which machine a number was made with."""

from __future__ import annotations

import importlib.metadata
import platform
import sys

PACKAGES = (
    "torch",
    "torchvision",
    "detectron2",
    "fvcore",
    "numpy",
    "Pillow",
    "pycocotools",
    "safetensors",
)


def versions() -> dict[str, str]:
    """Name to version; packages that are not installed are left out."""
    from resdet import __version__

    versions = {
        "resdet": __version__,
        "python": platform.python_version(),
        "platform": sys.platform,
    }
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
