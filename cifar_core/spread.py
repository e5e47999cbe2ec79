"""Ways to look at a picture a little differently, which change nothing of what is on it but perhaps the answer."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cifar_core import invariance

SHIFTS = ("as it is", "left", "right", "up", "down")
CORNERS = {"centre": (0.5, 0.5), "top left": (0, 0), "top right": (1, 0), "bottom left": (0, 1), "bottom right": (1, 1)}
CUT = 0.875
"""The side of a small crop, as a fraction of the picture's."""

COUNT = 2 * (len(SHIFTS) + len(CORNERS))


def looks(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A picture as it is, shifted by `invariance.PIXELS`, and cut to `CUT` of its side and enlarged; each flipped too.

    Args:
        pixels: (3, H, W).

    Returns:
        (COUNT, 3, H, W), the picture as it is first.
    """
    shifted = [invariance.view(pixels[None], name)[0] for name in SHIFTS]
    _, height, width = pixels.shape
    picture = Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))
    wide, high = width * CUT, height * CUT
    for across, down in CORNERS.values():
        left, top = across * (width - wide), down * (height - high)
        box = (left, top, left + wide, top + high)
        small = picture.resize((width, height), Image.Resampling.BICUBIC, box=box)
        shifted.append(np.asarray(small).transpose(2, 0, 1))
    upright = np.stack(shifted)
    return np.concatenate([upright, upright[..., ::-1]])
