"""Weight standardisation in torch, layer by layer: the published formula, and batch_norm on the weights as timm calls it."""

import torch
from torch.nn import functional

from registry import Case, attempt, case

STAGES = ((3, 64), (4, 128), (6, 256), (3, 512))


def resnet50_filters():
    filters = [(64, 3, 7, 7)]
    width_in = 64
    for blocks, width in STAGES:
        for block in range(blocks):
            filters += [(width, width_in, 1, 1), (width, width, 3, 3), (4 * width, width, 1, 1)]
            if block == 0:
                filters.append((4 * width, width_in, 1, 1))
            width_in = 4 * width
    return filters


def by_formula(weight):
    mean = weight.mean(dim=(1, 2, 3), keepdim=True)
    weight = weight - mean
    std = weight.view(weight.size(0), -1).std(dim=1).view(-1, 1, 1, 1) + 1e-5
    return weight / std.expand_as(weight)


def by_var_mean(weight):
    var, mean = torch.var_mean(weight, dim=(1, 2, 3), keepdim=True)
    return (weight - mean) * torch.rsqrt(var + 1e-5)


def by_batch_norm(weight):
    # The biased variance; a constant factor apart from the other ways.
    out = weight.shape[0]
    y = functional.batch_norm(weight.reshape(1, out, -1), None, None, training=True, momentum=0.0, eps=1e-5)
    return y.reshape_as(weight)


@case("norm/ws-resnet50")
class WeightStandardization(Case):
    """Filters and gradients of all layers of ResNet-50."""

    def __init__(self, device, options):
        super().__init__(device, options)
        generator = torch.Generator().manual_seed(1)
        shapes = resnet50_filters()
        self.weights = [torch.empty(s).uniform_(-1, 1, generator=generator).to(device) for s in shapes]
        self.cotangents = [torch.randn(s, generator=generator).to(device) for s in shapes]

    def run(self, way):
        weights = [w.clone().requires_grad_() for w in self.weights]

        def call():
            results = [way(w) for w in weights]
            return results + list(torch.autograd.grad(results, weights, self.cotangents))

        return call

    def variants(self):
        ways = {
            "published formula": by_formula,
            "var_mean": by_var_mean,
            "batch_norm on the weights": by_batch_norm,
        }
        return {name: attempt(lambda way=way: self.run(way)) for name, way in ways.items()}

    def check(self, results):
        first = next(iter(results.values()))
        for name, tensors in results.items():
            for a, b in zip(tensors, first):
                # Biased or not, epsilon inside or outside: sqrt(I / (I - 1)) at I = 64 is 0.8 %.
                error = (a.detach() - b.detach()).norm() / b.detach().norm()
                if not error <= 2e-2:
                    raise AssertionError(f"{name} differs from the first way by {error:.1e}")
