"""The lower half of every command's help page: examples, and the presets that it takes.

Not for: arguments (`arguments`), or the presets themselves (`resdet.config.presets`).
"""

from __future__ import annotations

import textwrap

from resdet.config import presets

EXAMPLES = {
    "demo": """
  resdet demo
  resdet demo --output runs/demo2 --jobs 2""",
    "doctor": """
  resdet doctor
  resdet doctor --json > doctor.json
  resdet doctor --decode voc_2007_trainval
  resdet doctor --decode coco:train.json:images INPUT.SIXTEEN_BIT high_byte""",
    "pretrain_cls": """
  resdet pretrain_cls
  resdet pretrain_cls --config imagenet_resnet50
  resdet pretrain_cls --config imagenet_resnet50 --resume
  resdet pretrain_cls --eval-only MODEL.WEIGHTS resnet50.pth PRETRAIN.VAL imagenet/val""",
    "make_shards": """
  resdet make_shards imagenet_train shards/imagenet --stem train
  resdet make_shards pictures/train shards/pictures --shard-mb 64 --shuffle 1""",
    "train_det": """
  resdet train_det --config voc07_r50
  resdet train_det --config voc07_r50 --explain MODEL.WEIGHTS resnet50.pth
  resdet train_det --config voc07_r50 --eval-only""",
    "detect": """
  resdet detect runs/voc07_r50 holiday/ --draw drawn
  resdet detect runs/voc07_r50 a.jpg 'b/*.png' --score 0.5 --output boxes.json
  resdet detect runs/voc07_r50 scans/ --json INPUT.SIXTEEN_BIT high_byte > boxes.json""",
    "train_loc": """
  resdet train_loc --config imagenet_loc_r101
  resdet train_loc --config imagenet_loc_r101 --resume
  resdet train_loc --config imagenet_loc_r101 --eval-only LOC.SCORES cls/scores/resnet101.npz""",
    "evaluate": """
  resdet evaluate voc detections/ --root VOC2007 --split test --ap 11-point
  resdet evaluate coco results.json --gt instances_val2017.json --task bbox
  resdet evaluate explain results.json --gt instances_val2017.json
  resdet evaluate cls resnet50.pth --data imagenet_val --protocol 10-crop
  resdet evaluate ilsvrc det ilsvrc_det.txt --root ILSVRC --split val2
  resdet evaluate cls runs/a runs/b --data imagenet_val --protocol dense --output runs/ab""",
    "compare": """
  resdet compare runs/voc07_vgg16 runs/voc07_r101
  resdet compare --results a=a.json b=b.json --gt instances_val2017.json
  resdet compare --ladder runs/coco_r101 --with runs/coco_r50 runs/coco_vgg16""",
    "rank": """
  resdet rank --backbones runs/resnet runs/vgg random:resnet18 --data digits_train
  resdet rank --backbones timm://resnet50.a1_in1k timm://vit_small_patch16_224.dino --data \
      coco:train.json:images --budget 30m --output runs/rank_mine
  resdet rank --output runs/rank_mine --add timm://convnext_tiny.fb_in1k
  resdet rank --output runs/rank_mine --finalists 3 --config voc07_r18""",
    "export_predictions": """
  resdet export_predictions runs/voc07_r50 --to coco
  resdet export_predictions runs/voc07_vgg16 runs/voc07_r50 --to fiftyone --output boxes""",
    "visualize": """
  resdet visualize runs/voc07_r50 --worst 20
  resdet visualize runs/voc07_vgg16 runs/voc07_r50 --most-different 12 --output different
  resdet visualize runs/voc07_r50 --images 000001 000004 --proposals 100
  resdet visualize runs/voc07_r50 --explain 000004""",
    "analyze": """
  resdet analyze counts resnet34,shortcut=A plain34 timm:resnet34
  resdet analyze counts resnet50.pth --size 320
  resdet analyze responses resnet20.th resnet56.th --data cifar10_test
  resdet analyze curves runs/cifar10_plain20 runs/cifar10_plain56 --y-max 20
  resdet analyze classifiers runs/cifar10_resnet20 runs/cifar10_resnet56""",
    "convert_weights": """
  resdet convert_weights inspect resnet50.pth
  resdet convert_weights convert resnet50.pth --to detectron2 -o R-50.pkl
  resdet convert_weights export runs/imagenet_resnet50 -o resnet50.onnx""",
    "submit": """
  resdet submit check results.json --gt instances_val2017.json
  resdet submit coco runs/coco_r101 --algorithm NAME
  resdet submit ilsvrc-cls runs/imagenet_resnet50/cls/scores/resnet50-test.npz""",
}
# The folders of presets that a training command offers.
FOLDERS = {
    "pretrain_cls": ("pretrain",),
    "train_det": (
        ".",
        "stated",
        "alternating",
        "modern",
        "adamw",
        "fpn",
        "frozen",
        "vit",
        "dc5",
        "context",
        "masks",
        "from_coco",
        "imagenet",
    ),
    "train_loc": ("localization",),
}


def epilog(name: str) -> str:
    """What stands below the arguments: examples, and the presets of a training command."""
    page = f"examples:{EXAMPLES[name]}\n"
    for folder in FOLDERS.get(name, ()):
        title = "presets" if folder == "." else f"presets in configs/{folder}"
        page += (
            f"\n{title}:\n"
            + textwrap.fill(
                ", ".join(presets.names(folder)), 96, initial_indent="  ", subsequent_indent="  "
            )
            + "\n"
        )
    return page
