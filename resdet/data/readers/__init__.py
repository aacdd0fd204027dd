"""Data sets as they lie on disk to checked records: VOC, COCO, class folders, CIFAR."""
