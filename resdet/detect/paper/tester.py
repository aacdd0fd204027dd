"""A detector with the test-time improvements of the paper's table 9 around it, each by one key.

    TEST.BOX_REFINEMENT   regions are pooled a second time, boxes vote (`refinement`)

With all of them off nothing here runs. Images are tested one at a time: what is computed for one
does not depend on others that would be padded with it.

Not for: training, or how each improvement works (its module).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.modeling.roi_heads.fast_rcnn import fast_rcnn_inference_single_image
from detectron2.structures import Instances
from torch import nn

from resdet.detect.paper.detector_parts import DetectorParts
from resdet.detect.paper.refinement import refined_regions, voted
from resdet.errors import ConfigError

KEYS = ("TEST.BOX_REFINEMENT",)


@dataclass(frozen=True)
class Improvements:
    """What is done at test time beyond one pass; the default is nothing.

    Attributes:
        refinement: TEST.BOX_REFINEMENT.
    """

    refinement: bool = False

    @classmethod
    def of_config(cls, cfg: Any) -> Improvements:
        """Those of the TEST keys.

        Raises:
            ConfigError: images are to be tested several at a time.
        """
        options = cls(refinement=cfg.TEST.BOX_REFINEMENT == "on")
        if options.any and cfg.TEST.IMS_PER_BATCH > 1:
            raise ConfigError(
                f"TEST.IMS_PER_BATCH is {cfg.TEST.IMS_PER_BATCH}, but with {options.keys} images "
                "are tested one at a time. Set TEST.IMS_PER_BATCH 1."
            )
        return options

    @property
    def any(self) -> bool:
        return self != Improvements()

    @property
    def keys(self) -> str:
        """The keys that are on."""
        on = (self.refinement,)
        return ", ".join(key for key, is_on in zip(KEYS, on, strict=True) if is_on)


class ImprovedDetector(nn.Module):
    """A detector's test with improvements. As the detector: a list of inputs to a list of outputs.

    Args:
        model: trained, or its fast form; not changed.
        improvements: at least one of them on.

    Raises:
        ConfigError: the detector has no such steps (`DetectorParts`).
    """

    def __init__(self, model: nn.Module, improvements: Improvements):
        super().__init__()
        self.model = model
        self.parts = DetectorParts(model)
        self.improvements = improvements

    def forward(self, batch: Sequence[dict[str, Any]]) -> list[dict[str, Instances]]:
        """As `GeneralizedRCNN.inference`: boxes in pixels of the original image."""
        return [{"instances": self._detect(given)} for given in batch]

    def _detect(self, given: dict[str, Any]) -> Instances:
        maps = self.parts.maps(given["image"])
        size = maps.size
        regions = self.parts.proposals(maps)
        scores, boxes = self._classified(maps, regions)
        if self.improvements.refinement:
            again = self._classified(maps, refined_regions(scores, boxes, size))
            scores, boxes = torch.cat([scores, again[0]]), torch.cat([boxes, again[1]])
        predictor = self.parts.heads.box_predictor
        threshold = predictor.test_score_thresh
        detections, _ = fast_rcnn_inference_single_image(
            boxes,
            scores,
            size,
            threshold,
            predictor.test_nms_thresh,
            predictor.test_topk_per_image,
        )
        if self.improvements.refinement:
            detections = voted(detections, scores, boxes, threshold)
        detections = self.parts.other_outputs(maps, detections)
        height, width = given.get("height", size[0]), given.get("width", size[1])
        return detector_postprocess(detections, height, width)

    def _classified(self, maps: Any, regions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        features = self.parts.region_features(maps, regions)
        return self.parts.predict(features, regions, maps.size)
