# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A correlation filter that learns a target while it is tracked.

Colours and gradients of a crop are correlated with what was seen of the target; all of it by
Fourier transforms, so that learning from a frame is a few divisions (Bolme et al., "Visual Object
Tracking using Adaptive Correlation Filters", CVPR 2010, here with several channels).
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from tracker_ros.geometry import Image

Response = NDArray[np.float64]

_RATE = 0.03
"""Share of the newest frame in what is known."""
_REGULAR = 0.03
"""What is added to the spectrum's power, in parts of its mean, against dividing by nothing."""
_PEAK = 0.1
"""Width of the answer that is learnt, as a standard deviation in sizes of the target."""


class OnlineFilter:
    """Of crops whose side is `factor` times that of the target; answers with `cells` a side."""

    def __init__(self, cells: int, factor: float) -> None:
        self._cells = cells
        # 0 at the rim, as the transform takes a crop for one of endlessly many side by side.
        line = np.hanning(cells + 2)[1:-1]
        self._window = np.outer(line, line).astype(np.float32)
        distance = (np.arange(cells) - (cells - 1) / 2) * factor / cells
        peak = np.exp(-0.5 * (distance / _PEAK) ** 2)
        self._wanted = np.fft.rfft2(np.outer(peak, peak))
        self._matched: NDArray[np.complex128] | None = None
        self._power: NDArray[np.float64] = np.zeros_like(self._wanted, np.float64)

    def forget(self) -> None:
        self._matched = None

    def learn(self, crop: Image) -> None:
        """From a crop (S, S, 3) uint8 BGR with the target in its middle."""
        spectra = self._spectra(crop)
        matched = self._wanted * spectra.conj()
        power = (np.abs(spectra) ** 2).sum(axis=0)
        if self._matched is None:
            self._matched, self._power = matched, power
        else:
            self._matched = self._matched + _RATE * (matched - self._matched)
            self._power = self._power + _RATE * (power - self._power)

    def response(self, crop: Image) -> Response:
        """(cells, cells) in [0, 1]: how much the crop looks like the target in its middle there.

        0 before anything was learnt.
        """
        if self._matched is None:
            return np.zeros((self._cells, self._cells))
        spectrum = (self._matched * self._spectra(crop)).sum(axis=0)
        power = self._power + _REGULAR * self._power.mean() + np.finfo(np.float64).tiny
        answer = np.fft.irfft2(spectrum / power, s=self._window.shape)
        return np.clip(answer, 0.0, 1.0)

    def _spectra(self, crop: Image) -> NDArray[np.complex128]:
        """Of colours and of gradients in four directions: (7, cells, cells / 2 + 1)."""
        size = (self._cells, self._cells)
        small = cv2.resize(crop, size, interpolation=cv2.INTER_AREA).astype(np.float32) / 255
        grey = small.mean(axis=2)
        gradients = [cv2.Sobel(grey, cv2.CV_32F, *way, ksize=3) for way in ((1, 0), (0, 1))]
        channels = [small[:, :, place] - small[:, :, place].mean() for place in range(3)]
        for gradient in gradients:
            channels += [np.maximum(gradient, 0), np.maximum(-gradient, 0)]
        return np.fft.rfft2(np.stack(channels) * self._window)
