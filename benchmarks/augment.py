"""How fast training images are augmented: part of `make bench`.

Flips, crops with padding and cutout of 50,000 images in batches of 256: by the batched transforms of a training, and by
torchvision's own image by image in a DataLoader with two workers, as tutorials do it. Both take bytes from memory and
give float32 in [0, 1]; they are timed in turns in one run. The workers are there, and both warm, before the clock runs.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time

from cifar_core.job import share_cores

# As every training does, before torch is there.
share_cores()

import torch  # noqa: E402
from torch import Tensor  # noqa: E402
from torch.utils.data import DataLoader, Dataset  # noqa: E402
from torchvision.transforms import v2  # noqa: E402

from cifar_core.transforms import CUTOUT_GREY, Augmentation, augment, generator_for  # noqa: E402

BATCH = 256
WORKERS = 2
GOAL = 8.0
"""Times as many images a second as the DataLoader gives."""

HOW = Augmentation(flip=0.5, crop_padding=4, cutout=8)


class OneByOne(Dataset[tuple[Tensor, int]]):
    """Images, each through torchvision's transforms when it is asked for."""

    def __init__(self, images: Tensor) -> None:
        self.images = images
        share = HOW.cutout**2 / (32 * 32)
        self.transform = v2.Compose(
            [
                v2.RandomHorizontalFlip(HOW.flip),
                v2.RandomCrop(32, padding=HOW.crop_padding),
                v2.ToDtype(torch.float32, scale=True),
                v2.RandomErasing(1.0, scale=(share, share), ratio=(1.0, 1.0), value=CUTOUT_GREY),
            ]
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(self.images[index]), index % 10


def one_by_one(loader: DataLoader[tuple[Tensor, int]]) -> float:
    """Seconds of an epoch."""
    began = time.perf_counter()
    for _ in loader:
        pass
    return time.perf_counter() - began


def batched(images: Tensor, labels: Tensor, epoch: int) -> float:
    """Seconds of an epoch, as `cifar_core.training` goes through it."""
    began = time.perf_counter()
    order = torch.randperm(len(images), generator=generator_for(0, -1 - epoch))
    for step, chosen in enumerate(order.split(BATCH)):
        augment(images.index_select(0, chosen), HOW, generator_for(epoch, step))
        labels[chosen]
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--trials", type=int, default=3)
    options = parser.parse_args()
    images = torch.randint(0, 256, (options.images, 3, 32, 32), dtype=torch.uint8, generator=generator_for(0, 0))
    labels = torch.arange(options.images) % 10
    loader = DataLoader(OneByOne(images), batch_size=BATCH, shuffle=True, num_workers=WORKERS, persistent_workers=True)
    print(
        f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}: "
        f"flip, crop and cutout of {options.images:,} images in batches of {BATCH}"
    )
    next(iter(loader))
    batched(images, labels, 0)
    pairs = [(one_by_one(loader), batched(images, labels, trial)) for trial in range(1, options.trials + 1)]
    for theirs, ours in pairs:
        print(f"DataLoader, {WORKERS} workers: {theirs:.2f} s; batched: {ours:.3f} s; {theirs / ours:.1f} times")
    ratio = statistics.median(theirs / ours for theirs, ours in pairs)
    reached = "yes" if ratio >= GOAL else "no"
    print(f"median {ratio:.1f} times ({options.trials} trials; target: {GOAL:g} times): {reached}")


if __name__ == "__main__":
    main()
