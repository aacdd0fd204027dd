"""The public names: lazy, typed, and the same objects as in their own modules."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

import resdet
from tests.support import children

PACKAGE = Path(resdet.__file__).parent
HEAVY = ("torch", "detectron2", "numpy", "pycocotools", "matplotlib")


def test_the_import_alone_brings_no_package() -> None:
    code = f"import sys, resdet; dir(resdet); print([m for m in {HEAVY!r} if m in sys.modules])"
    assert children.printed_by(code).strip() == "[]"


def test_evaluation_and_report_need_no_torch() -> None:
    """With torch made impossible to import, the names that promise to do without it are there."""
    code = (
        "import resdet\n"
        "print(resdet.evaluate_coco.__module__, resdet.evaluate_voc.__module__, resdet.compare)"
    )
    assert children.printed_by(code, without=["torch", "detectron2"]).startswith(
        "resdet.evaluation.coco.coco_evaluation resdet.evaluation.voc.voc_evaluation <function"
    )


@pytest.mark.parametrize(
    ("name", "module", "attribute", "package"),
    [
        ("build_net", "resdet.nets.zoo", "build", "torch"),
        ("load_weights", "resdet.weights.files", "load", "torch"),
        ("evaluate_coco", "resdet.evaluation.coco.coco_evaluation", "evaluate", "numpy"),
        ("evaluate_voc", "resdet.evaluation.voc.voc_evaluation", "evaluate", "numpy"),
        ("compare", "resdet.report.document", "compare", "numpy"),
        ("get_cfg", "resdet.config.config", "get_cfg", "detectron2"),
        ("load_detector", "resdet.detect.pictures.loaded_detector", "load_detector", "detectron2"),
    ],
)
def test_each_name_is_the_object_of_its_own_module(
    name: str, module: str, attribute: str, package: str
) -> None:
    pytest.importorskip(package)
    assert getattr(resdet, name) is getattr(importlib.import_module(module), attribute)


def test_a_net_is_built() -> None:
    """25,557,032 parameters: He et al.'s ResNet-50 as torchvision states it."""
    pytest.importorskip("torch")
    assert sum(p.numel() for p in resdet.build_net("resnet50").parameters()) == 25_557_032


def test_every_public_name_is_listed_and_exists() -> None:
    pytest.importorskip("detectron2")
    assert set(resdet.__all__) <= set(dir(resdet))
    assert len(resdet.__all__) == 8
    assert all(getattr(resdet, name) for name in resdet.__all__)


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'resdet' has no attribute 'buildnet'"):
        _ = resdet.buildnet


def test_the_package_states_that_it_is_typed() -> None:
    assert (PACKAGE / "py.typed").exists()
