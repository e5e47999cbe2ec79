"""Weights on disk, and trained networks ready for use."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor
from torch.overrides import TorchFunctionMode

from cifar_core.models import Classifier, create

PREFIX = "model."
"""What the names of a network's tensors start with; a file may hold others beside them, such as an optimiser's."""

DIGEST_FIELD, NO_DIGEST = b'"sha256":"', "0" * 64
"""How the checksum begins in a file's header, and what stands in its place while it is computed."""


class NetworkError(ValueError):
    """A file of weights is missing, damaged, or not one of this program."""


PROJECTION = "projection."
"""What the names of a projection's tensors start with, in a network and in its file, where they are none of PREFIX."""


def save_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any], before: Path | None = None
) -> None:
    """Write tensors, JSON metadata and a checksum to a safetensors file, which appears whole or not at all.

    Args:
        before: Where the file goes that is replaced; without it, it is gone.

    Raises:
        OSError: The file cannot be written, for example because the disk is full.
    """
    # safetensors refuses views of shared memory and keeps no strides, hence a plain copy of each.
    copies = {
        name: tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }
    content = save(copies, {"json": json.dumps(metadata), "sha256": NO_DIGEST})
    at = content.index(DIGEST_FIELD + NO_DIGEST.encode()) + len(DIGEST_FIELD)
    aside = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.partial")
    try:
        with aside.open("wb") as file:
            file.write(memoryview(content)[:at])
            file.write(hashlib.sha256(content).hexdigest().encode())
            file.write(memoryview(content)[at + len(NO_DIGEST) :])
            file.flush()
            os.fsync(file.fileno())
        if before and path.exists():
            path.replace(before)
        aside.replace(path)
        _sync(path.parent)
    except OSError as error:
        # Not the name that it has while it is written, which says nothing to anybody.
        raise OSError(error.errno, f"The weights could not be written ({error.strerror})", str(path)) from error
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
    """Read what `save_tensors` wrote; numbers kept in half precision come back in single.

    Args:
        prefix: Only tensors whose names start with it are returned.

    Raises:
        NetworkError: The file is missing, damaged, or was not written by this program.
    """
    try:
        # At once, as a training may put another file in its place at any time.
        content = path.read_bytes()
        tensors = {
            name: _single(tensor).to(device) for name, tensor in load(content).items() if name.startswith(prefix)
        }
    except FileNotFoundError:
        raise NetworkError(f"There is no file of weights at {path}.") from None
    except OSError as error:
        raise NetworkError(f"The weights in {path} cannot be read: {error.strerror or error}.") from error
    except (SafetensorError, KeyError, ValueError) as error:
        raise NetworkError(f"{path} is damaged, or no safetensors file at all ({error}).") from error
    header = content[8 : 8 + int.from_bytes(content[:8], "little")]
    # Files of the first version have no checksum.
    at = header.find(DIGEST_FIELD) + len(DIGEST_FIELD)
    if at >= len(DIGEST_FIELD):
        whole = hashlib.sha256(content[: 8 + at] + NO_DIGEST.encode())
        whole.update(memoryview(content)[8 + at + len(NO_DIGEST) :])
        if whole.hexdigest().encode() != header[at : at + len(NO_DIGEST)]:
            raise NetworkError(f"{path} is damaged: its checksum is not that of its content.")
    try:
        metadata = json.loads(json.loads(header)["__metadata__"]["json"])
    except (KeyError, ValueError):
        metadata = None
    if not isinstance(metadata, dict):
        raise NetworkError(f"{path} holds tensors, but not the description that this program writes beside them.")
    return tensors, metadata


def _single(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype is torch.float16 else tensor


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

    def looked_at(
        self, images: Tensor | NDArray[np.uint8], layer: str | None = None, batch_size: int = 500
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """What a layer makes of one batch after another, and the logits.

        Args:
            images: (N, 3, H, W), uint8 or float in [0, 1]; may be memory-mapped.
            layer: One of `Classifier.layers`, each of whose channels is averaged over its places; by default what the
                head sees.

        Yields:
            (b, D) and (b, K) float32 on the CPU, b at most `batch_size`.

        Raises:
            NetworkError: There is no such layer.
        """
        if layer is not None and layer not in self.model.layers:
            raise NetworkError(f"There is no layer {layer!r}; there are {', '.join(self.model.layers)}.")
        for start in range(0, len(images), batch_size):
            batch = images[start : start + batch_size]
            pixels = batch if isinstance(batch, Tensor) else torch.from_numpy(np.array(batch))
            with torch.inference_mode():
                maps, taken = self.normalise(pixels), None
                for name, child in self.model.body.named_children():
                    maps = child(maps)
                    if name == layer:
                        taken = maps.mean((2, 3))
                features = self.model.embed(maps)
                logits = self.model.head(features)
                taken = features if taken is None else taken
            yield taken.to("cpu", torch.float32).clone(), logits.to("cpu", torch.float32).clone()

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


class _Undrawn(TorchFunctionMode):
    """Normal distributions are not drawn from.

    Without memory there is nothing to draw into, and torch imports its compiler for it, which takes 1.7 seconds.
    """

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if function.__name__.endswith("normal_"):
            return args[0] if args else (kwargs or {})["tensor"]
        return function(*args, **(kwargs or {}))


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
        with torch.device("meta"), _Undrawn():
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
