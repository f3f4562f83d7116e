"""One epoch of MNIST with tensors that are already in memory."""

import gzip
import os

import numpy
import torch
from torch.nn import functional

from registry import Case, attempt, case

BATCH = 128


def mnist(folder):
    """(60000, 784) floats in [0, 1] and labels, from the IDX files of `folder`."""

    def read(name, header):
        path = os.path.join(folder, name)
        opener = gzip.open if os.path.exists(path + ".gz") else open
        with opener(path + ".gz" if opener is gzip.open else path, "rb") as file:
            return numpy.frombuffer(file.read(), dtype=numpy.uint8, offset=header)

    pixels = read("train-images-idx3-ubyte", 16).reshape(-1, 784).astype(numpy.float32) / 255
    return torch.from_numpy(pixels), torch.from_numpy(
        read("train-labels-idx1-ubyte", 8).astype(numpy.int64)
    )


def stand_in():
    """Random data of MNIST's shape, where the real files are absent."""
    generator = torch.Generator().manual_seed(2)
    return torch.rand(60_000, 784, generator=generator), torch.randint(
        10, (60_000,), generator=generator
    )


@case("train/mnist-mlp784")
class MnistEpoch(Case):
    def __init__(self, device, options):
        super().__init__(device, options)
        x, y = mnist(options["mnist"]) if options.get("mnist") else stand_in()
        self.x, self.y = x.to(device), y.to(device)

    def epoch(self, reorder_first, **optimizer_options):
        torch.manual_seed(1)
        model = torch.nn.Sequential(
            torch.nn.Linear(784, 256),
            torch.nn.ReLU(),
            torch.nn.Linear(256, 256),
            torch.nn.ReLU(),
            torch.nn.Linear(256, 10),
        ).to(self.device)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, **optimizer_options)

        def run():
            order = torch.randperm(len(self.y)).to(self.device)
            x, y = (self.x[order], self.y[order]) if reorder_first else (self.x, self.y)
            for start in range(0, len(order), BATCH):
                if reorder_first:
                    xb, yb = x[start : start + BATCH], y[start : start + BATCH]
                else:
                    rows = order[start : start + BATCH]
                    xb, yb = x[rows], y[rows]
                optimizer.zero_grad()
                functional.cross_entropy(model(xb), yb).backward()
                optimizer.step()

        return run

    def variants(self):
        return {
            "gather per batch": attempt(lambda: self.epoch(False)),
            "gather per batch, foreach": attempt(lambda: self.epoch(False, foreach=True)),
            "gather per batch, fused": attempt(lambda: self.epoch(False, fused=True)),
            "gather per epoch, fused": attempt(lambda: self.epoch(True, fused=True)),
        }
