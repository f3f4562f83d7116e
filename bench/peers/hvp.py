"""Products with curvature matrices, in every way that torch offers."""

import torch

from models import (
    cross_entropy,
    detached,
    flatten,
    logits,
    parameters,
    random_batch,
    random_tangent,
    unflatten,
)
from registry import Case, attempt, case

MLP784 = [784, 256, 256, 10]
SMALL = [64, 30, 30, 10]


def double_backward(loss, params):
    """Gradient graph built once and retained; a product is one backward pass through it."""
    gradient = torch.autograd.grad(loss(params), params, create_graph=True)
    return lambda v: torch.autograd.grad(gradient, params, grad_outputs=v, retain_graph=True)


def jvp_of_grad(loss, params):
    """Forward over reverse; the primal part runs again in every product."""
    gradient = torch.func.grad(loss)
    plain = detached(params)
    return lambda v: torch.func.jvp(gradient, (plain,), (v,))[1]


def linearized(loss, params):
    """Forward over reverse with the primal part evaluated once."""
    return torch.func.linearize(torch.func.grad(loss), detached(params))[1]


WAYS = {
    "double backward, retained graph": double_backward,
    "func.jvp(grad)": jvp_of_grad,
    "func.linearize(grad)": linearized,
}


def agree(results, tolerance=1e-3):
    flat = {name: flatten(result) for name, result in results.items()}
    first = next(iter(flat.values()))
    for name, value in flat.items():
        error = (value - first).norm() / first.norm()
        if not error <= tolerance:
            raise AssertionError(f"{name} differs from the first way by {error:.1e}")


class Product(Case):
    sizes = MLP784
    batch = 512

    def __init__(self, device, options):
        super().__init__(device, options)
        self.params = parameters(self.sizes, 1, device)
        self.x, self.y = random_batch(self.batch, self.sizes[0], self.sizes[-1], 2, device)
        self.tangent = random_tangent(self.params, 3)

    def loss(self, params):
        return cross_entropy(params, self.x, self.y)

    def variants(self):
        return {name: attempt(lambda way=way: self.bind(way)) for name, way in WAYS.items()}

    def bind(self, way):
        product = way(self.loss, self.params)
        return lambda: product(self.tangent)

    def check(self, results):
        agree(results)


@case("hvp/mlp784")
class Mlp784(Product):
    pass


@case("hvp/mlp-small")
class MlpSmall(Product):
    sizes = SMALL
    batch = 1000


@case("hvp/mlp784-dataset")
class Dataset(Case):
    """10,000 samples in chunks of 1000, each recomputed, sums weighted by sample counts."""

    samples = 10_000
    chunk = 1000

    def __init__(self, device, options):
        super().__init__(device, options)
        self.params = parameters(MLP784, 1, device)
        x, y = random_batch(self.samples, 784, 10, 2, device)
        self.chunks = list(zip(x.split(self.chunk), y.split(self.chunk)))
        self.tangent = random_tangent(self.params, 3)

    def accumulate(self, product):
        total = None
        for x, y in self.chunks:
            part = product(x, y)
            weight = len(y) / self.samples
            if total is None:
                total = [p * weight for p in part]
            else:
                for t, p in zip(total, part):
                    t.add_(p, alpha=weight)
        return total

    def double_backward(self, x, y):
        gradient = torch.autograd.grad(
            cross_entropy(self.params, x, y), self.params, create_graph=True
        )
        return torch.autograd.grad(gradient, self.params, grad_outputs=self.tangent)

    def jvp_of_grad(self, x, y):
        gradient = torch.func.grad(lambda params: cross_entropy(params, x, y))
        return torch.func.jvp(gradient, (detached(self.params),), (self.tangent,))[1]

    def variants(self):
        return {
            "double backward per chunk": lambda: self.accumulate(self.double_backward),
            "func.jvp(grad) per chunk": lambda: self.accumulate(self.jvp_of_grad),
        }

    def check(self, results):
        agree(results)


@case("hvp/matmat10")
class MatMat10(Case):
    """Ten vectors at once on the small net."""

    count = 10

    def __init__(self, device, options):
        super().__init__(device, options)
        self.params = parameters(SMALL, 1, device)
        self.x, self.y = random_batch(1000, SMALL[0], SMALL[-1], 2, device)
        tangents = [random_tangent(self.params, 3 + i) for i in range(self.count)]
        self.tangents = tangents
        self.stacked = tuple(torch.stack(column) for column in zip(*tangents))

    def loss(self, params):
        return cross_entropy(params, self.x, self.y)

    def vmapped(self, way):
        product = torch.func.vmap(way(self.loss, self.params))
        return lambda: product(self.stacked)

    def one_by_one(self, way):
        product = way(self.loss, self.params)
        return lambda: [product(v) for v in self.tangents]

    def batched_backward(self):
        gradient = torch.autograd.grad(self.loss(self.params), self.params, create_graph=True)
        return lambda: torch.autograd.grad(
            gradient,
            self.params,
            grad_outputs=self.stacked,
            retain_graph=True,
            is_grads_batched=True,
        )

    def variants(self):
        return {
            "vmap of func.jvp(grad)": attempt(lambda: self.vmapped(jvp_of_grad)),
            "vmap of func.linearize(grad)": attempt(lambda: self.vmapped(linearized)),
            "batched double backward": attempt(self.batched_backward),
            "ten double backward": attempt(lambda: self.one_by_one(double_backward)),
            "ten func.linearize(grad)": attempt(lambda: self.one_by_one(linearized)),
        }

    def check(self, results):
        agree(
            {
                name: [torch.stack(column) for column in zip(*result)]
                if isinstance(result, list)
                else result
                for name, result in results.items()
            }
        )


@case("hvp/ggn-mlp784")
class GaussNewton(Product):
    """J^T Q J v with Q u = (p * u - p (p . u)) / B of the softmax cross-entropy."""

    def outputs(self, params):
        return logits(params, self.x)

    def output_hessian(self, z):
        p = torch.softmax(z, dim=1)
        return lambda u: (p * u - p * (p * u).sum(dim=1, keepdim=True)) / self.batch

    def recomputed(self):
        plain = detached(self.params)

        def product():
            z, tangent = torch.func.jvp(self.outputs, (plain,), (self.tangent,))
            _, pullback = torch.func.vjp(self.outputs, plain)
            return pullback(self.output_hessian(z)(tangent))[0]

        return product

    def kept_pullback(self):
        plain = detached(self.params)
        z, pullback = torch.func.vjp(self.outputs, plain)
        hessian = self.output_hessian(z)

        def product():
            _, tangent = torch.func.jvp(self.outputs, (plain,), (self.tangent,))
            return pullback(hessian(tangent))[0]

        return product

    def kept_graph(self):
        """The forward pass kept by autograd, the tangent by forward mode."""
        plain = detached(self.params)
        z = self.outputs(self.params)
        hessian = self.output_hessian(z.detach())

        def product():
            _, tangent = torch.func.jvp(self.outputs, (plain,), (self.tangent,))
            return torch.autograd.grad(z, self.params, hessian(tangent), retain_graph=True)

        return product

    def both_kept(self):
        plain = detached(self.params)
        z, push = torch.func.linearize(self.outputs, plain)
        outputs = self.outputs(self.params)
        hessian = self.output_hessian(z)
        return lambda: torch.autograd.grad(
            outputs, self.params, hessian(push(self.tangent)), retain_graph=True
        )

    def double_vjp(self):
        """J v as the derivative of u -> J^T u, all in reverse mode over one retained graph."""
        z = self.outputs(self.params)
        hessian = self.output_hessian(z.detach())
        u = torch.zeros_like(z, requires_grad=True)
        pulled = torch.autograd.grad(z, self.params, u, create_graph=True)

        def product():
            (tangent,) = torch.autograd.grad(pulled, u, self.tangent, retain_graph=True)
            return torch.autograd.grad(z, self.params, hessian(tangent), retain_graph=True)

        return product

    def variants(self):
        return {
            "func.jvp + func.vjp": attempt(self.recomputed),
            "func.jvp + kept func.vjp": attempt(self.kept_pullback),
            "func.jvp + retained backward": attempt(self.kept_graph),
            "func.linearize + retained backward": attempt(self.both_kept),
            "double vjp, retained": attempt(self.double_vjp),
        }


def flat_product(loss, params):
    """A product on flat vectors by retained-graph double backward."""
    product = double_backward(loss, params)
    return lambda v: flatten(product(unflatten(v, params)))


@case("hvp/fisher-mlp784")
class EmpiricalFisher(GaussNewton):
    """J^T r (r^T J v) / B with r = p - e_y: the passes of the Gauss-Newton product."""

    def output_hessian(self, z):
        r = torch.softmax(z, dim=1)
        r[torch.arange(len(r)), self.y] -= 1
        return lambda u: r * (r * u).sum(dim=1, keepdim=True) / self.batch
