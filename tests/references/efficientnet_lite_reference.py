"""EfficientNet-Lite in PyTorch, with the tensor names of its published files.

`python efficientnet_lite_reference.py JOB` reads a JSON file: `images` (.npy, float32 (batch, height, width, 3), 0 to 1),
`logits` (.npy to write), and either `weights` (a published file) or `save` (a file to write with random weights), `width`,
`depth`, `classes`, `old_format`.
"""

import json
import math
import sys

import numpy as np
import torch
from torch import nn
from torch.nn import functional

STAGES = [(1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192)]
STAGES.append((1, 3, 1, 6, 320))


class Same(nn.Conv2d):
    """A convolution that pads as TensorFlow's SAME does: what is left over goes to the right and the bottom."""

    def forward(self, x):
        pads = []
        for size, kernel, stride in zip(x.shape[:1:-1], self.kernel_size, self.stride, strict=True):
            total = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
            pads += [total // 2, total - total // 2]
        return super().forward(functional.pad(x, pads))


def rounded(filters, factor):
    filters = filters * factor
    found = max(8, int(filters + 4) // 8 * 8)
    return found + 8 if found < 0.9 * filters else found


class Block(nn.Module):
    def __init__(self, inputs, outputs, kernel, stride, expansion):
        super().__init__()
        inner = inputs * expansion
        self.expands, self.residual = expansion > 1, stride == 1 and inputs == outputs
        if self.expands:
            self._expand_conv = Same(inputs, inner, 1, bias=False)
            self._bn0 = nn.BatchNorm2d(inner, eps=1e-3)
        self._depthwise_conv = Same(inner, inner, kernel, stride, groups=inner, bias=False)
        self._bn1 = nn.BatchNorm2d(inner, eps=1e-3)
        self._project_conv = Same(inner, outputs, 1, bias=False)
        self._bn2 = nn.BatchNorm2d(outputs, eps=1e-3)

    def forward(self, x):
        start = x
        if self.expands:
            x = functional.relu6(self._bn0(self._expand_conv(x)))
        x = functional.relu6(self._bn1(self._depthwise_conv(x)))
        x = self._bn2(self._project_conv(x))
        return x + start if self.residual else x


class Lite(nn.Module):
    def __init__(self, width, depth, classes):
        super().__init__()
        self._conv_stem, self._bn0 = Same(3, 32, 3, 2, bias=False), nn.BatchNorm2d(32, eps=1e-3)
        channels, blocks = 32, []
        for i, (repeats, kernel, stride, expansion, filters) in enumerate(STAGES):
            for repeat in range(repeats if i in (0, 6) else math.ceil(depth * repeats)):
                outputs = rounded(filters, width)
                blocks.append(Block(channels, outputs, kernel, 1 if repeat else stride, expansion))
                channels = outputs
        self._blocks = nn.ModuleList(blocks)
        self._conv_head, self._bn1 = Same(channels, 1280, 1, bias=False), nn.BatchNorm2d(1280, eps=1e-3)
        self._fc = nn.Linear(1280, classes)

    def forward(self, x):
        x = functional.relu6(self._bn0(self._conv_stem(x)))
        for block in self._blocks:
            x = block(x)
        x = functional.relu6(self._bn1(self._conv_head(x)))
        return self._fc(x.mean((2, 3)))


def main(job):
    torch.manual_seed(0)
    model = Lite(job["width"], job["depth"], job["classes"])
    images = torch.tensor(np.load(job["images"]).transpose(0, 3, 1, 2) * np.float32(255))
    images = (images - 127) / 128
    if "weights" in job:
        model.load_state_dict(torch.load(job["weights"], weights_only=True))
    else:
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.1)
            for part in model.modules():
                if isinstance(part, nn.BatchNorm2d):
                    part.momentum = 1.0  # the statistics become those of these images
            model.train()(images)
        torch.save(model.state_dict(), job["save"], _use_new_zipfile_serialization=not job.get("old_format"))
    with torch.no_grad():
        np.save(job["logits"], model.eval()(images).numpy())


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as file:
        main(json.load(file))
