"""What is known about the servers: their test sets, limits and states, with dates.

All of it is data, in servers.yaml; this module looks things up.

Not for: asking a server anything.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from resdet.errors import ConfigError

ALGORITHM = re.compile(r"[A-Za-z0-9]+(-[A-Za-z0-9]+)*")


@dataclass(frozen=True)
class TestSet:
    """A set that a server scores.

    Attributes:
        name: as it stands in a package: "val2017", "VOC2012".
        images: how many it has, as published.
        limit: of packages, in words; `per_day` and `in_all` where they are numbers.
    """

    __test__ = False  # no test case, whatever its name begins with

    name: str
    images: int
    limit: str
    per_day: int | None = None
    in_all: int | None = None


@functools.cache
def facts() -> dict[str, Any]:
    """The content of servers.yaml."""
    file = resources.files("resdet.submission") / "servers.yaml"
    return dict(yaml.safe_load(file.read_text("utf-8")))


def state_of(server: str) -> str:
    """What is known about a server, in two lines, the date first.

    Args:
        server: "coco-bbox", "coco-segm", "voc" or "ilsvrc-cls".
    """
    known = facts()["servers"][server]
    head = f"{known['title']}: {known['state']} when last seen, {known['as_of']}."
    return f"{head}\n{known['statement']}"


def coco_test_names() -> tuple[str, ...]:
    """The test sets that a COCO package can be named for."""
    return tuple(facts()["coco"])


def coco_test_set(data_set: str) -> TestSet:
    """The test set that a data set is to COCO's server.

    Args:
        data_set: a name such as coco_2017_test-dev, or coco:FILE.json:IMAGES with the official
            file's name.

    Raises:
        ConfigError: it is none; lists those that are.
    """
    stem = Path(data_set.removeprefix("coco:").rpartition(":")[0]).stem
    for name, about in facts()["coco"].items():
        if data_set in about["data_sets"] or (
            data_set.startswith("coco:") and stem in about["files"]
        ):
            return _test_set(name, about)
    raise ConfigError(
        f"{data_set} is no set that COCO's server knows. {known_to_coco()} For VOC's: submit voc."
    )


def known_to_coco() -> str:
    """The data sets that a COCO package can be made of, as messages list them."""
    known = "; ".join(f"{' or '.join(a['data_sets'])} ({n})" for n, a in facts()["coco"].items())
    return (
        f"It knows: {known}; or a set given as coco:FILE.json:IMAGES whose file has its official "
        "name."
    )


def coco_categories() -> frozenset[int]:
    """COCO's 80 category ids."""
    unused = facts()["coco_unused_categories"]
    return frozenset(range(1, facts()["coco_last_category"] + 1)) - frozenset(unused)


def voc_test_set(year: int) -> TestSet | None:
    """VOC's test set of a year; None for a year that is not in the table."""
    about = facts()["voc"].get(year)
    return _test_set(f"VOC{year}", about) if about else None


def ilsvrc_test_set(part: str) -> TestSet:
    """ImageNet's set of 2012 whose files are named ILSVRC2012_<part>_00000001.JPEG.

    Args:
        part: "test" or "val".
    """
    return _test_set(f"ILSVRC2012_{part}", facts()["ilsvrc-cls"][part])


def ilsvrc_boxes_test_set(server: str, part: str) -> TestSet:
    """ImageNet's images of 2015 for DET or LOC.

    Args:
        server: "ilsvrc-det" or "ilsvrc-loc". part: "test" or "val".
    """
    return _test_set(f"{server} {part}", facts()[server][part])


def _test_set(name: str, about: Mapping[str, Any]) -> TestSet:
    limit = about["limit"]
    return TestSet(name, about["images"], limit["text"], limit.get("per_day"), limit.get("in_all"))


def check_algorithm(name: str) -> str:
    """The name, if it can stand in a package's.

    Raises:
        ConfigError: it has something else than letters, digits and single hyphens (F87).
    """
    if not ALGORITHM.fullmatch(name):
        raise ConfigError(
            f"--algorithm is {name!r}. Use letters, digits and hyphens between them, such as "
            "resdet-r101: the name is part of a file name that the server takes apart."
        )
    return name
