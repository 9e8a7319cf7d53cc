# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""PyTorch on an NVIDIA GPU, or not at all."""

from __future__ import annotations

from tracker_ros.runtime.cuda import find_cuda
from tracker_ros.runtime.engine import Engine, EngineError
from tracker_ros.runtime.package import ModelPackage

RUNS_FURTHER_GRAPHS = True
RENEWS_TENSORS = True


def load(package: ModelPackage, threads: int) -> Engine:
    find_cuda()  # at once, while the import of PyTorch takes seconds
    try:
        from tracker_ros.runtime.torch_gpu import load_on_gpu
    except (ImportError, OSError) as error:
        raise EngineError(f'{error} (pip install torch onnx)') from error
    return load_on_gpu(package)
