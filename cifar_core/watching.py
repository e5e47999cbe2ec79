"""What can be seen of a network at the end of an epoch, and where the time went; looking changes nothing.

No random number is drawn and no weight, buffer or gradient is written, so that a training that is watched is the same
bit for bit. Numbers leave the device once an epoch.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from cifar_core.compute import Compute
from cifar_core.models import Classifier

PARTS = ("data", "forward", "backward", "step")
"""Of a training step: making the batch (order, augmentation, normalisation), network and loss, gradients, and all that
follows from them."""

TIME_EVERY = 50
"""Of so many steps one is timed on a device that works beside the program, as timing makes the program wait for it."""

MOST_ROWS = 40
"""Layers that are told of in one event, spread over the depth of the network."""

MOST_HISTOGRAMS = 12
BINS = 30
REACH = 4.0
"""Deviations to either side of the mean that a histogram shows; what lies farther out counts to its outermost bins."""

SAMPLES = 12
PROBE_BATCH = 64

RULES: dict[type[nn.Module], str] = {
    nn.ReLU: "zero",
    nn.ReLU6: "zero",
    nn.GELU: "never above zero",
    nn.SiLU: "never above zero",
    nn.Hardswish: "never above zero",
    nn.ELU: "never above zero",
    nn.LeakyReLU: "never above zero",
}
"""When a unit counts as dead: its output is never above zero for any of the images at any place. After a ReLU it is
then always zero and learns nothing any more; after the others a little still gets through."""

Item = TypeVar("Item")


class Stopwatch:
    """Seconds that the parts of the training steps take.

    On the CPU each step is timed. Other devices work on while the program prepares what comes next; there every
    `TIME_EVERY`-th step is timed, and the program waits for the device after each part of it.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.reset()

    def reset(self) -> None:
        """Begin to count anew."""
        self.seconds = dict.fromkeys(PARTS, 0.0)
        self.timed_steps = 0
        self._timing = False

    def begin(self, step: int) -> None:
        """A step begins.

        Args:
            step: In its epoch, from 0. The first one, which may still choose how to compute, is not timed beside a
                device.
        """
        self._timing = self._device.type == "cpu" or step % TIME_EVERY == 1
        if self._timing:
            self.timed_steps += 1
            self._since = self._now()

    def lap(self, part: str) -> None:
        """This part of the step is done."""
        if self._timing:
            now = self._now()
            self.seconds[part] += now - self._since
            self._since = now

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        elif self._device.type == "mps":
            torch.mps.synchronize()
        return time.perf_counter()


def class_accuracy(predictions: Tensor, labels: Tensor, classes: int) -> list[float | None]:
    """The share of the images of each class that is told right; None for a class without images.

    Args:
        predictions: (N,) int64.
        labels: (N,) int64 in [0, K).
        classes: K.
    """
    labels = labels.cpu()
    right = predictions.cpu() == labels
    images = torch.bincount(labels, minlength=classes).tolist()
    hits = torch.bincount(labels[right], minlength=classes).tolist()
    return [_brief(hit / count) if count else None for hit, count in zip(hits, images, strict=True)]


def layer_rows(model: nn.Module, gradient_scale: float = 1.0) -> list[dict[str, Any]]:
    """Norms and histograms of the weights and of the gradients that are still there; see `events.Inspected`.

    Layers are convolutions, linear layers and whatever else has a matrix of weights that is learned; biases and norms
    are left out.

    Args:
        gradient_scale: By how much the gradients are too large, where loss scaling left them so.
    """
    weights = [(_layer_name(name), p) for name, p in model.named_parameters() if p.ndim >= 2]
    weights = spread(weights, MOST_ROWS)
    drawn = {name for name, _ in spread(weights, MOST_HISTOGRAMS)}
    rows = []
    for name, parameter in weights:
        gradient = None if parameter.grad is None else parameter.grad.detach().float() / gradient_scale
        row: dict[str, Any] = {
            "name": name,
            "weight_norm": _norm(parameter.detach()),
            "gradient_norm": None if gradient is None else _norm(gradient),
        }
        if name in drawn:
            row["weights"] = histogram(parameter.detach())
            row["gradients"] = None if gradient is None else histogram(gradient)
        rows.append(row)
    return rows


def histogram(values: Tensor) -> dict[str, Any] | None:
    """Counts of values in `BINS` bins of equal width; None where a value is not finite.

    The bins reach from `low` to `high`, the extremes or `REACH` deviations from the mean, whichever is nearer.
    """
    values = values.float().flatten()
    # histc is not there on every device.
    values = values if values.device.type == "cuda" else values.cpu()
    mean, deviation = values.mean(), values.std(correction=0)
    low = torch.maximum(values.amin(), mean - REACH * deviation).item()
    high = torch.minimum(values.amax(), mean + REACH * deviation).item()
    if not torch.isfinite(mean + deviation):
        return None
    counts = torch.histc(values.clamp(low, high), BINS, low, high) if low < high else torch.zeros(BINS)
    if not low < high:
        counts[0] = len(values)
    return {"low": _brief(low), "high": _brief(high), "counts": [int(count) for count in counts.tolist()]}


def probe(model: Classifier, batches: Iterable[Tensor], compute: Compute) -> tuple[Tensor, list[dict[str, Any]]]:
    """What the network says of some images, and which units none of them makes active.

    A unit is a channel of feature maps or of tokens, or one output of a linear layer; `RULES` says when it is dead.

    Args:
        model: In eval mode.
        batches: (b, 3, H, W) each, normalised.

    Returns:
        Probabilities (B, K) float32 on the CPU, and a row for each use of an activation; see `events.Inspected`.
    """
    uses: dict[tuple[str, int], tuple[str, Tensor]] = {}
    counts: dict[str, int] = {}

    def note(name: str, rule: str, layer: nn.Module, inputs: Any, output: Tensor) -> None:
        # A layer may be used more than once in a pass.
        use = counts[name] = counts.get(name, 0) + 1
        unit = output.ndim - 1 if output.ndim == 3 else 1
        active = (output > 0).movedim(unit, 0).flatten(1).any(1)
        before = uses.get((name, use))
        uses[name, use] = (rule, active if before is None else before[1] | active)

    hooks = [
        layer.register_forward_hook(partial(note, _layer_name(name), RULES[type(layer)]))
        for name, layer in model.named_modules()
        if type(layer) in RULES
    ]
    said = []
    try:
        for batch in batches:
            counts.clear()
            with torch.inference_mode(), compute.autocast():
                logits = model(batch.contiguous(memory_format=compute.memory_format))
            said.append(logits.float().softmax(1))
    finally:
        for hook in hooks:
            hook.remove()
    rows = [
        {
            "name": name if use == 1 else f"{name} ({use})",
            "rule": rule,
            "units": len(active),
            "dead": len(active) - int(active.sum()),
        }
        for (name, use), (rule, active) in uses.items()
    ]
    return torch.cat(said).cpu(), spread(rows, MOST_ROWS)


def sample_positions(labels: Tensor, count: int = SAMPLES) -> list[int]:
    """Positions of a few images, always the same, in turn of every class as far as they go.

    Args:
        labels: (N,) int64.
    """
    seen: dict[int, int] = {}
    turns = []
    for position, label in enumerate(labels.tolist()):
        seen[label] = seen.get(label, 0) + 1
        turns.append((seen[label], label, position))
    return [position for *_, position in sorted(turns)[:count]]


def sample_rows(probabilities: Tensor, labels: Tensor, indices: Sequence[int]) -> list[dict[str, Any]]:
    """What the network says of a few images; see `events.Inspected`.

    Args:
        probabilities: (B, K) float32.
        labels: (B,) int64.
        indices: (B,) of the images in their split.
    """
    sure, said = probabilities.max(1)
    return [
        {"index": index, "label": label, "predicted": predicted, "probability": _brief(probability)}
        for index, label, predicted, probability in zip(
            indices, labels.tolist(), said.tolist(), sure.tolist(), strict=True
        )
    ]


def memory(device: torch.device) -> tuple[int, int | None]:
    """Most bytes held so far in main memory, and on the device where it has memory of its own."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    held = peak if sys.platform == "darwin" else peak * 1024
    return held, torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None


def spread(items: Sequence[Item], most: int) -> list[Item]:
    """At most so many of the items, the first and the last among them and the others at even distances."""
    if len(items) <= most:
        return list(items)
    return [items[round(i * (len(items) - 1) / (most - 1))] for i in range(most)]


def _layer_name(path: str) -> str:
    return path.removeprefix("body.").removeprefix("embedding.").removesuffix(".weight")


def _norm(values: Tensor) -> float | None:
    norm = values.float().norm()
    return _brief(norm.item()) if torch.isfinite(norm) else None


def _brief(number: float) -> float:
    """Four digits, which is all that a picture shows, so that an event stays small."""
    return float(f"{number:.4g}")
