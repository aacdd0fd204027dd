"""Nets of other origins, written from their sources' description, to make files and logits with.

pycls (pycls/models/resnet.py and anynet.py), Hugging Face (modeling_resnet.py) and akamaster's
CIFAR ResNet are in no library that the tests install, so each is built here under the origin's
own attribute names: the state dict has the origin's names, and `forward` is its function.
"""

import torch
import torch.nn.functional as F
from torch import nn


def randomised(module: nn.Module, seed: int = 0) -> nn.Module:
    """Statistics and scales away from the identity, so that a swap of two would show."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in module.state_dict().items():
        if name.endswith("running_mean"):
            tensor.normal_(std=0.1, generator=generator)
        elif name.endswith("running_var"):
            tensor.uniform_(0.5, 2.0, generator=generator)
        elif tensor.ndim == 1 and tensor.is_floating_point():
            tensor.uniform_(0.5, 1.5, generator=generator)
        elif tensor.is_floating_point():
            tensor.normal_(std=tensor[0].numel() ** -0.5, generator=generator)
    return module.eval()


def conv(in_channels, out_channels, kernel_size, stride=1):
    return nn.Conv2d(in_channels, out_channels, kernel_size, stride, kernel_size // 2, bias=False)


class PyclsBlock(nn.Module):
    def __init__(self, in_channels, out_channels, stride):
        super().__init__()
        inner = out_channels // 4
        if in_channels != out_channels or stride != 1:
            self.proj = conv(in_channels, out_channels, 1, stride)
            self.bn = nn.BatchNorm2d(out_channels)
        self.f = nn.Sequential()
        self.f.a, self.f.a_bn = conv(in_channels, inner, 1), nn.BatchNorm2d(inner)
        self.f.b, self.f.b_bn = conv(inner, inner, 3, stride), nn.BatchNorm2d(inner)
        self.f.c, self.f.c_bn = conv(inner, out_channels, 1), nn.BatchNorm2d(out_channels)

    def forward(self, x):
        y = F.relu(self.f.a_bn(self.f.a(x)))
        y = F.relu(self.f.b_bn(self.f.b(y)))
        y = self.f.c_bn(self.f.c(y))
        return F.relu(y + (self.bn(self.proj(x)) if hasattr(self, "proj") else x))


class PyclsResNet(nn.Module):
    def __init__(self, blocks=(3, 4, 6, 3), num_classes=1000):
        super().__init__()
        self.stem = nn.Module()
        self.stem.conv, self.stem.bn = conv(3, 64, 7, 2), nn.BatchNorm2d(64)
        in_channels = 64
        for i, num_blocks in enumerate(blocks):
            stage, out_channels = nn.Sequential(), 256 * 2**i
            for j in range(num_blocks):
                stride = 2 if i > 0 and j == 0 else 1
                stage.add_module(f"b{j + 1}", PyclsBlock(in_channels, out_channels, stride))
                in_channels = out_channels
            self.add_module(f"s{i + 1}", stage)
        self.head = nn.Module()
        self.head.fc = nn.Linear(in_channels, num_classes)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.stem.bn(self.stem.conv(x))), 3, 2, 1)
        x = self.s4(self.s3(self.s2(self.s1(x))))
        return self.head.fc(x.mean((2, 3)))


class HuggingFaceConv(nn.Module):
    def __init__(self, in_channels, out_channels, kernel_size, stride=1, relu=True):
        super().__init__()
        self.convolution = conv(in_channels, out_channels, kernel_size, stride)
        self.normalization = nn.BatchNorm2d(out_channels)
        self.relu = relu

    def forward(self, x):
        x = self.normalization(self.convolution(x))
        return F.relu(x) if self.relu else x


class HuggingFaceLayer(nn.Module):
    def __init__(self, in_channels, out_channels, stride, bottleneck):
        super().__init__()
        same = in_channels == out_channels and stride == 1
        self.shortcut = (
            nn.Identity()
            if same
            else HuggingFaceConv(in_channels, out_channels, 1, stride, relu=False)
        )
        inner = out_channels // 4
        self.layer = (
            nn.Sequential(
                HuggingFaceConv(in_channels, inner, 1),
                HuggingFaceConv(inner, inner, 3, stride),
                HuggingFaceConv(inner, out_channels, 1, relu=False),
            )
            if bottleneck
            else nn.Sequential(
                HuggingFaceConv(in_channels, out_channels, 3, stride),
                HuggingFaceConv(out_channels, out_channels, 3, relu=False),
            )
        )

    def forward(self, x):
        return F.relu(self.layer(x) + self.shortcut(x))


class HuggingFaceResNet(nn.Module):
    def __init__(self, blocks, bottleneck, num_classes=1000):
        super().__init__()
        self.resnet = nn.Module()
        self.resnet.embedder = nn.Module()
        self.resnet.embedder.embedder = HuggingFaceConv(3, 64, 7, 2)
        self.resnet.encoder = nn.Module()
        self.resnet.encoder.stages = nn.ModuleList()
        in_channels = 64
        for i, num_blocks in enumerate(blocks):
            stage, out_channels = nn.Module(), (256 if bottleneck else 64) * 2**i
            stage.layers = nn.Sequential()
            for j in range(num_blocks):
                stride = 2 if i > 0 and j == 0 else 1
                stage.layers.append(HuggingFaceLayer(in_channels, out_channels, stride, bottleneck))
                in_channels = out_channels
            self.resnet.encoder.stages.append(stage)
        self.classifier = nn.Sequential(nn.Flatten(), nn.Linear(in_channels, num_classes))

    def forward(self, x):
        x = F.max_pool2d(self.resnet.embedder.embedder(x), 3, 2, 1)
        for stage in self.resnet.encoder.stages:
            x = stage.layers(x)
        return self.classifier(x.mean((2, 3)))


class AkamasterBlock(nn.Module):
    def __init__(self, in_channels, channels, stride):
        super().__init__()
        self.conv1, self.bn1 = conv(in_channels, channels, 3, stride), nn.BatchNorm2d(channels)
        self.conv2, self.bn2 = conv(channels, channels, 3), nn.BatchNorm2d(channels)
        self.stride, self.channels = stride, channels

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.stride != 1:
            # Option A there: a quarter of the channels in zeros on either side.
            quarter = self.channels // 4
            x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, quarter, quarter))
        return F.relu(y + x)


class AkamasterResNet(nn.Module):
    def __init__(self, num_blocks, num_classes=10):
        super().__init__()
        self.conv1, self.bn1 = conv(3, 16, 3), nn.BatchNorm2d(16)
        in_channels = 16
        for i, channels in enumerate((16, 32, 64)):
            stage = nn.Sequential()
            for j in range(num_blocks):
                stage.append(AkamasterBlock(in_channels, channels, 2 if i and not j else 1))
                in_channels = channels
            self.add_module(f"layer{i + 1}", stage)
        self.linear = nn.Linear(64, num_classes)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean((2, 3)))
