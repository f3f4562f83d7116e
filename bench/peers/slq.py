"""Stochastic Lanczos quadrature as it is written in Python: probe after probe on flat vectors."""

import torch

from hvp import Product, flat_product
from registry import case

PROBES = 10
STEPS = 80


class Quadrature(Product):
    def quadrature(self, lanczos):
        """Nodes and weights, [PROBES, STEPS] each. One basis serves all probes."""
        product = flat_product(self.loss, self.params)
        n = sum(p.numel() for p in self.params)
        generator = torch.Generator().manual_seed(5)
        basis = torch.empty(STEPS, n, device=self.device)
        nodes, weights = [], []
        for _ in range(PROBES):
            probe = torch.randint(2, (n,), generator=generator).to(self.device)
            probe = probe * (2 / n**0.5) - 1 / n**0.5
            alpha, beta = lanczos(product, probe, basis)
            off = torch.tensor(beta[:-1], dtype=torch.float64)
            matrix = torch.diag(torch.tensor(alpha, dtype=torch.float64))
            theta, s = torch.linalg.eigh(matrix + torch.diag(off, 1) + torch.diag(off, -1))
            nodes.append(theta)
            weights.append(s[0] ** 2)
        return torch.stack(nodes), torch.stack(weights)

    def check(self, results):
        """Largest node and mean eigenvalue must agree; the loops differ in rounding only."""
        summaries = {
            name: (nodes.max().item(), (nodes * weights).sum(1).mean().item())
            for name, (nodes, weights) in results.items()
        }
        first = next(iter(summaries.values()))
        for name, summary in summaries.items():
            for value, expected in zip(summary, first):
                if not abs(value - expected) <= 1e-3 * abs(expected):
                    raise AssertionError(f"{name}: {summary} instead of {first}")


def reorthogonalized(passes):
    """Every product against the whole basis: V w and w - V^T c."""

    def lanczos(product, probe, basis):
        basis[0] = probe
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

    return lanczos


def three_term(product, probe, _):
    """Two vectors and no reorthogonalisation; enough for a density."""
    v, previous = probe, None
    alpha, beta = [], []
    for _ in range(STEPS):
        w = product(v)
        if previous is not None:
            w.sub_(previous, alpha=beta[-1])
        alpha.append(torch.dot(w, v).item())
        w.sub_(v, alpha=alpha[-1])
        beta.append(w.norm().item())
        v, previous = w.div_(beta[-1]), v
    return alpha, beta


@case("slq/mlp784")
class Full(Quadrature):
    def variants(self):
        return {
            "flat vectors, two passes": lambda: self.quadrature(reorthogonalized(2)),
            "flat vectors, one pass": lambda: self.quadrature(reorthogonalized(1)),
        }


@case("slq/mlp784-three-term")
class ThreeTerm(Quadrature):
    def variants(self):
        return {"flat vectors, three terms": lambda: self.quadrature(three_term)}
