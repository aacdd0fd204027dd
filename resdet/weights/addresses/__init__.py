"""Weights by name: an address to a file in the cache of the library whose address it is.

    torchvision://resnet101/IMAGENET1K_V1         torch.hub's cache
    timm://resnet50.a1_in1k                       Hugging Face's cache, timm's record beside it
    hf://owner/repo[@revision][/file]             Hugging Face's cache
    detectron2://ImageNetPretrained/MSRA/R-101.pkl    iopath's cache, as Detectron2 itself
    https://host/path[#sha256=…]                  torch.hub's cache, a folder for each address

What the file holds is then decided by the same strict reader as for any file.
"""
