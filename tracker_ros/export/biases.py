# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What goes into the biases of a network before, and after, its weights are rounded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from tracker_ros.export.graph_facts import attributes_of, is_small, weighted

CENTRE = 128.0
_UINT8 = onnx.TensorProto.UINT8
_MOVING = ('Cast', 'Reshape', 'Transpose')

Values = NDArray[np.float64]


def centre_pixels(model: onnx.ModelProto) -> list[str]:
    """Take 128 off the pixels that layers read, and add its share to their biases.

    So that pixels, uint8 as they come, are int8 numbers. A convolution with padding is left as
    it is, for it would pad with another grey. Changes `model`; returns the names of the tensors
    that hold centred pixels.
    """
    graph = model.graph
    values = _values(graph)
    makers = {name: node for node in graph.node for name in node.output}
    pixels = {item.name for item in graph.input if item.type.tensor_type.elem_type == _UINT8}
    centred: dict[str, str] = {}
    for node in list(graph.node):
        if not weighted(node, values) or is_small(node, values) or _is_padded(node):
            continue
        image = node.input[0]
        if not pixels.intersection(_sources(image, makers)):
            continue
        if image not in centred:
            centred[image] = f'{image}/centred'
            centre = numpy_helper.from_array(np.array(CENTRE, np.float32), f'{image}/centre')
            graph.initializer.append(centre)
            inputs = [image, centre.name]
            taking = helper.make_node('Sub', inputs, [centred[image]], name=f'{image}/centring')
            graph.node.insert(_place(graph, makers[image]) + 1, taking)
        node.input[0] = centred[image]
        weight = values[node.input[1]]
        channels = np.full(_channels(node, weight), CENTRE)
        _add_to_bias(graph, node, _response(node, weight, channels))
    return list(centred.values())


def input_means(
    model: onnx.ModelProto, nodes: Sequence[onnx.NodeProto], feeds: Sequence[Mapping[str, Any]]
) -> dict[str, Values]:
    """The mean of each channel of what the layers `nodes` read, by the name of the tensor."""
    channel_axes = {node.input[0]: 1 if node.op_type == 'Conv' else -1 for node in nodes}
    listening = onnx.ModelProto()
    listening.CopyFrom(model)
    del listening.graph.output[:]
    listening.graph.output.extend(map(helper.make_empty_tensor_value_info, channel_axes))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        listening.SerializeToString(), options, providers=['CPUExecutionProvider']
    )
    sums: dict[str, Values] = {}
    for feed in feeds:
        for name, value in zip(channel_axes, session.run(list(channel_axes), feed), strict=True):
            channels = np.moveaxis(value, channel_axes[name], -1).astype(np.float64)
            mean = channels.reshape(-1, channels.shape[-1]).mean(axis=0)
            sums[name] = sums.get(name, 0.0) + mean / len(feeds)
    return sums


def make_up_for_rounding(
    rounded: onnx.ModelProto,
    original: Sequence[onnx.NodeProto],
    weights: Mapping[str, NDArray[Any]],
    means: Mapping[str, Values],
) -> None:
    """Add to the biases of `rounded` what the rounding of its weights takes away on average.

    original: the layers before their weights were rounded, and weights theirs by name; means: see
    `input_means`. The weights of a channel are rounded alike for every image: where its input
    has a mean, so has the error.
    """
    values = _values(rounded.graph)
    makers = {name: node for node in rounded.graph.node for name in node.output}
    found = {node.name: node for node in rounded.graph.node}
    for node in original:
        twin = found[node.name]
        kept = _dequantised(makers[twin.input[1]], values)
        lost = weights[node.input[1]].astype(np.float64) - kept
        _add_to_bias(rounded.graph, twin, _response(node, lost, means[node.input[0]]))


def _dequantised(node: onnx.NodeProto, values: Mapping[str, NDArray[Any]]) -> Values:
    """The constant that a DequantizeLinear gives, its zero point being 0."""
    integers, scale = (values[name].astype(np.float64) for name in node.input[:2])
    if scale.ndim:
        shape = [1] * integers.ndim
        shape[attributes_of(node).get('axis', 1)] = -1
        scale = scale.reshape(shape)
    return integers * scale


def _response(node: onnx.NodeProto, weight: NDArray[Any], channels: Values) -> Values:
    """What a layer with these weights answers to the same `channels` everywhere."""
    weight = weight.astype(np.float64)
    if node.op_type == 'Conv':
        groups = attributes_of(node).get('group', 1)
        each = channels.reshape(groups, 1, -1)
        sums = weight.reshape(groups, -1, weight.shape[1], int(np.prod(weight.shape[2:])))
        return np.asarray((sums.sum(axis=-1) * each).sum(axis=-1).ravel())
    if node.op_type == 'Gemm' and attributes_of(node).get('transB', 0):
        weight = weight.T
    return np.asarray(channels @ weight)


def _channels(node: onnx.NodeProto, weight: NDArray[Any]) -> int:
    if node.op_type == 'Conv':
        return weight.shape[1] * attributes_of(node).get('group', 1)
    return weight.shape[1] if attributes_of(node).get('transB', 0) else weight.shape[0]


def _add_to_bias(graph: onnx.GraphProto, node: onnx.NodeProto, delta: Values) -> None:
    """Add a number for each output channel to what a layer gives."""
    values = {item.name: item for item in graph.initializer}
    if node.op_type == 'MatMul':
        readers = [other for other in graph.node if node.output[0] in other.input]
        if len(readers) == 1 and readers[0].op_type == 'Add':
            adding = readers[0]
            place = 1 - list(adding.input).index(node.output[0])
            if adding.input[place] in values:
                bias = numpy_helper.to_array(values[adding.input[place]])
                adding.input[place] = _constant(graph, f'{node.output[0]}/bias', bias + delta)
                return
        bare = f'{node.output[0]}/bare'
        inputs = [bare, _constant(graph, f'{node.output[0]}/bias', delta)]
        adding = helper.make_node('Add', inputs, [node.output[0]], name=f'{bare}/adding')
        graph.node.insert(_place(graph, node) + 1, adding)
        node.output[0] = bare
        return
    if len(node.input) > 2:
        delta = delta + numpy_helper.to_array(values[node.input[2]])
    name = _constant(graph, f'{node.output[0]}/bias', delta)
    node.input[:] = [*node.input[:2], name]


def _constant(graph: onnx.GraphProto, name: str, value: Any) -> str:
    taken = {item.name for item in graph.initializer}
    while name in taken:
        name += "'"
    graph.initializer.append(numpy_helper.from_array(np.asarray(value, np.float32), name))
    return name


def _sources(name: str, makers: Mapping[str, onnx.NodeProto]) -> list[str]:
    """A tensor and those whose numbers it holds, moved about."""
    names = [name]
    while name in makers and makers[name].op_type in _MOVING:
        name = makers[name].input[0]
        names.append(name)
    return names


def _is_padded(node: onnx.NodeProto) -> bool:
    attributes = attributes_of(node)
    return any(attributes.get('pads', ())) or attributes.get('auto_pad', b'NOTSET') != b'NOTSET'


def _values(graph: onnx.GraphProto) -> dict[str, NDArray[Any]]:
    return {item.name: numpy_helper.to_array(item) for item in graph.initializer}


def _place(graph: onnx.GraphProto, node: onnx.NodeProto) -> int:
    outputs = [other.output[0] for other in graph.node]
    return outputs.index(node.output[0])
