"""Stand-ins of ImageNet's and COCO's trees, and what a start on them costs."""
