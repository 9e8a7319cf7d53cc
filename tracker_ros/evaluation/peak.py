# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""How fast this machine multiplies matrices: what a network's speed can be held against.

Large products one after the other, with constant weights, in OpenVINO: no library here is faster.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tracker_ros.evaluation.speed import Contestant, timed

SIDES = (512, 1024)
"""Of the square matrices; the better of them counts."""
KINDS = ('fp32', 'bf16', 'int8')
_LAYERS = 8


class Products:
    """Chains of products, one for each kind of number that was asked for and each size."""

    def __init__(self, kinds: tuple[str, ...], threads: int) -> None:
        self._kinds, self._threads = kinds, threads
        self._requests = {
            (kind, side): self._request(kind, side) for kind in kinds for side in SIDES
        }

    def facts(self) -> dict[str, Any]:
        return {'runtime': 'openvino (CPU)', 'precision': '/'.join(self._kinds)}

    def turn(self, work: Any, seconds: float) -> list[list[float]]:
        request = self._requests[work]

        def multiply() -> Sequence[float]:
            request.infer()
            return ()

        return timed(multiply, seconds)

    def _request(self, kind: str, side: int) -> Any:
        import openvino
        from openvino import opset13 as graph

        random = np.random.default_rng(0)
        entry = tokens = graph.parameter([side, side], np.float32)
        for _ in range(_LAYERS):
            weight = random.standard_normal((side, side), np.float32) / np.float32(side**0.5)
            if kind == 'int8':
                low, high = np.float32(-4.0), np.float32(4.0 * 127 / 128)
                tokens = graph.fake_quantize(tokens, low, high, low, high, 256)
                step = np.float32(np.abs(weight).max() / 127)
                eighths = graph.constant(np.round(weight / step).astype(np.int8))
                factor = graph.multiply(graph.convert(eighths, np.float32), step)
            else:
                factor = graph.constant(weight)
            tokens = graph.matmul(tokens, factor, False, True)
        options: dict[str, Any] = {
            'PERFORMANCE_HINT': 'LATENCY',
            'INFERENCE_PRECISION_HINT': 'bf16' if kind == 'bf16' else 'f32',
        }
        if self._threads:
            options['INFERENCE_NUM_THREADS'] = self._threads
        model = openvino.Model([tokens], [entry], 'products')
        request = openvino.Core().compile_model(model, 'CPU', options).create_infer_request()
        request.get_input_tensor().data[:] = random.standard_normal((side, side), np.float32)
        request.infer()
        return request


class _Maker:
    """Makes the subject in its own process."""

    def __init__(self, kinds: tuple[str, ...], threads: int) -> None:
        self._kinds, self._threads = kinds, threads

    def __call__(self) -> Products:
        return Products(self._kinds, self._threads)


def contestant(kinds: tuple[str, ...], threads: int) -> Contestant:
    """To be run beside the models, so that the same load falls on it."""
    works = tuple((kind, side) for kind in kinds for side in SIDES)
    return Contestant('peak', _Maker(kinds, threads), works)


def operations(side: int) -> float:
    """Of one turn's step: a multiplication and an addition are two."""
    return 2.0 * side**3 * _LAYERS


def kind_of(precision: str) -> str:
    """The kind of number that most of a model of this precision is computed in."""
    return {'fp16': 'fp32', 'int8_bf16': 'int8'}.get(precision, precision)
