# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""ONNX Runtime with its TensorRT provider, which builds while the caller waits."""

from __future__ import annotations

from tracker_ros.resources import cache_path
from tracker_ros.runtime import onnxruntime_cuda_engine
from tracker_ros.runtime.cuda import find_cuda
from tracker_ros.runtime.engine import Engine, EngineError
from tracker_ros.runtime.package import ModelPackage

RUNS_FURTHER_GRAPHS = True
RENEWS_TENSORS = True


def load(package: ModelPackage, threads: int) -> Engine:
    find_cuda()
    try:
        from tracker_ros.runtime.onnxruntime_gpu import load_on
    except ImportError as error:
        raise EngineError(f'{error} (pip install onnxruntime-gpu)') from error
    options = {
        'trt_engine_cache_enable': '1',
        'trt_engine_cache_path': str(cache_path('engines', 'onnxruntime')),
        'trt_timing_cache_enable': '1',
    }
    providers = (('TensorrtExecutionProvider', options), *onnxruntime_cuda_engine.PROVIDERS)
    return load_on(package, providers, threads)
