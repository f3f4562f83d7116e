"""Softmax attention in torch: the fused kernel, and the mathematical formula where that has no second derivative."""

import torch
from torch.nn import functional

from registry import Case, attempt, case

HEADS, WIDTH = 3, 64


def operands(batch, tokens, device, count=4, seed=1):
    """q, k, v and a cotangent of the result."""
    generator = torch.Generator().manual_seed(seed)
    shape = (batch, HEADS, tokens, WIDTH)
    return [torch.randn(shape, generator=generator).to(device) for _ in range(count)]


def by_formula(q, k, v):
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    return torch.softmax(scores, dim=-1) @ v


def agree(results, tolerance=1e-3):
    lists = {name: list(r) if isinstance(r, (list, tuple)) else [r] for name, r in results.items()}
    first = next(iter(lists.values()))
    for name, tensors in lists.items():
        for a, b in zip(tensors, first):
            error = (a - b).norm() / b.norm()
            if not error <= tolerance:
                raise AssertionError(f"{name} differs from the first way by {error:.1e}")


class Forward(Case):
    tokens = 197

    def __init__(self, device, options):
        super().__init__(device, options)
        self.q, self.k, self.v, self.cotangent = operands(8, self.tokens, device)

    def run(self, attention):
        def call():
            with torch.no_grad():
                return attention(self.q, self.k, self.v)

        return call

    def variants(self):
        ways = {"scaled_dot_product_attention": functional.scaled_dot_product_attention, "formula": by_formula}
        return {name: attempt(lambda way=way: self.run(way)) for name, way in ways.items()}

    def check(self, results):
        agree(results)


class ForwardBackward(Forward):
    def run(self, attention):
        inputs = [t.clone().requires_grad_() for t in (self.q, self.k, self.v)]

        def call():
            return torch.autograd.grad(attention(*inputs), inputs, self.cotangent)

        return call


for size in (65, 197, 1024):
    case(f"attention/fwd-{size}")(type(f"Forward{size}", (Forward,), {"tokens": size}))
    case(f"attention/fwdbwd-{size}")(type(f"ForwardBackward{size}", (ForwardBackward,), {"tokens": size}))


@case("attention/hvp")
class HessianProduct(Case):
    """Hessian product of <O(q, k, v), cotangent> in all three operands."""

    def __init__(self, device, options):
        super().__init__(device, options)
        *inputs, self.cotangent = operands(8, 197, device)
        self.inputs = tuple(inputs)
        self.tangents = tuple(operands(8, 197, device, count=3, seed=2))

    def loss(self, attention):
        return lambda *inputs: (attention(*inputs) * self.cotangent).sum()

    def double_backward(self):
        inputs = tuple(t.clone().requires_grad_() for t in self.inputs)
        gradient = torch.autograd.grad(self.loss(by_formula)(*inputs), inputs, create_graph=True)
        return lambda: torch.autograd.grad(gradient, inputs, self.tangents, retain_graph=True)

    def jvp_of_grad(self):
        gradient = torch.func.grad(self.loss(by_formula), argnums=(0, 1, 2))
        return lambda: torch.func.jvp(gradient, self.inputs, self.tangents)[1]

    def linearized(self):
        gradient = torch.func.grad(self.loss(by_formula), argnums=(0, 1, 2))
        pushforward = torch.func.linearize(gradient, *self.inputs)[1]
        return lambda: pushforward(*self.tangents)

    def variants(self):
        return {
            "double backward, retained graph": attempt(self.double_backward),
            "func.jvp(grad)": attempt(self.jvp_of_grad),
            "func.linearize(grad)": attempt(self.linearized),
        }

    def check(self, results):
        agree(results)
