"""CIFAR ResNet-20 with group norm, or batch-channel norm and standardised weights, in both memory
formats."""

import torch
from torch.nn import functional

from attention import agree
from lanczos import top_ritz_value
from models import detached, flatten, unflatten
from registry import Case, attempt, case

STAGES, BLOCKS, IMAGE, CLASSES, GROUPS = (16, 32, 64), 3, 32, 10, 8
FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


def convolutions():
    """(name, channels in, out, kernel) in order."""
    out, source = [("stem", 3, 16, 3)], 16
    for stage, width in enumerate(STAGES):
        for block in range(BLOCKS):
            name = f"{stage}.{block}"
            if source != width:
                out.append((name + ".down", source, width, 1))
            out += [(name + ".1", source, width, 3), (name + ".2", width, width, 3)]
            source = width
    return out


def parameters(device, memory_format, two_stages):
    generator = torch.Generator().manual_seed(1)
    p = {}
    for name, inputs, outputs, kernel in convolutions():
        scale = (2 / (outputs * kernel * kernel)) ** 0.5
        w = torch.randn(outputs, inputs, kernel, kernel, generator=generator) * scale
        p[name + ".w"] = w.to(device).contiguous(memory_format=memory_format)
        p[name + ".scale"] = torch.ones(outputs, device=device)
        p[name + ".shift"] = torch.zeros(outputs, device=device)
        if two_stages:
            p[name + ".group_scale"] = torch.ones(1, GROUPS, 1, device=device)
            p[name + ".group_shift"] = torch.zeros(1, GROUPS, 1, device=device)
    p["fc.w"] = torch.randn(CLASSES, 64, generator=generator).to(device) * 0.1
    p["fc.b"] = torch.zeros(CLASSES, device=device)
    return {name: t.requires_grad_() for name, t in p.items()}


def by_formula(w):
    centred = w - w.mean(dim=(1, 2, 3), keepdim=True)
    return centred / (centred.flatten(1).var(dim=1) + 1e-5).sqrt().view(-1, 1, 1, 1)


def by_batch_norm(w):
    """One native call a layer; its variance is biased, so epsilon and result are scaled."""
    count = w[0].numel()
    share = (count - 1) / count
    rows = w.reshape(1, len(w), count)
    y = functional.batch_norm(rows, None, None, training=True, momentum=0, eps=1e-5 * share)
    return y.reshape(w.shape) * share**0.5


class Network:
    """`running` holds the averages of batch norm, which training updates."""

    def __init__(self, two_stages, standardize, running=None):
        self.two_stages, self.standardize, self.running = two_stages, standardize, running

    def norm(self, p, name, x):
        scale, shift = p[name + ".scale"], p[name + ".shift"]
        if not self.two_stages:
            return functional.group_norm(x, GROUPS, scale, shift)
        mean, variance = self.running[name] if self.running else (None, None)
        y = functional.batch_norm(x, mean, variance, scale, shift, training=True, momentum=0.1)
        # One scale and shift a group, as published, repeated over channels for the fused kernel.
        repeat = x.shape[1] // GROUPS
        a, b = (
            p[f"{name}.group_{part}"].flatten().repeat_interleave(repeat)
            for part in ("scale", "shift")
        )
        return functional.group_norm(y, GROUPS, a, b)

    def __call__(self, p, x):
        def convolve(name, x, stride=1):
            w = p[name + ".w"]
            if self.standardize is not None:
                w = self.standardize(w)
            y = functional.conv2d(x, w, stride=stride, padding=w.shape[-1] // 2)
            return self.norm(p, name, y)

        x = functional.relu(convolve("stem", x))
        for stage in range(len(STAGES)):
            for block in range(BLOCKS):
                name = f"{stage}.{block}"
                stride = 2 if stage > 0 and block == 0 else 1
                skip = convolve(name + ".down", x, stride) if stride == 2 else x
                y = functional.relu(convolve(name + ".1", x, stride))
                x = functional.relu(convolve(name + ".2", y) + skip)
        return functional.linear(x.mean((2, 3)), p["fc.w"], p["fc.b"])


class Resnet20(Case):
    batch = 128
    two_stages = True

    def operands(self, memory_format):
        generator = torch.Generator().manual_seed(2)
        x = torch.randn(self.batch, 3, IMAGE, IMAGE, generator=generator)
        y = torch.randint(CLASSES, (self.batch,), generator=generator).to(self.device)
        x = x.to(self.device).contiguous(memory_format=memory_format)
        return parameters(self.device, memory_format, self.two_stages), x, y


@case("train/resnet20-bcn-128")
class Train(Resnet20):
    def step(self, memory_format, standardize, **options):
        params, x, y = self.operands(memory_format)
        running = {
            name: (torch.zeros(width, device=self.device), torch.ones(width, device=self.device))
            for name, _, width, _ in convolutions()
        }
        network = Network(True, standardize, running)
        optimizer = torch.optim.SGD(params.values(), lr=0.1, momentum=0.9, **options)

        def run():
            optimizer.zero_grad()
            functional.cross_entropy(network(params, x), y).backward()
            optimizer.step()

        return run

    def variants(self):
        ways = {"formula": by_formula, "batch_norm of weights": by_batch_norm}
        return {
            f"{form}, {name}, fused SGD": attempt(
                lambda form=form, way=way: self.step(FORMATS[form], way, fused=True)
            )
            for form in FORMATS
            for name, way in ways.items()
        }


@case("train/resnet20-bcn-2")
class TrainTwo(Train):
    batch = 2


@case("train/resnet20-memory")
class Memory(Train):
    """Run once per fresh process: `worker.py --peak` reports what it added to the resident set."""

    def variants(self):
        return {
            f"{form}, {name}": lambda form=form, way=way: self.step(FORMATS[form], way)()
            for form in FORMATS
            for name, way in {"formula": by_formula, "batch_norm of weights": by_batch_norm}.items()
        }


class Product(Resnet20):
    def setting(self, memory_format):
        params, x, y = self.operands(memory_format)
        network = Network(self.two_stages, by_formula if self.two_stages else None)
        names, leaves = list(params), tuple(params.values())

        def loss(values):
            return functional.cross_entropy(network(dict(zip(names, values)), x), y)

        return loss, leaves

    def tangents(self, leaves):
        generator = torch.Generator().manual_seed(3)
        return tuple(
            torch.randn(t.shape, generator=generator).to(t.device).contiguous(
                memory_format=torch.channels_last
                if t.dim() == 4 and not t.is_contiguous()
                else torch.contiguous_format
            )
            for t in leaves
        )

    def double_backward(self, memory_format):
        loss, leaves = self.setting(memory_format)
        gradient = torch.autograd.grad(loss(leaves), leaves, create_graph=True)
        tangents = self.tangents(leaves)
        return lambda: torch.autograd.grad(gradient, leaves, tangents, retain_graph=True)

    def jvp_of_grad(self, memory_format):
        loss, leaves = self.setting(memory_format)
        gradient, plain = torch.func.grad(loss), detached(leaves)
        tangents = self.tangents(leaves)
        return lambda: torch.func.jvp(gradient, (plain,), (tangents,))[1]

    def variants(self):
        ways = {
            "double backward, retained graph": self.double_backward,
            "func.jvp(grad)": self.jvp_of_grad,
        }
        return {
            f"{form}, {name}": attempt(lambda form=form, way=way: way(FORMATS[form]))
            for form in FORMATS
            for name, way in ways.items()
        }

    def check(self, results):
        # Single precision and ReLUs at their kinks: the formats differ by 0.7 % with two norms.
        agree({name: [flatten(result)] for name, result in results.items()}, 2e-2)


@case("hvp/resnet20-gn")
class GroupNorm(Product):
    two_stages = False


@case("hvp/resnet20-bcn")
class BatchChannelNorm(Product):
    pass


@case("lanczos/resnet20")
class Lanczos(Product):
    """Flat vectors, the basis as one matrix, two passes of Gram-Schmidt an iteration."""

    steps = 50

    def loop(self, memory_format):
        loss, leaves = self.setting(memory_format)
        gradient = torch.autograd.grad(loss(leaves), leaves, create_graph=True)

        def product(v):
            pieces = unflatten(v, leaves)
            return flatten(torch.autograd.grad(gradient, leaves, pieces, retain_graph=True))

        def run():
            n = sum(p.numel() for p in leaves)
            basis = torch.empty(self.steps, n, device=self.device)
            start = torch.randn(n, generator=torch.Generator().manual_seed(5)).to(self.device)
            torch.div(start, start.norm(), out=basis[0])
            alpha, beta = [], []
            for step in range(self.steps):
                w = product(basis[step])
                known, total = basis[: step + 1], 0.0
                for _ in range(2):
                    c = torch.mv(known, w)
                    w.addmv_(known.t(), c, alpha=-1)
                    total += c[step].item()
                alpha.append(total)
                beta.append(w.norm().item())
                if step + 1 < self.steps:
                    torch.div(w, beta[-1], out=basis[step + 1])
            return alpha, beta

        return run

    def variants(self):
        return {f"{form}, double backward": self.loop(FORMATS[form]) for form in FORMATS}

    def check(self, results):
        tops = [top_ritz_value(*coefficients) for coefficients in results.values()]
        for top in tops:
            if not abs(top - tops[0]) <= 1e-2 * abs(tops[0]):
                raise AssertionError(f"largest Ritz value {top} instead of {tops[0]}")
