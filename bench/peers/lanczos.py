"""Lanczos with full reorthogonalisation as it is written in Python."""

import torch

from hvp import MLP784, double_backward, flat_product
from models import cross_entropy, parameters, random_batch
from registry import Case, case

STEPS = 100
BATCH = 512


class Lanczos(Case):
    def __init__(self, device, options):
        super().__init__(device, options)
        self.params = parameters(MLP784, 1, device)
        self.x, self.y = random_batch(BATCH, 784, 10, 2, device)

    def loss(self, params):
        return cross_entropy(params, self.x, self.y)

    def check(self, results):
        """The largest Ritz value must agree; the loops differ in rounding only."""
        tops = {name: top_ritz_value(*coefficients) for name, coefficients in results.items()}
        first = next(iter(tops.values()))
        for name, top in tops.items():
            if not abs(top - first) <= 1e-3 * abs(first):
                raise AssertionError(f"{name}: largest Ritz value {top} instead of {first}")


def top_ritz_value(alpha, beta):
    off = torch.tensor(beta[: len(alpha) - 1], dtype=torch.float64)
    diagonal = torch.diag(torch.tensor(alpha, dtype=torch.float64))
    matrix = diagonal + torch.diag(off, 1) + torch.diag(off, -1)
    return torch.linalg.eigvalsh(matrix)[-1].item()


@case("lanczos/mlp784-lists")
class Lists(Lanczos):
    """Vectors as lists of parameter tensors, one modified Gram-Schmidt sweep, dot by dot."""

    def variants(self):
        return {"lists of tensors, one MGS sweep": self.run}

    def run(self):
        product = double_backward(self.loss, self.params)
        generator = torch.Generator().manual_seed(5)
        v = [torch.randn(p.shape, generator=generator).to(p.device) for p in self.params]
        v = scaled(v, 1 / norm(v))
        basis, alpha, beta = [v], [], []
        for step in range(STEPS):
            w = list(product(v))
            if step > 0:
                w = plus(w, basis[step - 1], -beta[-1])
            alpha.append(dot(w, v).item())
            w = plus(w, v, -alpha[-1])
            for other in basis:
                w = plus(w, other, -dot(w, other).item())
            beta.append(norm(w))
            if step + 1 < STEPS:
                v = scaled(w, 1 / beta[-1])
                basis.append(v)
        return alpha, beta


def dot(a, b):
    return sum((x * y).sum() for x, y in zip(a, b))


def norm(a):
    return dot(a, a).sqrt().item()


def plus(a, b, factor):
    return [x.add_(y, alpha=factor) for x, y in zip(a, b)]


def scaled(a, factor):
    return [x * factor for x in a]


@case("lanczos/mlp784-flat")
class Flat(Lanczos):
    """The basis as one matrix; a pass is V w and w - V^T c."""

    def variants(self):
        return {
            "flat vectors, two passes": lambda: self.run(2),
            "flat vectors, one pass": lambda: self.run(1),
        }

    def run(self, passes):
        product = flat_product(self.loss, self.params)
        n = sum(p.numel() for p in self.params)
        basis = torch.empty(STEPS, n, device=self.device)
        start = torch.randn(n, generator=torch.Generator().manual_seed(5)).to(self.device)
        torch.div(start, start.norm(), out=basis[0])
        alpha, beta = [], []
        for step in range(STEPS):
            w = product(basis[step])
            known = basis[: step + 1]
            total = 0.0
            for _ in range(passes):
                c = torch.mv(known, w)
                w.addmv_(known.t(), c, alpha=-1)
                total += c[step].item()
            alpha.append(total)
            beta.append(w.norm().item())
            if step + 1 < STEPS:
                torch.div(w, beta[-1], out=basis[step + 1])
        return alpha, beta


@case("lanczos/mlp784-partial")
class Partial(Flat):
    """The same loops; torch has no partial reorthogonalisation to compare with."""


@case("lanczos/memory")
class Memory(Lanczos):
    """Run once per fresh process: `worker.py --peak` reports what it added to the resident set."""

    def variants(self):
        flat = Flat(self.device, self.options)
        lists = Lists(self.device, self.options)
        return {
            "flat vectors, two passes": lambda: flat.run(2),
            "lists of tensors, one MGS sweep": lists.run,
        }
