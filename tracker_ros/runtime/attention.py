# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Attention from the target to the search region, read out of a package's search graph.

Engines fuse attention and never have it as a tensor. Here the graphs are run once more, by ONNX
Runtime on the CPU, with one softmax of the search graph as a further output: for people, beside
the tracking, never on its way. The package says which one in ``attention`` of model.yaml::

    attention: {softmax: 3, queries: [0, 4], keys: [98, 294]}

softmax: its place among the graph's Softmax nodes, from 0; (B, heads, queries, keys) or
(B, queries, keys). queries: from which tokens on to which, those of the target. keys: the tokens
of the search region, a square, row by row.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tracker_ros.geometry import Image
from tracker_ros.runtime.engine import EngineError
from tracker_ros.runtime.package import ModelPackage


class AttentionProbe:
    """Runs the graphs of a package for their attention; making it takes as long as loading."""

    def __init__(self, package: ModelPackage) -> None:
        """Raises EngineError for a package that says nothing of attention, or without ONNX."""
        self._place, self._queries, self._keys = _entry(package)
        self._side = math.isqrt(self._keys.stop - self._keys.start)
        try:
            import onnx
            import onnxruntime

            from tracker_ros.runtime.onnxruntime_engine import session_options
        except ImportError as error:
            raise EngineError(
                f'{error}; to show attention: pip install onnx onnxruntime'
            ) from error
        model = onnx.load(str(package.graphs['search'].path))
        found = [node.output[0] for node in model.graph.node if node.op_type == 'Softmax']
        if self._place >= len(found):
            raise EngineError(
                f'{package.folder}: attention.softmax is {self._place}, but the search graph has '
                f'only {len(found)}'
            )
        self._tensor = found[self._place]
        if self._tensor not in [output.name for output in model.graph.output]:
            model.graph.output.append(onnx.ValueInfoProto(name=self._tensor))
        options = session_options(threads=1)  # the other cores belong to the tracking
        providers = ['CPUExecutionProvider']
        self._search = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=providers
        )
        self._template = onnxruntime.InferenceSession(
            str(package.graphs['template'].path), options, providers=providers
        )
        self._folder = package.folder

    def attention(
        self, templates: Mapping[str, NDArray[Any]], search: Image
    ) -> NDArray[np.float64]:
        """How much of the target's attention goes where: (side, side), each at least 0.

        `templates` is what the template graph takes, by name; `search` the crop (S, S, 3) uint8
        BGR. Averaged over heads and queries. The sum is below 1 by what goes to other tokens.
        """
        names = [output.name for output in self._template.get_outputs()]
        feeds = {name: value[np.newaxis] for name, value in templates.items()}
        cached = dict(zip(names, self._template.run(names, feeds), strict=True))
        (weights,) = self._search.run([self._tensor], {'search': search[np.newaxis], **cached})
        weights = weights[..., self._queries, self._keys]
        if weights.shape[-2:] != (
            self._queries.stop - self._queries.start,
            self._keys.stop - self._keys.start,
        ):
            raise EngineError(
                f'{self._folder}: softmax {self._place} of the search graph has other tokens than '
                'the entry attention says'
            )
        mean = weights.astype(np.float64).reshape(-1, weights.shape[-1]).mean(axis=0)
        return mean.reshape(self._side, self._side)


def _entry(package: ModelPackage) -> tuple[int, slice, slice]:
    entry = package.manifest.get('attention')
    if entry is None:
        raise EngineError(
            f'{package.name} says nothing of attention in its model.yaml, so that none can be '
            'shown; show its response instead'
        )
    try:
        place = entry['softmax']
        (first_query, end_query), (first_key, end_key) = entry['queries'], entry['keys']
        queries, keys = slice(first_query, end_query), slice(first_key, end_key)
        count = keys.stop - keys.start
        is_right = (
            type(place) is int
            and place >= 0
            and 0 <= queries.start < queries.stop
            and 0 <= keys.start < keys.stop
            and math.isqrt(count) ** 2 == count
        )
    except (TypeError, KeyError, ValueError, AttributeError):
        is_right = False
    if not is_right:
        raise EngineError(
            f'{package.folder}: attention must be a mapping with softmax, a number from 0, and '
            f'with queries and keys, each [first, end], the keys a square; not {entry!r:.200}'
        )
    return place, queries, keys
