# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""ONNX Runtime on the CPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime

from tracker_ros.geometry import Image
from tracker_ros.runtime.engine import Engine, EngineError, Tensors
from tracker_ros.runtime.package import ModelPackage


class OnnxRuntimeEngine(Engine):
    name = 'onnxruntime (CPU, fp32)'

    def __init__(self, package: ModelPackage, threads: int) -> None:
        self._template = _session(package.graphs['template'].path, threads)
        self._search = _session(package.graphs['search'].path, threads)
        self._cached_names = [output.name for output in self._template.get_outputs()]
        self._output_names = [output.name for output in self._search.get_outputs()]

    def template(self, template: Image, **others: Image) -> Tensors:
        crops = {'template': template, **others}
        feeds = {name: crop[np.newaxis] for name, crop in crops.items()}
        outputs = self._template.run(self._cached_names, feeds)
        return dict(zip(self._cached_names, outputs, strict=True))

    def search(self, crop: Image, cached: Tensors) -> Tensors:
        feeds = {'search': crop[np.newaxis], **cached}
        outputs = self._search.run(self._output_names, feeds)
        return dict(zip(self._output_names, outputs, strict=True))


def load(package: ModelPackage, threads: int) -> Engine:
    try:
        return OnnxRuntimeEngine(package, threads)
    except Exception as error:  # the library's exceptions have no common base class
        raise EngineError(f'cannot load {package.folder}: {error}') from error


def _session(path: Path, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Waiting threads would otherwise spin on the core that the ROS executor needs.
    options.add_session_config_entry('session.intra_op.allow_spinning', '0')
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(
        str(path), sess_options=options, providers=['CPUExecutionProvider']
    )
