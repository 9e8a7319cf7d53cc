# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What a network looks at, drawn over the image: attention, response, distributions of edges."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from tracker_ros.geometry import Box, Image
from tracker_ros.runtime.attention import AttentionProbe
from tracker_ros.trackers import Tracker, TrackerError
from tracker_ros.trackers.insight import Insight

LAYERS = ('response', 'attention', 'edges', 'mask')
"""response: where the head says the target may be. attention: where the target's tokens look.
edges: where each side of the box may be. mask: which pixels are the target's."""

_OPACITY = 0.75
_GAMMA = 0.6  # below 1, so that what is weak is seen as well
_FIRST, _SECOND = (250, 190, 60), (60, 120, 250)  # BGR: left and top; right and bottom
_RIM = (235, 235, 235)
_TINT = (230, 80, 200)
_HEIGHT = 0.2
"""Of a curve, in parts of the window."""


class Explainer:
    """Draws a layer over images. Attention needs the network a second time, made when asked."""

    def __init__(self, tracker: Tracker) -> None:
        self._package = tracker.package
        self._gives_mask = tracker.gives_mask
        self._probe: AttentionProbe | None = None

    def draw(
        self,
        image: Image,
        insight: Insight | None,
        layer: str,
        scale: float = 1.0,
        mask: Image | None = None,
    ) -> None:
        """Draw `layer` into `image` (H, W, 3) uint8 BGR, `scale` times the size of the original.

        Nothing is drawn where no insight was kept, or no mask. Raises TrackerError, or
        EngineError for attention, saying why the model has none.
        """
        if not self._package.graphs:
            raise TrackerError(f'{self._package.name} has no network to look into')
        if insight is None:
            return
        if layer == 'mask' and self._gives_mask:
            if mask is not None:
                draw_mask(image, mask)
        elif layer == 'attention':
            self._probe = self._probe or AttentionProbe(self._package)
            weights = self._probe.attention(insight.templates, insight.search)
            draw_heat(image, insight.window, weights / weights.max(), scale)
        elif layer == 'response' and insight.response is not None:
            draw_heat(image, insight.response_window, insight.response, scale)
        elif layer == 'edges' and insight.edges is not None:
            draw_edges(image, insight.window, insight.edges, scale)
        else:
            raise TrackerError(f'{self._package.name} has no {layer}; {_others(insight)}')
        _outline(image, insight.window, scale)


def draw_heat(image: Image, window: Box, heat: NDArray[np.float64], scale: float = 1.0) -> None:
    """Colour the `window` by `heat` (rows, columns): from 0, nothing, to 1, bright yellow.

    The window may reach over the image.
    """
    first_x, first_y, end_x, end_y = _inside(image, window, scale)
    if first_x >= end_x or first_y >= end_y:
        return
    rows, columns = heat.shape
    # From a pixel's centre to cells, of which the first has its centre at 0.
    cell_x, cell_y = window.w * scale / columns, window.h * scale / rows
    to_cells = np.array(
        [
            [1 / cell_x, 0, (first_x + 0.5 - window.x * scale) / cell_x - 0.5],
            [0, 1 / cell_y, (first_y + 0.5 - window.y * scale) / cell_y - 0.5],
        ]
    )
    spread = cv2.warpAffine(
        np.clip(heat, 0.0, 1.0).astype(np.float32),
        to_cells,
        (end_x - first_x, end_y - first_y),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    spread **= _GAMMA
    colours = cv2.applyColorMap((255 * spread).astype(np.uint8), cv2.COLORMAP_INFERNO)
    part = image[first_y:end_y, first_x:end_x]
    opacity = _OPACITY * spread[..., np.newaxis]
    part[:] = part * (1 - opacity) + colours * opacity


def draw_edges(image: Image, window: Box, edges: NDArray[np.float64], scale: float = 1.0) -> None:
    """Curves of (4, bins) probabilities: left and right along the window's top, others aside."""
    x, y, side = (scale * value for value in (window.x, window.y, window.w))
    bins = edges.shape[1]
    along = np.arange(bins) / bins * side
    for place, shares in enumerate(edges):
        height = _HEIGHT * side * shares / max(float(shares.max()), 1e-9)
        colour = (_FIRST, _SECOND)[place % 2]
        across = place < 2
        points = np.stack([x + along, y + height] if across else [x + height, y + along], axis=1)
        line = np.round(points).astype(np.int32)
        cv2.polylines(image, [line], False, (24, 24, 24), 3, cv2.LINE_AA)
        cv2.polylines(image, [line], False, colour, 1, cv2.LINE_AA)
        expected = float(shares @ along)
        ends = [(x + expected, y), (x + expected, y + side)]
        if not across:
            ends = [(x, y + expected), (x + side, y + expected)]
        start, end = ((round(a), round(b)) for a, b in ends)
        cv2.line(image, start, end, colour, 1, cv2.LINE_AA)


def draw_mask(image: Image, mask: Image) -> None:
    """Tint the target: the mask (H, W) uint8 is that of the image, of this size or another."""
    height, width = image.shape[:2]
    if mask.shape != (height, width):
        mask = cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST)
    image[mask > 0] = image[mask > 0] // 2 + np.array(_TINT, np.uint8) // 2
    contours = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)[-2]
    cv2.drawContours(image, contours, -1, _RIM, 1, cv2.LINE_AA)


def _outline(image: Image, window: Box, scale: float) -> None:
    x1, y1, x2, y2 = (round(scale * corner) for corner in window.corners())
    cv2.rectangle(image, (x1, y1), (x2, y2), _RIM, 1)


def _inside(image: Image, window: Box, scale: float) -> tuple[int, int, int, int]:
    height, width = image.shape[:2]
    x1, y1, x2, y2 = (round(scale * corner) for corner in window.corners())
    return max(x1, 0), max(y1, 0), min(x2, width), min(y2, height)


def _others(insight: Insight) -> str:
    own = {'response': insight.response, 'edges': insight.edges}
    names = [name for name, value in own.items() if value is not None]
    return f'it has {" and ".join(names)}' if names else 'see which of the others it has'
