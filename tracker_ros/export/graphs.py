# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Writing a network as the ONNX graphs of a model package."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from tracker_ros.export import IMAGENET_MEAN, IMAGENET_STD

# The newest that TensorRT 8.6 still takes, with LayerNormalization as one node.
OPSET = 17
_FEWEST_HALVED = 256


@dataclass(frozen=True, slots=True)
class Graph:
    """A module to be traced, with example inputs and names for what goes in and out.

    The first dimension of every input and output is the batch, of any size.
    """

    module: nn.Module
    examples: tuple[Tensor, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class GraphPair:
    """template: crops to cached tensors; search: search crop and cached tensors to outputs.

    further: graphs by role that take outputs of the search graph and a few numbers.
    """

    template: Graph
    search: Graph
    further: Mapping[str, Graph] = field(default_factory=dict)


def by_role(graphs: GraphPair | Mapping[str, Graph]) -> Mapping[str, Graph]:
    if isinstance(graphs, GraphPair):
        return {'template': graphs.template, 'search': graphs.search, **graphs.further}
    return graphs


def write_graphs(
    graphs: GraphPair | Mapping[str, Graph], folder: Path, half_weights: bool = False
) -> dict[str, str]:
    """Write a graph ROLE.onnx for each role; returns the names of the files by role.

    half_weights: see `with_half_weights`.
    """
    files = {}
    for role, graph in by_role(graphs).items():
        files[role] = f'{role}.onnx'
        names = [*graph.inputs, *graph.outputs]
        with torch.no_grad(), warnings.catch_warnings():
            # The newer exporter needs a package more and gains nothing here.
            warnings.filterwarnings('ignore', category=DeprecationWarning)
            # What it cannot compute ahead is computed each time: no matter for a user.
            warnings.filterwarnings('ignore', message='Constant folding')
            # Only the batch is of any size; the others are meant to be taken for constants.
            warnings.filterwarnings('ignore', message='Converting a tensor to a Python')
            torch.onnx.export(
                graph.module.eval(),
                graph.examples,
                str(folder / files[role]),
                input_names=list(graph.inputs),
                output_names=list(graph.outputs),
                dynamic_axes={name: {0: 'batch'} for name in names},
                opset_version=OPSET,
                dynamo=False,
            )
        if half_weights:
            model = with_half_weights(onnx.load(folder / files[role]))
            onnx.save(model, folder / files[role])
    return files


def with_half_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with its weights in 16 bits, each behind a Cast to the 32 in which it computes.

    Half the file. Libraries undo the Cast once, when they load it. What would leave the range of
    the half type stays as it is, and so do small tensors, which are not worth a node.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    casts = []
    for tensor in copy.graph.initializer:
        if tensor.data_type != onnx.TensorProto.FLOAT:
            continue
        values = numpy_helper.to_array(tensor)
        if values.size < _FEWEST_HALVED or not np.abs(values).max() <= np.finfo(np.float16).max:
            continue
        name, half = tensor.name, f'{tensor.name}_fp16'
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), half))
        casts.append(helper.make_node('Cast', [half], [name], to=onnx.TensorProto.FLOAT))
    nodes = list(copy.graph.node)
    del copy.graph.node[:]
    copy.graph.node.extend([*casts, *nodes])
    return copy


def macs_of(graph: Graph) -> int:
    """Multiply-accumulates of a graph's products and convolutions for one target.

    Attention counts; norms, activations and sampling do not.
    """
    counter = FlopCounterMode(display=False)
    # The counter does not know the ways in which PyTorch does attention in one go.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
        graph.module.eval()(*(example[:1] for example in graph.examples))
    return int(counter.get_total_flops()) // 2


def taking_pixels(
    convolution: nn.Conv2d,
    mean: tuple[float, ...] = IMAGENET_MEAN,
    std: tuple[float, ...] = IMAGENET_STD,
) -> nn.Conv2d:
    """A copy of a network's first convolution that takes BGR in 0..255.

    The original takes normalised RGB. Exact, apart from rounding, for a convolution without
    padding.
    """
    folded = copy.deepcopy(convolution)
    scale = torch.from_numpy(1.0 / (255.0 * np.asarray(std)))
    shift = torch.from_numpy(-np.asarray(mean) / np.asarray(std))
    weight = convolution.weight.detach().double()
    bias = (weight * shift[:, None, None]).sum(dim=(1, 2, 3))
    if convolution.bias is not None:
        bias = bias + convolution.bias.detach().double()
    folded.weight = nn.Parameter((weight * scale[:, None, None]).flip(1).float())
    folded.bias = nn.Parameter(bias.float())
    return folded


def planes(crops: Tensor) -> Tensor:
    """Crops (B, S, S, 3) uint8 as (B, 3, S, S) float32.

    The cast comes first: TensorRT takes 8-bit tensors nowhere else.
    """
    return crops.float().permute(0, 3, 1, 2)
