# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Arguments that several commands take."""

from __future__ import annotations

import argparse

from tracker_ros.geometry import Box


def box(text: str) -> Box:
    """Parse ``x,y,w,h``: top-left corner and size in pixels."""
    try:
        x, y, w, h = (float(part) for part in text.split(','))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f'{text!r} is no box; give x,y,w,h in pixels, such as 100,80,40,30'
        ) from None
    value = Box(x, y, w, h)
    if not value.is_finite() or w <= 0 or h <= 0:
        raise argparse.ArgumentTypeError(
            f'{text!r} is no box; width and height must be above 0, and all four finite'
        )
    return value


def box_or_point(text: str) -> Box:
    """Parse ``x,y,w,h`` as `box` does, or ``x,y`` as a box of no size."""
    if text.count(',') != 1:
        return box(text)
    corner = box(f'{text},1,1')
    return Box(corner.x, corner.y, 0.0, 0.0)
