"""The convolutions of CIFAR ResNet-20 one after another, in both memory formats."""

import torch
from torch.nn import functional

from attention import agree
from registry import Case, attempt, case

STAGES, BLOCKS, IMAGE = (16, 32, 64), 3, 32


def layers():
    """(channels in, out, kernel, stride) in order; a projection stands before the block it skips."""
    out = [(3, 16, 3, 1)]
    for stage, width in enumerate(STAGES):
        for block in range(BLOCKS):
            first = stage > 0 and block == 0
            source, stride = (STAGES[stage - 1], 2) if first else (width, 1)
            if first:
                out.append((source, width, 1, stride))
            out += [(source, width, 3, stride), (width, width, 3, 1)]
    return out


def chain(x, filters):
    shapes = layers()

    def apply(i, y):
        _, _, kernel, stride = shapes[i]
        return functional.conv2d(y, filters[i], stride=stride, padding=(kernel - 1) // 2)

    y, i = apply(0, x), 1
    while i < len(shapes):
        skip = None
        if shapes[i][2] == 1:
            skip, i = apply(i, y), i + 1
        y, i = apply(i + 1, apply(i, y)), i + 2
        if skip is not None:
            y = y + skip
    return y


class Convolutions(Case):
    batch = 128

    def operands(self, memory_format):
        generator = torch.Generator().manual_seed(1)

        def draw(*shape, scale=1.0):
            tensor = torch.randn(shape, generator=generator) * scale
            return tensor.to(self.device).contiguous(memory_format=memory_format)

        x = draw(self.batch, 3, IMAGE, IMAGE)
        size = IMAGE >> (len(STAGES) - 1)
        cotangent = draw(self.batch, STAGES[-1], size, size)
        filters = [draw(o, c, k, k, scale=(c * k * k) ** -0.5).requires_grad_() for c, o, k, _ in layers()]
        return x, cotangent, filters

    def run(self, memory_format):
        x, cotangent, filters = self.operands(memory_format)
        return lambda: torch.autograd.grad(chain(x, filters), filters, cotangent)

    def variants(self):
        formats = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
        return {name: attempt(lambda own=own: self.run(own)) for name, own in formats.items()}

    def check(self, results):
        agree(results)


case("conv/resnet20")(Convolutions)
case("conv/resnet20-2")(type("Convolutions2", (Convolutions,), {"batch": 2}))
