"""A vision transformer for CIFAR-sized images: pre-norm blocks, class token, learned positions."""

import torch
from torch.nn import functional

from attention import agree, by_formula
from models import detached, flatten
from registry import Case, attempt, case

SIZE, PATCH, CHANNELS, WIDTH, DEPTH, HEADS, CLASSES, BATCH = 32, 4, 3, 192, 6, 3, 10, 64
TOKENS = (SIZE // PATCH) ** 2 + 1


def parameters(device, seed=1):
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(shape, generator=generator) * 0.02

    tensors = {
        "patch.weight": normal(WIDTH, CHANNELS * PATCH * PATCH),
        "patch.bias": torch.zeros(WIDTH),
        "token": normal(1, 1, WIDTH),
        "positions": normal(1, TOKENS, WIDTH),
        "norm.weight": torch.ones(WIDTH),
        "norm.bias": torch.zeros(WIDTH),
        "head.weight": normal(CLASSES, WIDTH),
        "head.bias": torch.zeros(CLASSES),
    }
    for i in range(DEPTH):
        for name, out, into in (
            ("qkv", 3 * WIDTH, WIDTH),
            ("proj", WIDTH, WIDTH),
            ("fc1", 4 * WIDTH, WIDTH),
            ("fc2", WIDTH, 4 * WIDTH),
        ):
            tensors[f"{i}.{name}.weight"] = normal(out, into)
            tensors[f"{i}.{name}.bias"] = torch.zeros(out)
        for name in ("norm1", "norm2"):
            tensors[f"{i}.{name}.weight"] = torch.ones(WIDTH)
            tensors[f"{i}.{name}.bias"] = torch.zeros(WIDTH)
    return {name: t.to(device).requires_grad_() for name, t in tensors.items()}


def logits(p, images, attention):
    def linear(name, x):
        return functional.linear(x, p[name + ".weight"], p[name + ".bias"])

    def norm(name, x):
        return functional.layer_norm(x, (WIDTH,), p[name + ".weight"], p[name + ".bias"], 1e-6)

    batch = images.shape[0]
    patches = functional.unfold(images, PATCH, stride=PATCH).transpose(1, 2)
    x = linear("patch", patches)
    x = torch.cat([p["token"].expand(batch, 1, WIDTH), x], dim=1) + p["positions"]
    for i in range(DEPTH):
        qkv = linear(f"{i}.qkv", norm(f"{i}.norm1", x))
        q, k, v = qkv.view(batch, TOKENS, 3, HEADS, WIDTH // HEADS).permute(2, 0, 3, 1, 4)
        o = attention(q, k, v).transpose(1, 2).reshape(batch, TOKENS, WIDTH)
        x = x + linear(f"{i}.proj", o)
        x = x + linear(f"{i}.fc2", functional.gelu(linear(f"{i}.fc1", norm(f"{i}.norm2", x))))
    return linear("head", norm("norm", x)[:, 0])


class Vit(Case):
    def __init__(self, device, options):
        super().__init__(device, options)
        generator = torch.Generator().manual_seed(2)
        self.images = torch.randn(BATCH, CHANNELS, SIZE, SIZE, generator=generator).to(device)
        self.labels = torch.randint(CLASSES, (BATCH,), generator=generator).to(device)
        self.params = parameters(device)

    def loss(self, params, attention):
        return functional.cross_entropy(logits(params, self.images, attention), self.labels)


@case("train/vit-cifar")
class Train(Vit):
    def step(self, attention, **options):
        params = parameters(self.device)
        optimizer = torch.optim.AdamW(params.values(), lr=1e-4, weight_decay=0.05, **options)

        def run():
            optimizer.zero_grad()
            self.loss(params, attention).backward()
            optimizer.step()

        return run

    def variants(self):
        fused = functional.scaled_dot_product_attention
        return {
            "scaled_dot_product_attention, fused AdamW": attempt(lambda: self.step(fused, fused=True)),
            "scaled_dot_product_attention, foreach AdamW": attempt(lambda: self.step(fused, foreach=True)),
            "formula, fused AdamW": attempt(lambda: self.step(by_formula, fused=True)),
        }


@case("hvp/vit-cifar")
class HessianProduct(Vit):
    def __init__(self, device, options):
        super().__init__(device, options)
        generator = torch.Generator().manual_seed(3)
        self.names = list(self.params)
        self.leaves = tuple(self.params.values())
        self.tangents = tuple(
            torch.randn(t.shape, generator=generator).to(device) for t in self.leaves
        )

    def of_leaves(self, leaves):
        return self.loss(dict(zip(self.names, leaves)), by_formula)

    def double_backward(self):
        gradient = torch.autograd.grad(self.of_leaves(self.leaves), self.leaves, create_graph=True)
        return lambda: torch.autograd.grad(gradient, self.leaves, self.tangents, retain_graph=True)

    def jvp_of_grad(self):
        gradient = torch.func.grad(self.of_leaves)
        plain = detached(self.leaves)
        return lambda: torch.func.jvp(gradient, (plain,), (self.tangents,))[1]

    def linearized(self):
        pushforward = torch.func.linearize(
            torch.func.grad(self.of_leaves), detached(self.leaves)
        )[1]
        return lambda: pushforward(self.tangents)

    def variants(self):
        return {
            "double backward, retained graph": attempt(self.double_backward),
            "func.jvp(grad)": attempt(self.jvp_of_grad),
            "func.linearize(grad)": attempt(self.linearized),
        }

    def check(self, results):
        agree({name: [flatten(result)] for name, result in results.items()})
