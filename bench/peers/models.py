"""Plain functions on lists of tensors: the least overhead that torch offers in eager mode."""

import torch
from torch.nn import functional

ACTIVATIONS = {"relu": torch.relu, "tanh": torch.tanh, "gelu": functional.gelu}


def parameters(sizes, seed, device):
    """Weights and biases in PyTorch's default initialisation, as a flat tuple."""
    torch.manual_seed(seed)
    layers = [torch.nn.Linear(p, q) for p, q in zip(sizes[:-1], sizes[1:])]
    return tuple(
        t.detach().to(device).requires_grad_()
        for layer in layers
        for t in (layer.weight, layer.bias)
    )


def logits(params, x, activation="relu"):
    act = ACTIVATIONS[activation]
    last = len(params) - 2
    for i in range(0, len(params), 2):
        x = functional.linear(x, params[i], params[i + 1])
        if i < last:
            x = act(x)
    return x


def cross_entropy(params, x, y, activation="relu"):
    return functional.cross_entropy(logits(params, x, activation), y)


def random_batch(samples, width, classes, seed, device):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(samples, width, generator=generator)
    y = torch.randint(classes, (samples,), generator=generator)
    return x.to(device), y.to(device)


def random_tangent(params, seed):
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(p.shape, generator=generator).to(p.device) for p in params)


def detached(params):
    return tuple(p.detach() for p in params)


def flatten(tensors):
    return torch.cat([t.reshape(-1) for t in tensors])


def unflatten(vector, params):
    return tuple(
        piece.view_as(p) for piece, p in zip(vector.split([p.numel() for p in params]), params)
    )
