"""How unlike the images a network was trained on a new one is, and from where on it is called foreign."""

from __future__ import annotations

import io
import json
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cifar_core.familiarity import unit

if TYPE_CHECKING:
    from cifar_core.networks import Network

FALSE_ALARMS = 0.05
"""The most images like those it was trained on that may be called foreign, fraction."""

CONFIDENCE = 0.99
"""How sure it is that the threshold keeps to `FALSE_ALARMS` on further images, fraction."""

ENERGY, DISTANCE = "energy", "distance"

QUALITY = 75
"""Of the JPEG that each picture is made before it is measured; see `as_jpeg`."""

TRAINING_IMAGES = 10_000
"""That are looked at, at most."""

LAYERS = 6
"""Of a network that are looked at, at most."""

COMPONENTS, PROTOTYPES = 32, 100
"""Directions kept of a layer, and points kept of the embedding: with these, all that is kept takes some 170 kB."""

QUANTILES = 501
"""Of the test images that are kept of each measure."""

ROWS_AT_ONCE = 500

LEAST_SPREAD = 0.02
"""Added to deviations before their logarithm is taken, in units of the layer."""

LEAST_SHARE = 1e-3
"""The smallest variance of a direction, as a share of the mean one: less than that is chance or rounding."""


class StrangenessError(ValueError):
    """A file of what a network knows cannot be read."""


@dataclass(frozen=True, eq=False)
class Gaussian:
    """A normal distribution whose covariance is free in some directions and the same in all others.

    Probabilistic PCA (Tipping and Bishop, 1999): as good as a whole covariance matrix here, and a tenth of its size.

    Args:
        mean: (D,) float32.
        directions: (r, D) float16, orthonormal.
        variances: (r,) float32 along them.
        rest: The variance along all other directions.
    """

    mean: NDArray[np.float32]
    directions: NDArray[np.float16]
    variances: NDArray[np.float32]
    rest: float

    @classmethod
    def fit(cls, values: NDArray[np.floating], components: int = COMPONENTS) -> Gaussian:
        """The most likely one for values (N, D)."""
        from sklearn.decomposition import PCA

        images, width = values.shape
        found = PCA(min(components, max(width // 2, 1), images - 1), random_state=0).fit(values.astype(np.float64))
        least = max(LEAST_SHARE * float(values.var(axis=0).mean()), 1e-12)
        return cls(
            found.mean_.astype(np.float32),
            found.components_.astype(np.float16),
            np.maximum(found.explained_variance_, least).astype(np.float32),
            max(float(found.noise_variance_), least),
        )

    def distances(self, values: NDArray[np.floating]) -> NDArray[np.float64]:
        """(M,) squared Mahalanobis distances of values (M, D)."""
        away = values.astype(np.float64) - self.mean
        along = away @ self.directions.T.astype(np.float64)
        beside = np.maximum((away**2).sum(axis=1) - (along**2).sum(axis=1), 0)
        return (along**2 / self.variances).sum(axis=1) + beside / self.rest


@dataclass(frozen=True, eq=False)
class Strangeness:
    """What is needed to tell how strange a picture is to a network; some 170 kB, without the images.

    Several measures are taken of a picture, of each of which more is stranger: the energy of its logits (Liu et al.,
    2020), its distance to prototypes of the training images in the embedding (as Sun et al., 2022, but to centres of
    them instead of all), and its Mahalanobis distance in each of some layers (Lee et al., 2018), there of the means and
    the deviations of the channels: a page of text differs from photos in the first layers, and not in the last one.

    Each becomes the share p of validation images that are at least as strange, and -2 times the sum of their logarithms
    (Fisher, 1932) is how strange the picture is altogether. Measures depend on each other, so what that sum is for
    images like the known ones is not looked up in a table but taken from the validation images.

    Args:
        layers: The distribution of each layer by its name, in their order.
        prototypes: (P, D) float16, of length 1.
        validation: (V, S) measures of validation images, for S measures: energy, distance, layers.
        test: (Q, S + 1) quantiles of the test images, evenly spaced from 0 to 1: of each measure, and altogether.
        false_alarms: Share of the test images that are called foreign.
        facts: Run, checkpoint, data, numbers of images and so on, as JSON can hold it.
    """

    layers: dict[str, Gaussian]
    prototypes: NDArray[np.float16]
    validation: NDArray[np.float32]
    test: NDArray[np.float32]
    false_alarms: float
    facts: dict[str, Any]

    @property
    def names(self) -> tuple[str, ...]:
        """Of the S measures."""
        return (ENERGY, DISTANCE, *self.layers)

    def measure(self, network: Network, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The measures (M, S) of pictures (M, 3, H, W) as they are; each is made a JPEG first."""
        looked = look(network, as_jpeg(pixels), tuple(self.layers))
        columns: list[NDArray[Any]] = [energy(looked.logits), distances(self.prototypes, looked.features)]
        columns += [layer.distances(looked.layers[name]) for name, layer in self.layers.items()]
        return np.stack(columns, axis=1).astype(np.float32)

    @cached_property
    def _sorted(self) -> NDArray[np.float32]:
        return np.sort(self.validation, axis=0)

    def altogether(self, measures: NDArray[np.floating]) -> NDArray[np.float64]:
        """Fisher's sum (M,) for measures (M, S)."""
        images = len(self._sorted)
        total = np.zeros(len(measures))
        for known, values in zip(self._sorted.T, measures.T, strict=True):
            as_strange = images - np.searchsorted(known, values.astype(np.float32), side="left")
            total -= 2 * np.log((as_strange + 1) / (images + 1))
        return total

    @cached_property
    def threshold(self) -> float:
        """The sum above which a picture is called foreign, from the validation images alone.

        Chosen so that with `CONFIDENCE` at most `FALSE_ALARMS` of further images like them are above it. With fewer
        than some ninety validation images no threshold can promise that; it is then the strangest of them.
        """
        own = np.sort(self.altogether(self.validation))
        return float(own[len(own) - 1 - max(allowed_alarms(len(own)), 0)])

    @property
    def promised(self) -> bool:
        """Whether there are validation images enough for the promise of `threshold`."""
        return allowed_alarms(len(self.validation)) >= 0

    def foreign(self, measures: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Which pictures with these measures (M, S) are unlike anything the network was trained on."""
        return self.altogether(measures) > self.threshold

    def ranks(self, measures: NDArray[np.floating]) -> NDArray[np.float64]:
        """(M, S + 1) share of the test images that are less strange, by each measure and altogether; in [0, 1]."""
        values = np.column_stack([measures, self.altogether(measures)])
        shares = np.linspace(0, 1, len(self.test))
        known = zip(self.test.T, values.T, strict=True)
        return np.stack([np.interp(column, quantiles, shares) for quantiles, column in known], axis=1)

    def content(self) -> bytes:
        """What `load` reads, as an .npz file."""
        arrays: dict[str, Any] = {
            "prototypes": self.prototypes,
            "validation": self.validation,
            "test": self.test,
            "about": json.dumps({"layers": list(self.layers), "alarms": self.false_alarms, "facts": self.facts}),
        }
        for number, layer in enumerate(self.layers.values()):
            arrays[f"mean_{number}"], arrays[f"directions_{number}"] = layer.mean, layer.directions
            arrays[f"variances_{number}"] = np.append(layer.variances, np.float32(layer.rest))
        file = io.BytesIO()
        np.savez_compressed(file, **arrays)
        return file.getvalue()

    @classmethod
    def load(cls, path: Path) -> Strangeness:
        """Read what `content` gave.

        Raises:
            StrangenessError: The file is missing or damaged.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                about = json.loads(str(file["about"]))
                layers = {
                    name: Gaussian(
                        file[f"mean_{number}"],
                        file[f"directions_{number}"],
                        file[f"variances_{number}"][:-1],
                        float(file[f"variances_{number}"][-1]),
                    )
                    for number, name in enumerate(about["layers"])
                }
                return cls(
                    layers=layers,
                    **{name: file[name] for name in ("prototypes", "validation", "test")},
                    false_alarms=float(about["alarms"]),
                    facts=about["facts"],
                )
        # Damage shows itself in any way, from zlib.error to KeyError.
        except Exception:
            raise StrangenessError(f"{path.name} is missing or damaged; compute it again.") from None


# What a network makes of pictures ------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Looked:
    """What a network makes of pictures.

    Args:
        layers: (M, 2 C) by layer: the mean of each channel, and the logarithm of its deviation over the places.
        features: (M, D), what the head sees.
        logits: (M, K).
    """

    layers: dict[str, NDArray[np.float32]]
    features: NDArray[np.float32]
    logits: NDArray[np.float32]


def look(network: Network, pixels: NDArray[np.uint8], layers: tuple[str, ...]) -> Looked:
    """Let a network look at pictures (M, 3, H, W), all of them at once."""
    import torch

    taken = {}
    with torch.inference_mode():
        maps = network.normalise(torch.from_numpy(np.array(pixels)))
        for name, child in network.model.body.named_children():
            maps = child(maps)
            if name in layers:
                deviation, mean = torch.std_mean(maps.float(), dim=(2, 3), correction=0)
                taken[name] = torch.cat([mean, (deviation + LEAST_SPREAD).log()], 1).cpu().numpy()
        features = network.model.embed(maps)
        logits = network.model.head(features)
    return Looked(taken, features.float().cpu().numpy(), logits.float().cpu().numpy())


def as_jpeg(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Pictures (M, 3, H, W) as they are after they were saved as JPEG.

    Copies of CIFAR-10 differ in how they were compressed, and first layers see that: without this, fine colour alone,
    which a JPEG does not keep, would make nearly any photo foreign to a network trained on JPEG files.
    """

    def one(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        file = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0))).save(file, "JPEG", quality=QUALITY)
        return np.asarray(Image.open(file)).transpose(2, 0, 1)

    return np.stack([one(image) for image in np.asarray(pixels)])


def chosen_layers(network: Network) -> tuple[str, ...]:
    """The layers that are looked at: all of them, or `LAYERS` evenly spaced ones up to the last."""
    layers = network.model.layers
    places = np.linspace(0, len(layers) - 1, min(len(layers), LAYERS)).round().astype(int)
    return tuple(layers[place] for place in places)


# What is kept of the images it knows ---------------------------------------------------------------------------------


def learn(
    network: Network, parts: Mapping[str, tuple[NDArray[np.uint8], NDArray[np.int64]]], facts: dict[str, Any]
) -> Generator[tuple[int, int, str], None, Strangeness]:
    """Find out what is strange to a network.

    Args:
        parts: Of "training", "validation" and "test", the images (N, 3, H, W) of a split, which may be memory-mapped,
            and which of them are meant. Distributions and prototypes are those of the training images, the threshold
            comes from the validation images, and the test images only tell how often it is wrong.

    Yields:
        How many images were looked at so far, of how many, and what is done now.
    """
    layers = chosen_layers(network)
    done, total = 0, sum(len(chosen) for _, chosen in parts.values())

    def batches(part: str) -> Iterator[NDArray[np.uint8]]:
        images, chosen = parts[part]
        for start in range(0, len(chosen), ROWS_AT_ONCE):
            yield np.asarray(images[chosen[start : start + ROWS_AT_ONCE]])

    seen = []
    for some in batches("training"):
        seen.append(look(network, as_jpeg(some), layers))
        done += len(some)
        yield done, total, "Looking at training images"
    gaussians = {name: Gaussian.fit(np.concatenate([looked.layers[name] for looked in seen])) for name in layers}
    prototypes = centres(np.concatenate([looked.features for looked in seen]))
    none = np.zeros((0, len(layers) + 2), np.float32)
    learnt = Strangeness(gaussians, prototypes, none, none, 0.0, facts)
    measured: dict[str, NDArray[np.float32]] = {}
    for part in ("validation", "test"):
        found = []
        for some in batches(part):
            found.append(learnt.measure(network, some))
            done += len(some)
            yield done, total, f"Measuring {part} images"
        measured[part] = np.concatenate(found)
    learnt = replace(learnt, validation=measured["validation"])
    own = np.column_stack([measured["test"], learnt.altogether(measured["test"])])
    return replace(
        learnt,
        test=np.quantile(own, np.linspace(0, 1, QUANTILES), axis=0).astype(np.float32),
        false_alarms=float(learnt.foreign(measured["test"]).mean()),
    )


def centres(features: NDArray[np.floating], most: int = PROTOTYPES) -> NDArray[np.float16]:
    """Prototypes of features (N, D): the directions of the centres that k-means finds of their directions."""
    from sklearn.cluster import MiniBatchKMeans

    directions = unit(features.astype(np.float32))
    clusters = MiniBatchKMeans(min(most, -(-len(features) // 10)), n_init=1, random_state=0).fit(directions)
    return unit(clusters.cluster_centers_.astype(np.float32)).astype(np.float16)


def distances(prototypes: NDArray[np.floating], features: NDArray[np.floating]) -> NDArray[np.float32]:
    """How far features (M, D) are from the nearest prototype (P, D), all on the unit sphere: (M,) in [0, 2]."""
    cosines = unit(features.astype(np.float32)) @ unit(prototypes.astype(np.float32)).T
    return np.sqrt(np.clip(2 - 2 * cosines.max(axis=1), 0, 4)).astype(np.float32)


def energy(logits: NDArray[np.floating]) -> NDArray[np.float32]:
    """The energy of logits (M, K): minus the log of the sum of their exponentials (Liu et al., 2020, equation 4)."""
    top = logits.max(axis=1, keepdims=True)
    return -(np.log(np.exp(logits - top).sum(axis=1)) + top[:, 0]).astype(np.float32)


def allowed_alarms(images: int) -> int:
    """How many of so many validation images may lie above a threshold that keeps its promise on others.

    The share of further images above the (m + 1)-th largest of n is distributed as Beta(m + 1, n - m) (Wilks, 1941).

    Returns:
        The most that do; -1 where even none would promise too much.
    """
    from scipy.stats import beta

    counts = np.arange(int(images * FALSE_ALARMS) + 1)
    kept = beta.ppf(CONFIDENCE, counts + 1, images - counts) <= FALSE_ALARMS
    return int(counts[kept].max()) if kept.any() else -1
