# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Graphs in 16 bits, strongly typed: each tensor's type stands in the graph.

Weights, matrix products, convolutions and what is computed element by element are in the half
type. In fp32 stay:

- norms, in whatever form the graph has them, and softmax: their sums lose too much;
- whatever follows the last weighted layer on the way to an output, such as an expectation over
  bins or the decoding of a box;
- products of a tensor with itself, which grow with the square of its numbers, and the places
  that a GridSample looks at, back to the layer that chose them;
- what the standard does not define in the half type, or has a constant outside its range.

A Cast stands where the types meet, at most one for each tensor and type.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, defs, helper, numpy_helper, shape_inference

from tracker_ros.export.graph_facts import constants_of, weighted

HALVES: dict[str, tuple[int, Any]] = {
    'fp16': (TensorProto.FLOAT16, np.float16),
    'bf16': (TensorProto.BFLOAT16, ml_dtypes.bfloat16),
}
_TYPE_NAMES: dict[int, str] = {
    TensorProto.FLOAT16: 'tensor(float16)',
    TensorProto.BFLOAT16: 'tensor(bfloat16)',
}

_ONNX = ('', 'ai.onnx')
_ALWAYS_WIDE = {
    'GridSample',
    'InstanceNormalization',
    'LayerNormalization',
    'LogSoftmax',
    'Pow',
    'ReduceL2',
    'ReduceMean',
    'ReduceSum',
    'ReduceSumSquare',
    'Softmax',
    'Sqrt',
    # These make numbers out of none.
    'ConstantOfShape',
    'EyeLike',
    'Range',
}
# With numbers in fp32 on all sides they stay there, rather than round them on the way.
_PASSING = {
    *('Add', 'Clip', 'Div', 'Mul', 'Neg', 'Reciprocal', 'Relu', 'Sub'),
    *('Concat', 'Expand', 'Flatten', 'Gather', 'Identity', 'Reshape', 'Slice', 'Split'),
    *('Squeeze', 'Transpose', 'Unsqueeze'),
}
_ELEMENTWISE = {'Add', 'Div', 'Mul', 'Neg', 'Reciprocal', 'Sub'}
# Inputs that are fp32 whatever the type of the others.
_WIDE_INPUTS = {'Resize': (2,)}


def halved(
    model: onnx.ModelProto,
    precision: str,
    half_inputs: Iterable[str] = (),
    half_outputs: Iterable[str] = (),
) -> onnx.ModelProto:
    """A copy of a folded graph in 'fp16' or 'bf16'.

    Of its inputs and outputs only those named become half. Raises ValueError for graphs with
    subgraphs.
    """
    graph = model.graph
    for node in graph.node:
        if any(item.type == onnx.AttributeProto.GRAPH for item in node.attribute):
            raise ValueError(f'the node {node.name!r} ({node.op_type}) holds a graph of its own')
    typed = _Typed(model, precision, set(half_inputs), set(half_outputs))
    return typed.model()


class _Typed:
    """The pass over one graph."""

    def __init__(
        self, model: onnx.ModelProto, precision: str, half_inputs: set[str], half_outputs: set[str]
    ) -> None:
        self._source = model
        self._kind, self._dtype = HALVES[precision]
        self._opset = next(item.version for item in model.opset_import if item.domain in _ONNX)
        self._half_ends = half_inputs | half_outputs
        graph = shape_inference.infer_shapes(model, strict_mode=True).graph
        self._graph = graph
        self._constants = constants_of(graph)
        self._floats = _float_tensors(graph)
        self._makers = {name: node for node in graph.node for name in node.output}
        self._wide = self._find_wide({item.name for item in graph.output} - half_outputs)
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: dict[str, onnx.TensorProto] = {}
        self._outputs = {item.name for item in graph.output}
        self._names: dict[tuple[str, bool], str] = {}

    # -- which nodes stay in fp32 ----------------------------------------------------------------

    def _find_wide(self, outputs: set[str]) -> set[str]:
        nodes = [node for node in self._graph.node if self._has_floats(node)]
        wide = {node.output[0] for node in nodes if not self._can_be_half(node)}
        wide |= {node.output[0] for node in self._decoding(outputs)}
        wide |= {node.output[0] for node in nodes if self._takes_off_mean(node)}
        wide |= {node.output[0] for node in nodes if self._is_of_one_tensor(node)}
        places = {node.input[1] for node in nodes if node.op_type == 'GridSample'}
        wide |= {node.output[0] for node in self._decoding(places) if self._has_floats(node)}
        readers: dict[str, list[onnx.NodeProto]] = {}
        for node in nodes:
            for name in node.input:
                readers.setdefault(name, []).append(node)
        while True:
            more = {
                node.output[0]
                for node in nodes
                if node.output[0] not in wide and self._belongs_to(node, wide, readers, outputs)
            }
            if not more:
                return wide
            wide |= more

    def _belongs_to(
        self,
        node: onnx.NodeProto,
        wide: set[str],
        readers: Mapping[str, list[onnx.NodeProto]],
        outputs: set[str],
    ) -> bool:
        """Whether a node is part of what its neighbours compute in fp32."""
        if node.op_type not in _PASSING:
            return False
        read = [
            name for name in node.input if name in self._floats and name not in self._constants
        ]
        is_fed = all(
            name in self._makers and self._makers[name].output[0] in wide for name in read
        )
        if node.op_type in _ELEMENTWISE and read and is_fed:
            # The weights of a norm, or the division that is the last of it.
            return True
        is_read = all(
            (name in outputs or name in readers)
            and all(reader.output[0] in wide for reader in readers.get(name, ()))
            for name in node.output
        )
        some_fed = any(
            name in self._makers and self._makers[name].output[0] in wide for name in read
        )
        return some_fed and is_read

    def _can_be_half(self, node: onnx.NodeProto) -> bool:
        if node.op_type in _ALWAYS_WIDE or not self._is_defined(node):
            return False
        largest = float(ml_dtypes.finfo(self._dtype).max)
        return not any(
            name in self._floats and (np.abs(self._constants[name]) > largest).any()
            for name in node.input
            if name in self._constants
        )

    def _takes_off_mean(self, node: onnx.NodeProto) -> bool:
        """Whether a node is the first step of a norm that is written out."""
        makers = [self._makers[name].op_type for name in node.input if name in self._makers]
        return node.op_type == 'Sub' and 'ReduceMean' in makers

    def _is_of_one_tensor(self, node: onnx.NodeProto) -> bool:
        """Whether a node multiplies a matrix with its own transpose."""
        return node.op_type == 'MatMul' and len(set(map(self._untransposed, node.input))) == 1

    def _untransposed(self, name: str) -> str:
        while name in self._makers and self._makers[name].op_type == 'Transpose':
            name = self._makers[name].input[0]
        return name

    def _is_defined(self, node: onnx.NodeProto) -> bool:
        """Whether the standard has this operator in the half type."""
        if node.domain not in _ONNX:
            return False
        schema = defs.get_schema(node.op_type, self._opset, '')
        allowed = {item.type_param_str: item.allowed_type_strs for item in schema.type_constraints}
        name = _TYPE_NAMES[self._kind]
        for formals, actuals in ((schema.inputs, node.input), (schema.outputs, node.output)):
            for place, actual in enumerate(actuals):
                formal = formals[min(place, len(formals) - 1)]
                if actual in self._floats and name not in allowed.get(
                    formal.type_str, [name if self._is_wide_input(node, place) else '']
                ):
                    return False
        return True

    def _decoding(self, outputs: set[str]) -> list[onnx.NodeProto]:
        """All that lies between the last weighted layers and `outputs`."""
        ahead, found = set(outputs), []
        for node in reversed(self._graph.node):
            if ahead.intersection(node.output) and not weighted(node, self._constants):
                found.append(node)
                ahead.update(node.input)
        return found

    def _has_floats(self, node: onnx.NodeProto) -> bool:
        return any(name in self._floats for name in (*node.input, *node.output))

    # -- writing the graph -----------------------------------------------------------------------

    def model(self) -> onnx.ModelProto:
        for item in self._graph.input:
            self._offer(item.name, item.name in self._half_ends)
        for node in self._graph.node:
            self._add(node)
        made = onnx.ModelProto()
        made.CopyFrom(self._source)
        graph = made.graph
        for group in (graph.node, graph.initializer, graph.value_info):
            del group[:]
        graph.node.extend(self._nodes)
        graph.initializer.extend(self._initializers.values())
        for item in (*graph.input, *graph.output):
            if item.name in self._half_ends:
                item.type.tensor_type.elem_type = self._kind
        onnx.checker.check_model(made, full_check=True)
        return shape_inference.infer_shapes(made, strict_mode=True)

    def _add(self, node: onnx.NodeProto) -> None:
        if not self._has_floats(node):
            for name in node.input:
                if name in self._constants:
                    self._initializers[name] = numpy_helper.from_array(self._constants[name], name)
            self._nodes.append(node)
            return
        is_half = node.output[0] not in self._wide
        made = onnx.NodeProto()
        made.CopyFrom(node)
        for place, name in enumerate(node.input):
            if name:
                is_read_half = is_half and not self._is_wide_input(node, place)
                made.input[place] = self._typed_name(name, is_read_half)
        if node.op_type == 'Cast' and is_half and node.output[0] in self._floats:
            made.attribute[0].i = self._kind
        self._nodes.append(made)
        for place, name in enumerate(node.output):
            if name in self._floats:
                made.output[place] = self._offer(name, is_half)
                if made.output[place] != name:
                    self._typed_name(name, not is_half)

    def _offer(self, name: str, is_half: bool) -> str:
        """Take note of the type that a tensor is made in; returns its name in the new graph."""
        is_output = name in self._outputs
        own = name if not is_output or is_half == (name in self._half_ends) else f'{name}/wide'
        self._names[name, is_half] = own
        return own

    def _typed_name(self, name: str, is_half: bool) -> str:
        """The name of a tensor in a type, cast to it if that was not done before."""
        if name not in self._floats:
            if name in self._constants:
                self._initializers[name] = numpy_helper.from_array(self._constants[name], name)
            return name
        if name in self._constants:
            return self._typed_constant(name, is_half)
        if (name, is_half) not in self._names:
            is_output = name in self._outputs and is_half == (name in self._half_ends)
            own = name if is_output else f'{name}/{"half" if is_half else "float"}'
            self._names[name, is_half] = own
            to = self._kind if is_half else TensorProto.FLOAT
            source = self._names[name, not is_half]
            self._nodes.append(helper.make_node('Cast', [source], [own], f'{own}/cast', to=to))
        return self._names[name, is_half]

    def _typed_constant(self, name: str, is_half: bool) -> str:
        typed = f'{name}/half' if is_half else name
        if typed not in self._initializers:
            value = self._constants[name]
            if is_half:
                value = value.astype(self._dtype)
            self._initializers[typed] = numpy_helper.from_array(value, typed)
        return typed

    @staticmethod
    def _is_wide_input(node: onnx.NodeProto, place: int) -> bool:
        return place in _WIDE_INPUTS.get(node.op_type, ())


def _float_tensors(graph: onnx.GraphProto) -> set[str]:
    """Names of the fp32 tensors."""
    kinds = {item.name: item.data_type for item in graph.initializer}
    for item in (*graph.input, *graph.value_info, *graph.output):
        kinds[item.name] = item.type.tensor_type.elem_type
    return {name for name, kind in kinds.items() if kind == TensorProto.FLOAT}
