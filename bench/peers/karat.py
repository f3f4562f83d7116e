"""Fourier Kolmogorov-Arnold attention in torch, by the formulas that its users write."""

import torch
from torch.nn import functional

from attention import HEADS, WIDTH, agree, operands
from registry import Case, attempt, case

TOKENS, HARMONICS, LATENT = 197, 3, 12


def coefficients(device, seed=3):
    """a, b [H, r, N, G] and W [H, N, r] of unit output variance."""
    generator = torch.Generator().manual_seed(seed)
    shape = (HEADS, LATENT, TOKENS, HARMONICS)
    scale = (TOKENS * HARMONICS) ** -0.5
    a, b = (torch.randn(shape, generator=generator) * scale for _ in range(2))
    w = torch.randn((HEADS, TOKENS, LATENT), generator=generator) * (LATENT * TOKENS) ** -0.5
    return [t.to(device) for t in (a, b, w)]


def scores(q, k):
    return (q * WIDTH**-0.5) @ k.transpose(-1, -2)


def by_einsum(q, k, v, a, b, w):
    """All harmonics stacked [B, H, G, N, N]; weights never formed: O = Z (W^T V)."""
    m = torch.arange(1, HARMONICS + 1, dtype=q.dtype, device=q.device).view(-1, 1, 1)
    angles = m * scores(q, k).unsqueeze(2)
    z = torch.einsum("bhgkq,hpqg->bhkp", angles.cos(), a)
    z = z + torch.einsum("bhgkq,hpqg->bhkp", angles.sin(), b)
    return z @ (w.transpose(-1, -2) @ v)


def by_harmonic(q, k, v, a, b, w):
    """One product per harmonic, for sine and cosine each."""
    x = scores(q, k)
    z = 0
    for m in range(1, HARMONICS + 1):
        z = z + (m * x).cos() @ a[..., m - 1].transpose(-1, -2)
        z = z + (m * x).sin() @ b[..., m - 1].transpose(-1, -2)
    return z @ (w.transpose(-1, -2) @ v)


def by_edges(q, k, v, a, b, w):
    """Every edge's function value [B, H, N, r, N], as the published description does it."""
    x = scores(q, k).unsqueeze(3)
    edges = 0
    for m in range(1, HARMONICS + 1):
        edges = edges + (m * x).cos() * a[..., m - 1].unsqueeze(1)
        edges = edges + (m * x).sin() * b[..., m - 1].unsqueeze(1)
    z = edges.sum(dim=-1)
    return (z @ w.transpose(-1, -2)) @ v


class Layer(Case):
    batch = 8

    def __init__(self, device, options):
        super().__init__(device, options)
        q, k, v, self.cotangent = operands(self.batch, TOKENS, device)
        self.inputs = [t.requires_grad_() for t in (q, k, v, *coefficients(device))]

    def forward_backward(self, formula):
        return lambda: torch.autograd.grad(formula(*self.inputs), self.inputs, self.cotangent)

    def check(self, results):
        agree(results)


@case("karat/layer-einsum")
class Einsum(Layer):
    def variants(self):
        return {
            "einsum over stacked harmonics": attempt(lambda: self.forward_backward(by_einsum)),
            "one product per harmonic": attempt(lambda: self.forward_backward(by_harmonic)),
        }


@case("karat/layer-edges")
class Edges(Layer):
    def variants(self):
        return {"materialised edges": attempt(lambda: self.forward_backward(by_edges))}


@case("karat/layer-softmax")
class Softmax(Layer):
    """Softmax attention of the same size."""

    def variants(self):
        inputs = self.inputs[:3]

        def call():
            o = functional.scaled_dot_product_attention(*inputs)
            return torch.autograd.grad(o, inputs, self.cotangent)

        return {"scaled_dot_product_attention": attempt(lambda: call)}


@case("karat/layer-memory")
class Memory(Layer):
    batch = 64

    def variants(self):
        return {"einsum over stacked harmonics": self.forward_backward(by_einsum)}


@case("karat/layer-hvp")
class HessianProduct(Layer):
    """Hessian product of <O, cotangent> in q, k, v and all coefficients."""

    def __init__(self, device, options):
        super().__init__(device, options)
        generator = torch.Generator().manual_seed(4)
        self.tangents = tuple(torch.randn(t.shape, generator=generator).to(device) for t in self.inputs)

    def double_backward(self, formula):
        loss = (formula(*self.inputs) * self.cotangent).sum()
        gradient = torch.autograd.grad(loss, self.inputs, create_graph=True)
        return lambda: torch.autograd.grad(gradient, self.inputs, self.tangents, retain_graph=True)

    def variants(self):
        return {
            "double backward of the einsum": attempt(lambda: self.double_backward(by_einsum)),
            "double backward, one product per harmonic": attempt(lambda: self.double_backward(by_harmonic)),
        }
