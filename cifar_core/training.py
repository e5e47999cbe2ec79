"""Train a classifier; the loop is a generator of events and touches no disk.

Everything random is a function of (seed, step) or (seed, epoch). Therefore nothing but weights, optimiser state and
counters has to be kept to go on from any step, and a resumed training repeats the original bit for bit on one device.
"""

from __future__ import annotations

import copy
import dataclasses
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from cifar_core import watching
from cifar_core.compute import Compute, is_out_of_memory
from cifar_core.config import BEGINS_ANEW, FIELDS, TrainConfig
from cifar_core.contrastive import discriminant, nt_xent, projection
from cifar_core.datasets import DataSet
from cifar_core.distributed import ALONE, Pace, SharedNorms, Team
from cifar_core.events import PROBED, Changed, Epoch, Inspected, Progress, Refused
from cifar_core.models import Classifier
from cifar_core.models.airbench import fit_whitening
from cifar_core.networks import PREFIX, PROJECTION, model_tensors
from cifar_core.optimisers import optimiser, pulled_to_zero
from cifar_core.schedules import learning_rate, steps_of
from cifar_core.subsets import chosen_classes, renumbered, training_indices
from cifar_core.transforms import (
    Augmentation,
    Mixed,
    augment,
    generator_for,
    mix,
    normalisation,
    normalise,
    shrunk,
    turns_of,
)

PROGRESS_SECONDS = 0.5
VALIDATION_BATCH = 500
WHITENING_IMAGES = 5000

PROBE_IMAGES = 5000
"""The most training images that the head is fitted to where it is not trained."""

VALIDATION_DRAWS = -(10**6)
"""Steps of `generator_for` from here downwards are for held-out images; those of the order of epochs end far above."""

TURNS = -(10**9)
"""The step of `generator_for` by which images are mirrored alternately."""

TRAINED = "trained."
"""What the names of the weights in training start with, where a running average of them is what counts."""

_OF_NETWORK = (PREFIX, PROJECTION)

_DECIDING_ORDER = (
    "data",
    "seed",
    "batch_size",
    "train_images",
    "classes",
    "only_selection",
    "without_selection",
    "imbalance",
    "imbalance_ratio",
    "validation_fraction",
    "folds",
    "fold",
)
"""Where these are the same, every step of an epoch sees the same images."""


class Diverged(ArithmeticError):
    """The loss is not a number any more."""


class TooLarge(ValueError):
    """Not even the smallest part of a batch fits into the memory."""


@dataclass(frozen=True)
class Material:
    """The images of a training on its device.

    `train_images` (N, 3, H, W) uint8 and `train_labels` (N,) int64, likewise for validation, and the
    normalisation in force: per-channel `mean` and `std` of pixels in [0, 1].
    """

    train_images: Tensor
    train_labels: Tensor
    validation_images: Tensor
    validation_labels: Tensor
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    validation_indices: Sequence[int] | None = None
    """Of the validation images in the training split, where they are of one."""


def material(
    config: TrainConfig, data: DataSet, device: torch.device, allowed: NDArray[np.bool_] | None = None
) -> Material:
    """Cut the training split into training and validation images and bring both to the device.

    The validation images are chosen first, from all of the split and by a seed of their own, so that runs with other
    seeds or fewer training images are judged on the same images.

    Args:
        allowed: (N,) which images of the training split may be trained on, where the settings name a selection.

    Raises:
        ValueError: There are too few images for the settings.
    """
    known = data.info.classes
    kept, held_out = training_indices(config, data, allowed)
    labels = renumbered(np.asarray(data.train.labels), known, chosen_classes(config.classes, known))

    def on_device(array: Any, indices: Any) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array[indices])).to(device)

    mean, std = normalisation(config.normalisation, data.info.mean, data.info.std)
    return Material(
        on_device(data.train.images, kept),
        on_device(labels, kept),
        on_device(data.train.images, held_out),
        on_device(labels, held_out),
        mean,
        std,
        held_out.tolist(),
    )


class Training:
    """A training that can be looked at, kept and gone on with at every event it yields.

    Args:
        model: Is moved to the device and trained in place.
        planned: Changes of settings by the step from which they are in force, to repeat what was once done by hand.
        team: The processes that train together. Each holds all images and makes the same calls in the same order, and
            each yields the same events.
    """

    def __init__(
        self,
        config: TrainConfig,
        model: Classifier,
        images: Material,
        compute: Compute,
        planned: Mapping[int, Mapping[str, Any]] | None = None,
        team: Team = ALONE,
    ) -> None:
        self.config = config
        self.team = team
        self.images = images
        self.compute = compute
        self.model = model.to(compute.device).to(memory_format=compute.memory_format)
        if self.without_labels:
            self.model.head.requires_grad_(False)
            self.model.projection = projection(self.model.head.in_features).to(compute.device)
        elif config.frozen:
            self.model.freeze()
        self._network = torch.compile(self.model) if config.compile else self.model
        """The same weights, run by kernels made for them where that is asked for."""
        fit_whitening(self.model, normalise(images.train_images[:WHITENING_IMAGES], images.mean, images.std))
        self.optimizer = optimiser(config, model, compute.dtype)
        self.average = copy.deepcopy(self.model).requires_grad_(False) if config.ema else None
        """Running average of the weights, where one is asked for: what is validated and kept as best."""
        self.scaler = compute.grad_scaler()
        self._norms = SharedNorms(self.model, team) if config.sync_batchnorm and team.size > 1 else None
        self._pace = Pace(team)
        count = len(images.train_labels)
        self.steps_per_epoch = steps_of(count, config.batch_size)
        self.step = 0
        self.seconds = 0.0
        self.best_accuracy = -1.0
        self.validation_losses: list[float] = []
        self._patient_from = 0
        """Epochs before these do not try the patience: those of a parent, and those after which more were asked for."""
        self.validation_logits = torch.zeros(0, model.head.out_features)
        """(N, C) float32 of the last validation, on the device; none before the first."""
        self._sums = torch.zeros(2, device=compute.device)
        """Loss and hits, summed over the images of this epoch so far; of this process since the team last met, and on
        the leader also of all before."""
        self._seen = 0
        """Images of this epoch so far."""
        self._batch_images = 0
        """In the batch under way, on all processes together."""
        self._epoch_seconds = 0.0
        """Training seconds of this epoch so far."""
        self._validation_seconds = 0.0
        """Of the last validation; 0 before the first."""
        self._paced_from = (0, 0.0)
        """The step and the seconds from which on the pace is this training's own, not its parent's."""
        self._stopwatch = watching.Stopwatch(compute.device)
        self._gradient_scale = 1.0
        """Of the gradients as the last step of an epoch leaves them."""
        self._planned = {step: dict(values) for step, values in (planned or {}).items()}
        self._wanted: dict[str, Any] = {}
        self._halved: Changed | None = None
        """What the last step changed by itself, if it did."""
        self._buffers = [torch.empty_like(buffer) for buffer in self.model.buffers()]
        """Room for the running statistics of batch norm as they were before a step."""

    @property
    def without_labels(self) -> bool:
        """Whether it learns to recognise views of one image, not classes."""
        return self.config.objective == "simclr"

    @property
    def judged(self) -> Classifier:
        """The network that is validated and kept as best."""
        return self.average or self.model

    @property
    def has_stalled(self) -> bool:
        """Whether the validation loss has not become better for longer than the settings have patience."""
        losses, patience = self.validation_losses[self._patient_from :], self.config.stop_patience
        return bool(patience and losses and len(losses) - 1 - losses.index(min(losses)) >= patience)

    @property
    def epoch(self) -> float:
        """Epochs done, with a fraction."""
        return self.step / self.steps_per_epoch

    def change(self, values: Mapping[str, Any]) -> None:
        """Ask for other settings, in force from the next step on; an event will say so.

        Raises:
            ValueError: A setting is unknown, cannot be changed while a run trains, or its value is bad.
        """
        self.config.changed({**self._wanted, **values})
        if values.get("epochs", math.inf) < math.ceil(self.epoch):
            raise ValueError(f"epochs must be at least {math.ceil(self.epoch)}, as the run is in that epoch already.")
        self._wanted.update(values)

    def _changes(self) -> Iterator[Changed | Refused]:
        values = {**self._planned.pop(self.step, {}), **self._wanted}
        for later in self._planned.values():
            # What is wanted now is wanted instead of what was once put in force after this step.
            for name in self._wanted:
                later.pop(name, None)
        asked, self._wanted = bool(self._wanted), {}
        before = {name: getattr(self.config, name) for name in values}
        if values == before:
            if asked:
                yield Refused(message="What was asked for is in force already.")
            return
        self.config = self.config.changed(values)
        self._put_in_force()
        if values.get("epochs", 0) > before.get("epochs", math.inf):
            self._patient_from = len(self.validation_losses)
        if self.team.size > 1:
            # The leader may keep its state now, with the figures of all.
            self._totals()
        yield Changed(step=self.step, epoch=self.epoch, values=values, before=before)

    def _put_in_force(self) -> None:
        """Bring model and optimiser in line with the settings; the learning rate follows at each step."""
        self.model.set_dropout(self.config.dropout or 0.0)
        for group in self.optimizer.param_groups:
            group["weight_decay"] = self.config.weight_decay
            if "momentum" in group:
                group["momentum"] = self.config.momentum
            if "nesterov" in group:
                group["nesterov"] = self.config.nesterov and self.config.momentum > 0

    def events(self) -> Iterator[Progress | Epoch | Inspected | Changed | Refused]:
        """Train to the last epoch, yielding a sign of life about twice a second and a summary after each epoch.

        The caller stops by not asking for the next event, and pauses by asking later: time between two events is not
        counted.

        Raises:
            Diverged: The training or the validation loss is not finite.
        """
        while True:
            # Here too, as an epoch more may be asked for in the last validation.
            yield from self._changes()
            if len(self.validation_losses) >= self.config.epochs or self.has_stalled:
                return
            # A training that was stopped during a validation has its steps behind it.
            if self.step < (len(self.validation_losses) + 1) * self.steps_per_epoch:
                yield from self._train_epoch()
            yield from self._validate()

    def _train_epoch(self) -> Iterator[Progress | Changed | Refused]:
        images, seed = self.images, self.config.seed
        epoch, first = divmod(self.step, self.steps_per_epoch)
        count = len(images.train_labels)
        size = min(self.config.batch_size, count)
        order = torch.randperm(count, generator=generator_for(seed, -1 - epoch))
        alternation = turns_of(count, epoch, generator_for(seed, TURNS))[order].split(size)
        batches = list(zip(order.to(self.compute.device).split(size), alternation, strict=True))
        self.model.train()
        since, before = time.perf_counter(), self._totals()
        for chosen, turns in batches[first : self.steps_per_epoch]:
            away = time.perf_counter()
            yield from self._changes()
            since += time.perf_counter() - away
            self._stopwatch.begin(self.step % self.steps_per_epoch)
            config = self.config
            draws = generator_for(seed, self.step)
            total = self._batch_images = len(chosen)
            rows: slice | Tensor = self.team.rows(total)
            if self.without_labels:
                # Two views of each image: the first halves of the batch and of the draws, and the second.
                chosen = chosen.repeat(2)
                rows = torch.arange(2 * total).view(2, -1)[:, rows].flatten()
            labels = images.train_labels[chosen]
            how = Augmentation.from_config(config)
            alternating = turns if how.flip_mode == "alternating" and not self.without_labels else None
            mixup, cutmix = (0.0, 0.0) if self.without_labels else (config.amount("mixup"), config.amount("cutmix"))
            if mixup or cutmix:
                # Images are mixed with any others of the batch, so that all are needed.
                batch = augment(images.train_images.index_select(0, chosen), how, draws, turns=alternating)
                mixed = mix(batch, labels, mixup, cutmix, draws).part(rows)
            else:
                batch = augment(images.train_images.index_select(0, chosen), how, draws, rows, alternating)
                mixed = mix(batch, labels[rows], 0.0, 0.0, draws)
            fed = mixed.images
            if self.step < self._early_steps:
                fed = shrunk(fed, config.early_size)
            # Dropout draws from the device's own generator; other rows must not drop what these do.
            own = draws.initial_seed() + (self.team.rank if self.team.shares(total) else 0)
            fed = normalise(fed, images.mean, images.std)
            self._stopwatch.lap("data")
            self._learn(fed, mixed, own & 0x7FFF_FFFF)
            self.step += 1
            if self._halved:
                yield self._halved
                self._halved = None
            elapsed = time.perf_counter() - since
            if self._is_due(elapsed, first=self.step == 1):
                now = self._totals()
                loss, hits, seen = (new - old for new, old in zip(now, before, strict=True))
                self._epoch_seconds += time.perf_counter() - since
                yield self._progress("training", loss / seen, hits / seen, seen / elapsed)
                before, since = now, time.perf_counter()
        self._totals()  # Waits for the device, so that the clock tells the truth.
        self._epoch_seconds += time.perf_counter() - since

    @property
    def _early_steps(self) -> int:
        """The steps at first that are on smaller images."""
        config = self.config
        return math.ceil(config.early_share * config.epochs * self.steps_per_epoch) if config.early_size else 0

    def _work(self, first: int, end: int) -> float:
        """What the steps from `first` to before `end` cost, in steps on images of full size: as many as the pixels."""
        height, width = self.images.train_images.shape[2:]
        smaller = max(min(end, self._early_steps) - first, 0)
        return end - first - smaller * (1 - self.config.early_size**2 / (height * width))

    def _rate(self) -> float:
        """The learning rate of the next step."""
        return learning_rate(self.config, self.step, self.steps_per_epoch, self.validation_losses)

    def _is_due(self, elapsed: float, first: bool = False) -> bool:
        """Whether to give a sign of life; all of a team do so at the same moment, and meet there."""
        if self.team.size > 1:
            return self._pace.due(PROGRESS_SECONDS)
        return first or elapsed >= PROGRESS_SECONDS

    def _learn(self, batch: Tensor, mixed: Mixed, seed: int) -> None:
        config, total = self.config, self._batch_images
        if self._norms:
            self._norms.on = self.team.shares(total)
        rate = self._rate()
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        loss, hits = self._gradients(batch, mixed, seed)
        self.team.add_up(p.grad for p in self.model.parameters() if p.grad is not None)
        if config.l1 or config.clip_norm:
            self.scaler.unscale_(self.optimizer)
        if config.l1:
            pulled_to_zero(self.model.parameters(), config.l1)
        if config.clip_norm:
            nn.utils.clip_grad_norm_(self.model.parameters(), config.clip_norm)
        self.scaler.step(self.optimizer)
        if self.scaler.is_enabled() and (self.step + 1) % self.steps_per_epoch == 0:
            # Fused optimisers take scaled gradients and leave them so.
            kept = getattr(self.optimizer, "_step_supports_amp_scaling", False) and not (config.l1 or config.clip_norm)
            self._gradient_scale = self.scaler.get_scale() if kept else 1.0
        self.scaler.update()
        if self.average:
            self._take_in_average()
        self._sums[0] += loss
        self._sums[1] += hits
        self._seen += total
        self._stopwatch.lap("step")

    def _gradients(self, batch: Tensor, mixed: Mixed, seed: int) -> tuple[Tensor, Tensor]:
        """Give all weights the gradient of the batch's mean loss, in parts that are halved until they fit into memory.

        Args:
            batch: (B, 3, H, W) normalised.
            seed: Of what the network itself draws.

        Returns:
            Loss and hits, summed over the images.
        """
        buffers = list(self.model.buffers())
        if buffers:
            torch._foreach_copy_(self._buffers, buffers)
        while True:
            whole = self.without_labels or not self.config.images_at_once
            at_once = len(batch) if whole else min(self.config.images_at_once, len(batch))
            try:
                return self._added_up(batch, mixed, seed, at_once)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
            # Outside of the handler, as the error itself keeps what had been computed in memory.
            self._halve(at_once)
            if buffers:
                torch._foreach_copy_(buffers, self._buffers)

    def _added_up(self, batch: Tensor, mixed: Mixed, seed: int, at_once: int) -> tuple[Tensor, Tensor]:
        config, total = self.config, self._batch_images
        weight = self.team.weight(total)
        counted = weight * total
        torch.manual_seed(seed)
        self.optimizer.zero_grad(set_to_none=True)
        loss_sum, hits = torch.zeros(2, device=self.compute.device)
        if self._norms and self.team.shares(total):
            sizes = even_part_sizes(len(batch), total, self.team.size, at_once)
        else:
            sizes = part_sizes(len(batch), at_once)
        for part, about in zip(batch.split(sizes), mixed.parts(sizes), strict=True):
            share = len(part) / len(batch)
            ready = part.contiguous(memory_format=self.compute.memory_format)
            with self.compute.autocast():
                outputs = self.model.project(ready) if self.without_labels else self._network(ready)
            if self.without_labels:
                if self.team.shares(total):
                    # Each process compares all views, and sends back through its own what those have to do with it.
                    outputs = torch.cat([self.team.gather(views, total) for views in outputs.float().chunk(2)])
                    weight, counted = 1.0, total / self.team.size
                loss, found = nt_xent(outputs, config.temperature)
            else:
                # Cross-entropy in float32: its logarithms lose too much in 16 bits.
                loss = about.mean(partial(F.cross_entropy, outputs.float(), label_smoothing=config.label_smoothing))
                found = about.mean(partial(_accuracy, outputs))
            self._stopwatch.lap("forward")
            self.scaler.scale(loss * (weight * share)).backward()
            self._stopwatch.lap("backward")
            with torch.no_grad():
                loss_sum += loss * (counted * share)
                hits += found * (counted * share)
        return loss_sum, hits

    def _halve(self, at_once: int) -> None:
        """Compute half as many images at once from this step on.

        Raises:
            TooLarge: It is as few as can be.
        """
        if self.team.size > 1:
            raise TooLarge(
                f"There is not enough memory for the {at_once} images that one process computes at once; choose a "
                "smaller batch size, more processes, or images_at_once."
            )
        if self.without_labels:
            raise TooLarge(
                f"There is not enough memory for a batch of {at_once // 2} images, which SimCLR compares with each "
                "other and cannot compute in parts; choose a smaller batch size."
            )
        normed = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in self.model.modules())
        # Of a single image batch norm has no variance.
        fewest = 2 if normed else 1
        if at_once <= fewest:
            raise TooLarge(
                f"There is not enough memory, even for {fewest} image{'s' if normed else ''} at once; choose a smaller "
                "width or another model, or end what else uses the device."
            )
        half = max(at_once // 2, fewest)
        before = self._halved.before if self._halved else {"images_at_once": self.config.images_at_once}
        self.config = self.config.changed({"images_at_once": half})
        reason = (
            f"There was not enough memory for {at_once} images at once, so from now on {half} are computed together "
            "and their gradients added up to the same step"
        )
        reason += f"; batch norm sees only {half} images at a time." if normed else "."
        self._halved = Changed(
            step=self.step, epoch=self.epoch, values={"images_at_once": half}, before=before, reason=reason
        )
        if self.compute.device.type != "cpu":
            getattr(torch, self.compute.device.type).empty_cache()

    def _take_in_average(self) -> None:
        """Move the running average towards the weights; at first quickly, as it begins with untrained ones."""
        assert self.average is not None
        share = 1 - min(self.config.ema, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for old, new in zip(self.average.state_dict().values(), self.model.state_dict().values(), strict=True):
                if old.is_floating_point():
                    old.lerp_(new, share)
                else:
                    old.copy_(new)

    def _totals(self) -> tuple[float, float, int]:
        """Loss, hits and images of this epoch so far, of the whole team."""
        self.team.add_up([self._sums])
        loss, hits = self._sums.tolist()
        if not self.team.leads:
            self._sums.zero_()
        if not math.isfinite(loss):
            raise self._diverged(f"The training loss stopped being a number in epoch {int(self.epoch) + 1}")
        return loss, hits, self._seen

    def _diverged(self, what: str) -> Diverged:
        advice = [f"a learning rate below {self.config.learning_rate:g}"]
        if not self.config.clip_norm:
            advice.append("a clip norm of 1")
        if self.compute.dtype is not torch.float32:
            advice.append("precision float32 in a new run")
        return Diverged(f"{what}: the steps are too large. Try {' or '.join(advice)}.")

    def _validate(self) -> Iterator[Progress | Epoch | Inspected | Changed | Refused]:
        images = self.images
        train_loss, train_accuracy, seen = self._totals()
        train_loss, train_accuracy, speed = train_loss / seen, train_accuracy / seen, seen / self._epoch_seconds
        done, count = 0, len(images.validation_labels)
        began, away = time.perf_counter(), 0.0
        loss = torch.zeros((), device=self.compute.device)
        said = torch.zeros(count, self.model.head.out_features, device=self.compute.device)
        judged = self.judged.eval()
        # Running statistics without shared norms are those of the leader's rows.
        self.team.copy(judged.buffers())
        size = min(self.config.images_at_once or VALIDATION_BATCH, VALIDATION_BATCH)
        if self.without_labels:
            self._fit_head()
            # The more views to choose from, the larger the loss; as many as in training make the two alike.
            size = self.config.batch_size
        shown = began
        pairs = zip(
            images.validation_images.split(size * self.team.size),
            images.validation_labels.split(size * self.team.size),
            strict=True,
        )
        for all_images, all_labels in pairs:
            rows = self.team.part(len(all_labels))
            if self.without_labels:
                rows = slice(self.team.rank * size, (self.team.rank + 1) * size)
            batch, labels = all_images[rows], all_labels[rows]
            if len(labels):
                with torch.inference_mode(), self.compute.autocast():
                    ready = normalise(batch, images.mean, images.std)
                    logits = judged(ready.contiguous(memory_format=self.compute.memory_format)).float()
                    if self.without_labels:
                        loss += self._contrast(batch, done + rows.start) * len(labels)
                    else:
                        loss += F.cross_entropy(logits, labels, reduction="sum")
                    first = done + rows.start
                    said[first : first + len(labels)] = logits
            done += len(all_labels)
            now = time.perf_counter()
            if self._is_due(now - shown):
                spent = now - began - away
                left = spent / done * (count - done)
                yield self._progress("validation", train_loss, train_accuracy, speed, spent + left, left)
                if not self.without_labels:
                    # What is asked for meanwhile holds from the next step, and is said at once; without labels the
                    # validation itself depends on the settings.
                    yield from self._changes()
                shown = time.perf_counter()
                away += shown - now
        # Each process has predicted a part, and the others have zeros there.
        self.team.add_up([said])
        self.team.add_up([loss])
        predictions = said.argmax(1)
        validation_loss = loss.item() / count
        validation_accuracy = (predictions == images.validation_labels).sum().item() / count
        if not math.isfinite(validation_loss):
            # The last step spoilt the weights; the training loss was computed before it.
            raise self._diverged(f"The validation loss is not a number after epoch {round(self.epoch)}")
        self._validation_seconds = time.perf_counter() - began - away
        self.validation_logits = said
        # Before what the epoch comes to, so that a worker that dies in between repeats both.
        yield self.inspected(predictions)
        self.validation_losses.append(validation_loss)
        best = validation_accuracy > self.best_accuracy
        self.best_accuracy = max(self.best_accuracy, validation_accuracy)
        self.seconds += self._epoch_seconds
        self._sums.zero_()
        self._seen, self._epoch_seconds = 0, 0.0
        self._stopwatch.reset()
        progress = self._progress("training", train_loss, train_accuracy, speed)
        yield Epoch(
            epoch=round(self.epoch),
            step=self.step,
            train_loss=train_loss,
            train_accuracy=train_accuracy,
            validation_loss=validation_loss,
            validation_accuracy=validation_accuracy,
            learning_rate=progress.learning_rate,
            images_per_second=speed,
            seconds=self.seconds,
            seconds_left=progress.seconds_left or 0.0,
            best=best,
        )

    @torch.inference_mode()
    def _fit_head(self) -> None:
        """Set the head, which learning without labels leaves alone, to the best linear classifier of the features."""
        images, judged = self.images, self.judged
        count = len(images.train_labels)
        # Evenly spread, as a folder's images are sorted by class.
        chosen = torch.linspace(0, count - 1, min(count, PROBE_IMAGES), dtype=torch.float64).long()
        chosen = chosen.to(self.compute.device)
        parts = []
        for part in chosen.split(VALIDATION_BATCH):
            ready = normalise(images.train_images[part], images.mean, images.std)
            with self.compute.autocast():
                maps = judged.feature_maps(ready.contiguous(memory_format=self.compute.memory_format))
                parts.append(judged.embed(maps).float())
        features = torch.cat(parts)
        if not features.isfinite().all():
            return  # The validation loss will say it.
        weight, bias = discriminant(features, images.train_labels[chosen], judged.head.out_features)
        self.team.copy([weight, bias])
        # Of the weights in training too, or the running average would move away from it.
        for model in (self.model, judged):
            model.head.weight.copy_(weight)
            model.head.bias.copy_(bias)

    def _contrast(self, batch: Tensor, place: int) -> Tensor:
        """The loss of held-out images without labels; each is augmented alike at every validation.

        Args:
            place: Of the first one among the held-out images.
        """
        images, config = self.images, self.config
        draws = generator_for(config.seed, VALIDATION_DRAWS - place)
        views = augment(batch.repeat(2, 1, 1, 1), Augmentation.from_config(config), draws)
        ready = normalise(views, images.mean, images.std)
        projected = self.judged.project(ready.contiguous(memory_format=self.compute.memory_format))
        return nt_xent(projected, config.temperature)[0]

    def inspected(self, predictions: Tensor) -> Inspected:
        """A look at the network that has just been validated, and at the last step's gradients if they are there."""
        images, labels = self.images, self.images.validation_labels.cpu()
        shown = watching.sample_positions(labels)
        probed = shown + watching.spread(range(len(labels)), PROBED)
        positions = torch.tensor(probed, device=self.compute.device).split(watching.PROBE_BATCH)
        batches = (normalise(images.validation_images[chosen], images.mean, images.std) for chosen in positions)
        probabilities, dead = watching.probe(self.judged.eval(), batches, self.compute)
        numbers = images.validation_indices or range(len(labels))
        memory, device_memory = watching.memory(self.compute.device)
        return Inspected(
            epoch=round(self.epoch),
            step=self.step,
            class_accuracy=watching.class_accuracy(predictions, labels, self.model.head.out_features),
            layers=watching.layer_rows(self.model, self._gradient_scale),
            dead=dead,
            samples=watching.sample_rows(probabilities[: len(shown)], labels[shown], [numbers[i] for i in shown]),
            seconds={part: round(seconds, 4) for part, seconds in self._stopwatch.seconds.items()},
            timed_steps=self._stopwatch.timed_steps,
            memory=memory,
            device_memory=device_memory,
        )

    def _progress(
        self,
        phase: str,
        loss: float,
        accuracy: float,
        speed: float,
        per_validation: float | None = None,
        validation_left: float | None = None,
    ) -> Progress:
        last_step = max(self.step - 1, 0)
        known_then = self.validation_losses[: last_step // self.steps_per_epoch]
        since_step, since_seconds = self._paced_from if self.step > self._paced_from[0] else (0, 0.0)
        # Each step on images of full size.
        per_step = (self.seconds + self._epoch_seconds - since_seconds) / max(self._work(since_step, self.step), 1e-9)
        if per_validation is None:
            # Before the first one: it goes forward only, which is about a third of a training step.
            images = self.images
            ratio = len(images.validation_labels) / len(images.train_labels)
            per_validation = self._validation_seconds or per_step * self.steps_per_epoch * ratio / 3
        validations = self.config.epochs - len(self.validation_losses)
        if validation_left is None:
            validation_left = per_validation if validations else 0.0
        return Progress(
            phase=phase,
            epoch=self.epoch,
            step=self.step,
            train_loss=loss,
            train_accuracy=accuracy,
            learning_rate=learning_rate(self.config, last_step, self.steps_per_epoch, known_then),
            images_per_second=speed,
            seconds_left=self._work(self.step, self.config.epochs * self.steps_per_epoch) * per_step
            + max(validations - 1, 0) * per_validation
            + validation_left,
        )

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """All that is needed to go on from here: tensors by name, and counters that JSON can hold.

        Raises:
            Diverged: There are weights that are not numbers, from which nothing can go on.
        """
        # What a reader of the file takes for the network are the weights that were validated.
        tensors = model_tensors(self.judged)
        if self.average:
            tensors |= {TRAINED + name: tensor for name, tensor in self.model.state_dict().items()}
        for index, remembered in self.optimizer.state_dict()["state"].items():
            for name, value in remembered.items():
                if value is not None:
                    tensors[f"optimizer.{index}.{name}"] = torch.as_tensor(value)
        numbers = [tensor.isfinite().all() for tensor in tensors.values()]
        if not torch.stack([number.to(self.compute.device) for number in numbers]).all():
            raise self._diverged(f"The weights stopped being numbers in epoch {int(self.epoch) + 1}")
        tensors["sums"] = self._sums
        counters = {
            "step": self.step,
            "config": dataclasses.asdict(self.config),
            "optimizer": self.config.optimizer,
            "seen": self._seen,
            "seconds": self.seconds,
            "epoch_seconds": self._epoch_seconds,
            "validation_seconds": self._validation_seconds,
            "best_accuracy": self.best_accuracy,
            "validation_losses": self.validation_losses,
            "patient_from": self._patient_from,
            "paced_from": self._paced_from,
            "scaler": self.scaler.state_dict(),
        }
        return tensors, counters

    def fork(self, tensors: dict[str, Tensor], counters: dict[str, Any]) -> None:
        """Go on from a `state` of another run with the settings of this one.

        The weights, the epochs done and the validation losses are the other run's; what the optimiser remembers too,
        where it is the same optimiser. With another one of the settings of `BEGINS_ANEW` only the weights are, and with
        another objective those before the head.

        Raises:
            ValueError: The state is of another model.
        """
        config, steps_per_epoch = self.config, self.steps_per_epoch
        before = counters.get("config", {})
        changed = {name for name in BEGINS_ANEW if before.get(name, FIELDS[name].default) != getattr(config, name)}
        if changed:
            self._take_weights(tensors, with_head="objective" not in changed)
            return
        # A parent without a running average has its weights once.
        once = {TRAINED + name.removeprefix(PREFIX): t for name, t in tensors.items() if name.startswith(_OF_NETWORK)}
        tensors = once | tensors
        try:
            self.restore(tensors, {**counters, "config": dataclasses.asdict(config)})
        except ValueError:
            without = {name: tensor for name, tensor in tensors.items() if not name.startswith("optimizer.")}
            self.restore(without, {**counters, "config": dataclasses.asdict(config), "step": 0})
        self.best_accuracy = -1.0
        self._patient_from = len(self.validation_losses)
        self._validation_seconds = 0.0
        if all(before.get(name, FIELDS[name].default) == getattr(config, name) for name in _DECIDING_ORDER):
            self.step = int(counters["step"])
        else:
            # In whole epochs, as the steps of one are others here.
            self.step = min(len(self.validation_losses), config.epochs) * steps_per_epoch
            self._sums.zero_()
            self._seen, self._epoch_seconds = 0, 0.0
        self._paced_from = (self.step, self.seconds + self._epoch_seconds)

    def _take_weights(self, tensors: dict[str, Tensor], with_head: bool) -> None:
        weights = {name: tensor for name, tensor in tensors.items() if name.startswith(PREFIX)}
        if not with_head:
            weights = {name: tensor for name, tensor in weights.items() if not name.startswith(PREFIX + "head.")}
        for model in {self.model, self.judged}:
            try:
                # What is not taken stays as it began.
                _load(model, model_tensors(model) | weights, PREFIX)
            except RuntimeError as error:
                raise ValueError(
                    "The checkpoint does not fit the settings of the run: its weights are of another model."
                ) from error

    def restore(self, tensors: dict[str, Tensor], counters: dict[str, Any]) -> None:
        """Go on from a `state`.

        Raises:
            ValueError: The state is of another model or optimiser.
        """
        try:
            # The first versions did not write all of them.
            changed = counters.get("config", {})
            self.config = self.config.changed(
                {name: changed[name] for name, field in FIELDS.items() if field.metadata["live"] and name in changed}
            )
            self._put_in_force()
            pairs = [(self.judged, PREFIX)] + ([(self.model, TRAINED)] if self.average else [])
            for model, prefix in pairs:
                _load(model, tensors, prefix)
            parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
            remembered: dict[int, dict[str, Tensor]] = {}
            for name, tensor in tensors.items():
                if name.startswith("optimizer."):
                    _, index, slot = name.split(".", 2)
                    # Fused optimisers go through the memory of weight and slot side by side: both need one order.
                    laid_out = torch.empty_like(parameters[int(index)]).copy_(tensor) if tensor.dim() else tensor
                    remembered.setdefault(int(index), {})[slot] = laid_out
            if remembered and counters.get("optimizer", self.config.optimizer) != self.config.optimizer:
                raise ValueError("its steps are of another optimiser")
            self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": remembered})
            self._sums.copy_(tensors["sums"] if self.team.leads else torch.zeros(2))
            self.step = int(counters["step"])
            self._seen = int(counters["seen"])
            self.seconds = float(counters["seconds"])
            self._epoch_seconds = float(counters.get("epoch_seconds", 0.0))
            self._validation_seconds = float(counters.get("validation_seconds", 0.0))
            self.best_accuracy = float(counters["best_accuracy"])
            self.validation_losses = [float(loss) for loss in counters["validation_losses"]]
            self._patient_from = int(counters.get("patient_from", 0))
            step, seconds = counters.get("paced_from", (0, 0.0))
            self._paced_from = int(step), float(seconds)
            if counters["scaler"]:
                self.scaler.load_state_dict(counters["scaler"])
        except (LookupError, RuntimeError, TypeError, ValueError) as error:
            if isinstance(error, RuntimeError):
                why = "its weights are of another model"
            else:
                why = f"it has no {error}" if isinstance(error, LookupError) else f"{error}"
            raise ValueError(f"The checkpoint does not fit the settings of the run: {why}.") from error


def _load(model: Classifier, tensors: Mapping[str, Tensor], prefix: str) -> None:
    """Fill a model from tensors named with a prefix; those of its projection have none in a file of a network."""
    names = {name: name.removeprefix(prefix) for name in tensors if name.startswith(prefix)}
    if prefix == PREFIX:
        names |= {name: name for name in tensors if name.startswith(PROJECTION)}
    model.load_state_dict({name: tensors[kept] for kept, name in names.items()})


def _accuracy(logits: Tensor, labels: Tensor) -> Tensor:
    return (logits.argmax(1) == labels).float().mean()


def part_sizes(count: int, at_once: int) -> list[int]:
    """How many images each part of a batch has; none has a single one unless all have, for the sake of batch norm."""
    sizes = [at_once] * (count // at_once) + ([count % at_once] if count % at_once else [])
    if len(sizes) > 1 and sizes[-1] == 1 and at_once > 1:
        sizes[-2:] = [sizes[-2] + 1]
    return sizes


def even_part_sizes(count: int, total: int, processes: int, at_once: int) -> list[int]:
    """Likewise for a process's share of a batch, with as many parts on every process, as shared norms meet in each.

    Args:
        count: Of the images of this process; that of another one differs by one at most.
        total: Of the images of the batch.
    """
    parts = len(part_sizes(math.ceil(total / processes), max(at_once, 2)))
    return [count // parts + (part < count % parts) for part in range(parts)]
