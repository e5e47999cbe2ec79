"""Weights on disk, and trained networks ready for use."""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from cifar_core.models import Classifier, create

PREFIX = "model."
"""What the names of a network's tensors start with; a file may hold others beside them, such as an optimiser's."""


class NetworkError(ValueError):
    """A file of weights is missing, damaged, or not one of this program."""


PROJECTION = "projection."
"""What the names of a projection's tensors start with, in a network and in its file, where they are none of PREFIX."""


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Write tensors and JSON metadata to a safetensors file, which appears whole or not at all.

    Raises:
        OSError: The file cannot be written, for example because the disk is full.
    """
    header = {"json": json.dumps(metadata)}
    # safetensors refuses views of shared memory and keeps no strides, hence a plain copy of each.
    copies = {
        name: tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }
    aside = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.partial")
    try:
        save_file(copies, aside, header)
        _sync(aside)
        aside.replace(path)
        if os.name == "posix":
            _sync(path.parent)
    except SafetensorError as error:
        # The library gives the system's answer as text only; its number tells a full disk from other trouble.
        if number := re.search(r"\(os error (\d+)\)", str(error)):
            code = int(number[1])
            raise OSError(code, f"The weights could not be written ({os.strerror(code)})", str(path)) from error
        raise OSError(f"The weights could not be written to {path}: {error}.") from error
    finally:
        aside.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def load_tensors(
    path: Path, device: torch.device | str = "cpu", prefix: str = ""
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `save_tensors` wrote.

    Args:
        prefix: Only tensors whose names start with it are read.

    Raises:
        NetworkError: The file is missing, damaged, or was not written by this program.
    """
    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            metadata = json.loads((file.metadata() or {})["json"])
            # Copies, so that no tensor depends on the file once it is closed.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys() if name.startswith(prefix)}  # noqa: SIM118
    except FileNotFoundError:
        raise NetworkError(f"There is no file of weights at {path}.") from None
    except OSError as error:
        raise NetworkError(f"The weights in {path} cannot be read: {error.strerror or error}.") from error
    except SafetensorError as error:
        raise NetworkError(f"{path} is not a whole safetensors file ({error}).") from error
    except (KeyError, json.JSONDecodeError):
        raise NetworkError(
            f"{path} holds tensors, but not the description that this program writes beside them."
        ) from None
    if not isinstance(metadata, dict):
        raise NetworkError(f"{path} holds tensors, but not the description that this program writes beside them.")
    return tensors, metadata


@dataclass(frozen=True, eq=False)
class Network:
    """A trained network with everything needed to use it: in eval mode, without gradients, on its device."""

    model: Classifier
    classes: tuple[str, ...]
    mean: tuple[float, float, float]
    """Of the pixels in [0, 1] it was trained on, per channel."""
    std: tuple[float, float, float]
    """Standard deviation, likewise."""
    metadata: dict[str, Any]
    """What else is known of the training, such as epoch and validation accuracy."""

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.model.head.weight.device

    def normalise(self, images: Tensor) -> Tensor:
        """What the model takes.

        Args:
            images: (B, 3, H, W), uint8 or float in [0, 1].

        Returns:
            (B, 3, H, W) float32 on the network's device: (pixel - mean) / std per channel.
        """
        scale = 255 if images.dtype is torch.uint8 else 1
        pixels = images.to(self.device).to(torch.float32, memory_format=torch.channels_last) / scale
        mean = torch.tensor(self.mean, device=self.device).view(3, 1, 1)
        std = torch.tensor(self.std, device=self.device).view(3, 1, 1)
        return (pixels - mean) / std

    def logits(self, images: Tensor | NDArray[np.uint8], batch_size: int = 500) -> Iterator[Tensor]:
        """Logits of one batch after another, so that the caller can show progress or stop.

        Args:
            images: (N, 3, H, W), uint8 or float in [0, 1]; may be memory-mapped.

        Yields:
            (b, K) float32 on the CPU, b at most `batch_size`.
        """
        return self._run(images, batch_size, with_head=True)

    def embeddings(self, images: Tensor | NDArray[np.uint8], batch_size: int = 500) -> Iterator[Tensor]:
        """What the head sees of one batch after another.

        Args:
            images: (N, 3, H, W), uint8 or float in [0, 1]; may be memory-mapped.

        Yields:
            (b, D) float32 on the CPU, b at most `batch_size`.
        """
        return self._run(images, batch_size, with_head=False)

    def probabilities(self, images: Tensor | NDArray[np.uint8]) -> Tensor:
        """Softmax of the logits.

        Args:
            images: (N, 3, H, W), uint8 or float in [0, 1]; may be memory-mapped.

        Returns:
            (N, K) float32 on the CPU; rows sum to 1.
        """
        empty = torch.empty(0, len(self.classes))
        return torch.cat([empty, *self.logits(images)]).softmax(dim=1)

    def _run(self, images: Tensor | NDArray[np.uint8], batch_size: int, with_head: bool) -> Iterator[Tensor]:
        for start in range(0, len(images), batch_size):
            batch = images[start : start + batch_size]
            # A copy, because PyTorch shares neither memory that is mapped for reading only nor flipped views.
            pixels = batch if isinstance(batch, Tensor) else torch.from_numpy(np.array(batch))
            # Not around the yield: the caller's code between two batches would run in this mode too.
            with torch.inference_mode():
                features = self.model.embed(self.model.feature_maps(self.normalise(pixels)))
                result = self.model.head(features) if with_head else features
            # Cloned outside of the mode, it is an ordinary tensor that the caller may train on.
            yield result.to("cpu", torch.float32).clone()


def model_tensors(model: Classifier) -> dict[str, Tensor]:
    """The weights and buffers of a model by the names they have in a file."""
    return {
        name if name.startswith(PROJECTION) else PREFIX + name: tensor for name, tensor in model.state_dict().items()
    }


def network_metadata(
    *,
    model_name: str,
    width: float,
    dropout: float,
    classes: Sequence[str],
    mean: Sequence[float],
    std: Sequence[float],
    **metadata: Any,
) -> dict[str, Any]:
    """The description `load_network` needs beside the tensors, and whatever else is worth keeping."""
    return {
        **metadata,
        "model": {"name": model_name, "width": width, "dropout": dropout},
        "classes": list(classes),
        "mean": [float(value) for value in mean],
        "std": [float(value) for value in std],
    }


def load_network(path: Path, device: torch.device | str = "cpu") -> Network:
    """A network from a file that holds one, alone or among the other tensors of a checkpoint.

    Raises:
        NetworkError: The file is missing, damaged, holds no network, or one this program cannot build.
    """
    tensors, metadata = load_tensors(path, device, PREFIX)
    try:
        classes = tuple(str(name) for name in metadata["classes"])
        mean, std = _three(metadata["mean"]), _three(metadata["std"])
        name, width, dropout = (metadata["model"][key] for key in ("name", "width", "dropout"))
    except (KeyError, TypeError, ValueError) as error:
        raise NetworkError(f"{path} holds no network, for its description is incomplete ({error}).") from error
    try:
        # Without memory for the weights and without a draw from the random number generator, which may be a training's.
        with torch.device("meta"):
            model = create(name, len(classes), width=width, dropout=dropout, pretrained=False)
        model.load_state_dict({key.removeprefix(PREFIX): tensor for key, tensor in tensors.items()}, assign=True)
    except (TypeError, ValueError) as error:
        raise NetworkError(f"The network in {path} cannot be built: {error}") from error
    except RuntimeError as error:
        raise NetworkError(f"The weights in {path} do not fit the model {name} they are said to be of.") from error
    model = model.to(memory_format=torch.channels_last).eval().requires_grad_(False)
    return Network(model, classes, mean, std, metadata)


def _three(values: Sequence[float]) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in values)
    return red, green, blue
