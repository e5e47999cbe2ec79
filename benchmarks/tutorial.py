"""The baseline of the speed table: recipe 4 with dropout, trained the way tutorials do it.

Three convolutions without padding, dropout 0.4, two linear layers; float32, Adam with its defaults, batches of 32, and
a DataLoader with two workers that turns one image at a time into a tensor.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import ToTensor

from cifar_core.datasets import Split


class Images(Dataset[tuple[torch.Tensor, int]]):
    """Pictures (H, W, 3) and their labels, as torchvision's CIFAR10 holds them."""

    def __init__(self, split: Split) -> None:
        self.pictures = np.ascontiguousarray(np.asarray(split.images).transpose(0, 2, 3, 1))
        self.labels = [int(label) for label in split.labels]
        self.transform = ToTensor()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(self.pictures[index]), self.labels[index]


def network(classes: int = 10) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 32, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(64, 64, 3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(0.4),
        nn.Linear(64 * 4 * 4, 64),
        nn.ReLU(),
        nn.Linear(64, classes),
    )


def train(train_split: Split, test_split: Split, epochs: int = 15, seed: int = 0) -> Iterator[tuple[float, float]]:
    """Train epoch by epoch.

    Yields:
        After each epoch the seconds of training so far, evaluation excluded, and the test accuracy.
    """
    torch.manual_seed(seed)
    model = network(len(set(int(label) for label in train_split.labels)))
    loader = DataLoader(Images(train_split), batch_size=32, shuffle=True, num_workers=2)
    test_loader = DataLoader(Images(test_split), batch_size=500, num_workers=2)
    optimizer = torch.optim.Adam(model.parameters())
    criterion = nn.CrossEntropyLoss()
    seconds = 0.0
    for _ in range(epochs):
        began = time.perf_counter()
        model.train()
        for images, labels in loader:
            optimizer.zero_grad()
            loss = criterion(model(images), labels)
            loss.backward()
            optimizer.step()
        seconds += time.perf_counter() - began
        model.eval()
        with torch.no_grad():
            hits = sum(int((model(images).argmax(1) == labels).sum()) for images, labels in test_loader)
        yield seconds, hits / len(test_split.labels)
