"""What became of each image over the epochs: when it was learned, how often forgotten, how surely it was known."""

from __future__ import annotations

import numpy as np
import pandas as pd

from cifar_core.logits import Logits

NEVER = -1
"""In place of an epoch that there was none."""


def biographies(logits: Logits) -> pd.DataFrame:
    """A row for each image, from the epochs that are kept.

    Forgetting events are those of Toneva et al. (2019), confidence, variability and correctness those of Swayamdipta et
    al. (2020, section 2). Both look at training images while they are trained on; ours are held out, so that what is
    told is how firmly a network knows images that it never saw.

    Returns:
        index (of the image in its stored split), label, learned (first epoch at which it was right, or `NEVER`),
        for_good (first epoch from which on it was always right, or `NEVER`), forgotten (how often it was right at an
        epoch and wrong at the next one kept), confidence (mean probability of its own class), variability (standard
        deviation of that over the epochs), correctness (share of the epochs at which it was right), right (whether it
        is at the last one).
    """
    right, own, epochs = logits.correct, logits.true_probabilities, logits.epochs
    learned = np.where(right.any(axis=0), epochs[right.argmax(axis=0)], NEVER)
    # How many of the last epochs are right without a break.
    streak = np.where(right.all(axis=0), len(epochs), (~right[::-1]).argmax(axis=0))
    since = epochs[np.minimum(len(epochs) - streak, len(epochs) - 1)]
    return pd.DataFrame(
        {
            "index": logits.images.indices,
            "label": logits.images.labels,
            "learned": learned,
            "for_good": np.where(streak > 0, since, NEVER),
            "forgotten": (right[:-1] & ~right[1:]).sum(axis=0),
            "confidence": own.mean(axis=0, dtype=np.float64),
            "variability": own.std(axis=0, dtype=np.float64),
            "correctness": right.mean(axis=0),
            "right": right[-1],
        }
    )
