"""Files that TensorBoard opens: the figures of each epoch and the filters of the first layer."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifar_core.events import Epoch

KERNELS = "kernels/first_layer"

ENLARGED = 8
"""Pixels of a side of one weight in the picture."""


class Board:
    """The file that one worker writes; a run that is resumed has several, which TensorBoard reads as one.

    Written at once and not by a thread of its own, so that what is said of an epoch is in the file before its
    checkpoint is, and a full disk is an error here and not a thread that died unseen.

    Args:
        step: Steps done. What an earlier worker wrote of later ones no longer holds, and TensorBoard drops it.
    """

    def __init__(self, folder: Path, step: int) -> None:
        # Slow to import, and most runs write no such files.
        from tensorboardX import event_file_writer
        from tensorboardX.proto import event_pb2

        self._proto = event_pb2
        folder.mkdir(exist_ok=True)
        # The writer's own names are the same within a second.
        self._writer = event_file_writer.EventsWriter(str(folder / "events"), f".{step}.{os.getpid()}")
        begun = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._writer.write_event(event_pb2.Event(step=step + 1, session_log=begun))
        self._writer.flush()

    def write(self, epoch: Epoch, weights: Mapping[str, Any]) -> None:
        """Add an epoch.

        Args:
            weights: The network's tensors by their names.
        """
        from tensorboardX import summary

        scalars = {
            "loss/training": epoch.train_loss,
            "loss/validation": epoch.validation_loss,
            "accuracy/training": epoch.train_accuracy,
            "accuracy/validation": epoch.validation_accuracy,
            "learning_rate": epoch.learning_rate,
            "images_per_second": epoch.images_per_second,
        }
        summaries = [summary.scalar(name, value) for name, value in scalars.items()]
        first = next((w for w in weights.values() if w.ndim == 4 and w.shape[1] == 3), None)
        if first is not None:
            picture = kernel_grid(first.detach().float().cpu().numpy())
            summaries.append(summary.image(KERNELS, picture, dataformats="HWC"))
        for made in summaries:
            self._writer.write_event(self._proto.Event(wall_time=epoch.time, step=epoch.step, summary=made))
        self._writer.flush()


def kernel_grid(kernels: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Filters of three channels side by side in colour, the smallest weight of all black and the largest white.

    Args:
        kernels: (K, 3, h, w).

    Returns:
        (H, W, 3), with a grey line about each filter.
    """
    low, high = float(kernels.min()), float(kernels.max())
    shades = ((kernels - low) / max(high - low, 1e-12) * 255).round().astype(np.uint8).transpose(0, 2, 3, 1)
    shades = shades.repeat(ENLARGED, axis=1).repeat(ENLARGED, axis=2)
    columns = math.ceil(math.sqrt(len(shades)))
    rows = math.ceil(len(shades) / columns)
    height, width = shades.shape[1] + 1, shades.shape[2] + 1
    grid = np.full((rows * height + 1, columns * width + 1, 3), 128, np.uint8)
    for place, tile in enumerate(shades):
        top, left = place // columns * height + 1, place % columns * width + 1
        grid[top : top + height - 1, left : left + width - 1] = tile
    return grid
