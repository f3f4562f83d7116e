"""Normalisation of activations in torch, a module after the other, in both memory formats."""

import torch
from torch import nn

from attention import agree
from registry import Case, attempt, case

BATCH, CHANNELS, SIDE, GROUPS = 32, 64, 32, 32

FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


class ForwardBackward(Case):
    def __init__(self, device, options):
        super().__init__(device, options)
        generator = torch.Generator().manual_seed(1)
        shape = (BATCH, CHANNELS, SIDE, SIDE)
        self.x, self.cotangent = [torch.randn(shape, generator=generator).to(device) for _ in range(2)]

    def modules(self):
        raise NotImplementedError

    def run(self, memory_format):
        network = nn.Sequential(*self.modules()).to(self.device).train()
        x = self.x.contiguous(memory_format=memory_format).requires_grad_()
        cotangent = self.cotangent.contiguous(memory_format=memory_format)
        inputs = [x, *network.parameters()]
        return lambda: torch.autograd.grad(network(x), inputs, cotangent)

    def variants(self):
        return {name: attempt(lambda m=m: self.run(m)) for name, m in FORMATS.items()}

    def check(self, results):
        agree(results)


@case("norm/bcn-relu")
@case("norm/bcn-relu-nchw")
class BatchChannel(ForwardBackward):
    def modules(self):
        return nn.BatchNorm2d(CHANNELS), nn.GroupNorm(GROUPS, CHANNELS), nn.ReLU()


@case("norm/gn-relu")
@case("norm/gn-relu-nchw")
class Group(ForwardBackward):
    def modules(self):
        return nn.GroupNorm(GROUPS, CHANNELS), nn.ReLU()
