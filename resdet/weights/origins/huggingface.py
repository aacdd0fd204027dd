"""Hugging Face's transformers: resnet.embedder.embedder.convolution,
resnet.encoder.stages.0.layers.0.layer.0.convolution, classifier.1.
"""

from __future__ import annotations

from resdet.weights.origins.origin import IMAGENET_RGB, RESNETS, Layer, Names, Origin


def _huggingface(layer: Layer) -> tuple[str, str]:
    if layer.name == "linear":
        return "classifier.1", ""
    if layer.name == "stem.conv1":
        there = "resnet.embedder.embedder"
    else:
        stage, block, leaf = layer.place
        there = f"resnet.encoder.stages.{stage - 2}.layers.{block}"
        there += ".shortcut" if leaf == "shortcut" else f".layer.{int(leaf[4:]) - 1}"
    return f"{there}.convolution", f"{there}.normalization"


HUGGINGFACE = Origin(
    "huggingface", IMAGENET_RGB, stride_in_1x1=False, names=(Names(RESNETS, _huggingface),)
)
