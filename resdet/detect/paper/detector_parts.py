"""A detector in its steps: maps of one image, proposals on them, predictions for any regions.

`GeneralizedRCNN` does all of them in one call, for its own proposals. Here they are asked for one
by one, each computed by the same layers in the same order, so that a single pass through them gives
the detections of that call to the bit.

Not for: training, or which regions are asked for (`tester`).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from detectron2.modeling import GeneralizedRCNN
from detectron2.modeling.roi_heads import Res5ROIHeads, StandardROIHeads
from detectron2.structures import Boxes, ImageList, Instances

from resdet.detect.architecture.region_heads import RegionHeads
from resdet.errors import ConfigError

# Subclasses may predict in another way; Detectron2's cascade does.
HEADS = (RegionHeads, Res5ROIHeads, StandardROIHeads)
NEEDED = (
    "TEST.BOX_REFINEMENT and the other tests of the paper's table 9 need {kinds}; leave them off "
    "for this detector."
)


class ImageMaps(NamedTuple):
    """One image at one size: what the trunk (and a pyramid) gives for it.

    images: with one, padded. features: by name.
    """

    images: ImageList
    features: dict[str, torch.Tensor]

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the image without padding."""
        height, width = self.images.image_sizes[0]
        return int(height), int(width)


class DetectorParts:
    """The steps of one detector, in its evaluation mode.

    Args:
        model: a `GeneralizedRCNN` with region heads of `HEADS`, or its fast form.
        needed: what asks for the steps and what to do without, where it is not a test of table 9;
            "{kinds}" stands for what they are known of.

    Raises:
        ConfigError: it is another detector; names it or its region heads.
    """

    def __init__(self, model: Any, needed: str = NEEDED):
        heads = getattr(model, "roi_heads", None)
        if not isinstance(model, GeneralizedRCNN):
            raise ConfigError(
                f"MODEL.META_ARCHITECTURE is {type(model).__name__}, which classifies no regions. "
                + needed.format(kinds="GeneralizedRCNN")
            )
        if type(heads) not in HEADS:
            raise ConfigError(
                f"MODEL.ROI_HEADS.NAME is {type(heads).__name__}, whose predictions for given "
                "regions are not known here. "
                + needed.format(kinds=f"one of {', '.join(kind.__name__ for kind in HEADS)}")
            )
        if model.proposal_generator is None:
            raise ConfigError(
                "MODEL.LOAD_PROPOSALS is True: this detector makes no proposals of its own, which "
                "TEST.BOX_REFINEMENT and the other tests of the paper's table 9 begin with. Leave "
                "them off for it."
            )
        self.model = model
        self.heads: Any = heads

    def maps(self, image: torch.Tensor) -> ImageMaps:
        """Args: image: (3, H, W), pixels in the detector's colour order."""
        images = self.model.preprocess_image([{"image": image}])
        return ImageMaps(images, self.model.backbone(images.tensor))

    def proposals(self, maps: ImageMaps) -> torch.Tensor:
        """(R, 4) in pixels of the maps' image, by falling objectness."""
        (proposals,), _ = self.model.proposal_generator(maps.images, maps.features, None)
        boxes: torch.Tensor = proposals.proposal_boxes.tensor
        return boxes

    def region_features(self, maps: ImageMaps, boxes: torch.Tensor) -> torch.Tensor:
        """(R, D), what class and box are predicted from, of (R, 4) boxes on these maps."""
        heads, regions = self.heads, [Boxes(boxes)]
        if isinstance(heads, RegionHeads):
            return heads.region_features(maps.features, regions)
        features = [maps.features[name] for name in heads.in_features]
        if isinstance(heads, Res5ROIHeads):
            pooled: torch.Tensor = heads._shared_roi_transform(features, regions)
            return pooled.mean(dim=[2, 3])
        output: torch.Tensor = heads.box_head(heads.box_pooler(features, regions))
        return output

    @property
    def has_context(self) -> bool:
        """Whether the whole image's feature stands behind each region's for `predict`."""
        return bool(getattr(self.heads, "context", False))

    def predict(
        self, features: torch.Tensor, boxes: torch.Tensor, image_size: tuple[int, int]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Scores (R, K + 1), background last, and boxes (R, 4 K), or (R, 4) where all share one.

        Args:
            features: (R, D) of the regions, (R, 2 D) with context.
            boxes: (R, 4), the regions, in pixels of any size of the image; the predicted boxes are
                in the same.
            image_size: (height, width) of that size.
        """
        predictor = self.heads.box_predictor
        regions = [Instances(image_size, proposal_boxes=Boxes(boxes))]
        predictions = predictor(features)
        (predicted,) = predictor.predict_boxes(predictions, regions)
        (scores,) = predictor.predict_probs(predictions, regions)
        return scores, predicted

    def other_outputs(self, maps: ImageMaps, detections: Instances) -> Instances:
        """The detections with what the heads predict for given boxes, such as masks."""
        if not hasattr(self.heads, "forward_with_given_boxes"):
            return detections
        (result,) = self.heads.forward_with_given_boxes(maps.features, [detections])
        return result
