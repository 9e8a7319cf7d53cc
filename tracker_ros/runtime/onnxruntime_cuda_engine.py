# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""ONNX Runtime with its CUDA provider."""

from __future__ import annotations

from tracker_ros.runtime.cuda import find_cuda
from tracker_ros.runtime.engine import Engine, EngineError
from tracker_ros.runtime.package import ModelPackage

RUNS_FURTHER_GRAPHS = True
RENEWS_TENSORS = True

# fp32 is to be fp32; else matrices are rounded to 19 bits (TF32).
PROVIDERS: tuple[tuple[str, dict[str, str]], ...] = (
    ('CUDAExecutionProvider', {'use_tf32': '0'}),
    ('CPUExecutionProvider', {}),
)


def load(package: ModelPackage, threads: int) -> Engine:
    find_cuda()  # the reason is clearer than what ONNX Runtime says, and it takes no time
    try:
        from tracker_ros.runtime.onnxruntime_gpu import load_on
    except ImportError as error:
        raise EngineError(f'{error} (pip install onnxruntime-gpu)') from error
    return load_on(package, PROVIDERS, threads)
