"""resdet: which pretrained backbone transfers better to detection, by how much, how surely.

A net is trained as a classifier (`pretrain`), handed over untouched as a backbone (`detect`),
measured under one detector (`evaluation`), and two such measurements are compared (`report`).

The public names, each imported at its first use, so that `import resdet` needs no package:

    build_net        a net by name, such as "resnet50"; torch
    load_weights     tensors and card of a weight file; torch
    evaluate_coco    COCO's twelve numbers; numpy and pycocotools
    evaluate_voc     VOC's AP; the same
    compare          the report of two or more runs; the same
    get_cfg          Detectron2's config with the keys of resdet, all off; Detectron2
    load_detector    a run's detector for pictures: files, PIL images, arrays; Detectron2
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from resdet.config import get_cfg
    from resdet.detect.pictures.loaded_detector import load_detector
    from resdet.evaluation import evaluate_coco, evaluate_voc
    from resdet.nets import build as build_net
    from resdet.report.document import compare
    from resdet.weights import load as load_weights

__version__ = "0.1.0"

__all__ = [
    "__version__",
    "build_net",
    "compare",
    "evaluate_coco",
    "evaluate_voc",
    "get_cfg",
    "load_detector",
    "load_weights",
]

# public name: (module, its name there)
_PLACES = {
    "build_net": ("resdet.nets", "build"),
    "compare": ("resdet.report.document", "compare"),
    "evaluate_coco": ("resdet.evaluation", "evaluate_coco"),
    "evaluate_voc": ("resdet.evaluation", "evaluate_voc"),
    "get_cfg": ("resdet.config", "get_cfg"),
    "load_detector": ("resdet.detect.pictures.loaded_detector", "load_detector"),
    "load_weights": ("resdet.weights", "load"),
}


if not TYPE_CHECKING:  # else a type checker would take any misspelt name for one of these

    def __getattr__(name: str) -> object:
        if name not in _PLACES:
            raise AttributeError(f"module 'resdet' has no attribute {name!r}")
        module, attribute = _PLACES[name]
        return getattr(importlib.import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
