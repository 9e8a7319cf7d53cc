# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""ONNX graphs run by PyTorch, operator by operator.

For each shape of the inputs the graph is run once together with its shape arithmetic; whatever
does not depend on the contents of the inputs is computed then, and never again. What is left is a
list of calls on tensors of fixed shapes: nothing in it waits for the device, so that CUDA can
record it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from tracker_ros.runtime.engine import EngineError
from tracker_ros.runtime.torch_operators import DTYPES, OPERATORS, Call, Function

_OLDEST_OPSET = 13  # since then axes are inputs, and softmax is of one axis


@dataclass(frozen=True, slots=True)
class Node:
    """An operator of the graph; inputs and outputs that are left out have the name ''."""

    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]
    title: str
    """For people: 'search.onnx: Conv (/patch_embed/Conv)'."""


@dataclass(frozen=True, slots=True)
class _Step:
    """One call, and the values that nobody needs after it."""

    function: Function
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    done: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Program:
    """What is left of a graph for one shape of its inputs: `steps`, begun with `constants`."""

    steps: list[_Step]
    constants: dict[str, Tensor]


class TorchGraph:
    """An ONNX file, its weights on `device`.

    Raises EngineError for a file that cannot be read, and for operators that are not known here.
    """

    def __init__(self, path: Path, device: torch.device) -> None:
        self._file = path.name
        self._device = device
        graph = _read(path)
        known = {tensor.name: self._tensor(tensor) for tensor in graph.initializer}
        self.inputs = {
            value.name: tuple(
                size.dim_value if size.HasField('dim_value') else None
                for size in value.type.tensor_type.shape.dim
            )
            for value in graph.input
            if value.name not in known
        }
        """The declared shape of each input; None where any size will do."""
        self.outputs = tuple(value.name for value in graph.output)
        nodes = [self._node(node) for node in graph.node]
        self._check(nodes)
        self._programs: dict[tuple[torch.Size, ...], _Program] = {}
        with torch.inference_mode():
            self._nodes = _fold(nodes, known)
            used = {name for node in self._nodes for name in node.inputs}.union(self.outputs)
            known = {name: value for name, value in known.items() if name in used}
            # Large ones go to the device at once. Whole numbers and single ones may take part in
            # shape arithmetic, which stays on the host.
            settings = _settings(self._nodes)
            large = [
                name for name, value in known.items() if _is_weight(value) and name not in settings
            ]
            self._weights = {name: known.pop(name).to(device) for name in large}
        self._known = known

    @property
    def is_batch_free(self) -> bool:
        return all(shape and shape[0] is None for shape in self.inputs.values())

    @torch.inference_mode()
    def run(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The outputs for inputs on the device, with which they may share memory."""
        if inputs.keys() != self.inputs.keys():
            raise EngineError(f'{self._file} takes {[*self.inputs]}, not {[*inputs]}')
        shapes = tuple(inputs[name].shape for name in self.inputs)
        if shapes not in self._programs:
            self._check_shapes(inputs)
            self._programs[shapes] = self._specialise(inputs)
        program = self._programs[shapes]
        values = {**program.constants, **inputs}
        for step in program.steps:
            results = step.function(*[values[name] if name else None for name in step.inputs])
            values.update(_named(step.outputs, results))
            for name in step.done:
                del values[name]
        return {name: values[name] for name in self.outputs}

    def _specialise(self, inputs: Mapping[str, Tensor]) -> _Program:
        """Run once, and note what has to be done again for other contents of the inputs."""
        known = dict(self._known)
        values = {**self._weights, **inputs}
        constants = dict(self._weights)
        steps: list[_Step] = []
        uses = Counter(name for node in self._nodes for name in node.inputs)
        uses.update(self.outputs)
        for node in self._nodes:
            if node.operator == 'Shape':
                source = node.inputs[0]
                value = values[source] if source in values else known[source]
                known[node.outputs[0]] = _shape(node, value)
            elif all(name in known or not name for name in node.inputs):
                known.update(_named(node.outputs, _computed(node, known)))
            else:
                step = _step(node, known)
                for name in step.inputs:
                    if name in known and name not in values:
                        values[name] = constants[name] = known[name].to(self._device)
                arguments = [values[name] if name else None for name in step.inputs]
                values.update(_named(node.outputs, step.function(*arguments)))
                steps.append(step)
            uses.subtract(node.inputs)
            for name in node.inputs:
                if not uses[name]:
                    values.pop(name, None)
        for name in self.outputs:
            if name in known:
                constants[name] = known[name].to(self._device)
        return _Program(_freeing(steps, self.outputs), constants)

    # -- reading ------------------------------------------------------------------------------

    def _node(self, node: onnx.NodeProto) -> Node:
        domain = '' if node.domain in ('', 'ai.onnx') else f'{node.domain}.'
        attributes = {}
        for attribute in node.attribute:
            value = helper.get_attribute_value(attribute)
            is_tensor = attribute.type == onnx.AttributeProto.TENSOR
            attributes[attribute.name] = self._tensor(value) if is_tensor else value
        return Node(
            f'{domain}{node.op_type}',
            tuple(node.input),
            tuple(node.output),
            attributes,
            f'{self._file}: {node.op_type} ({node.name or node.output[0]})',
        )

    def _tensor(self, proto: TensorProto) -> Tensor:
        if proto.data_location == TensorProto.EXTERNAL:
            raise EngineError(
                f'{self._file}: {proto.name} is in a file of its own; a package has all weights '
                'in its two graphs. Make the package anew'
            )
        if proto.data_type not in DTYPES:
            kind = TensorProto.DataType.Name(proto.data_type)
            raise EngineError(f'{self._file}: {proto.name} is {kind}, which is not known here')
        if proto.data_type == TensorProto.BFLOAT16:
            # NumPy has no such type.
            bits = proto.raw_data or np.array(proto.int32_data, '<u2').tobytes()
            shape = tuple(proto.dims)
            return torch.frombuffer(bytearray(bits), dtype=torch.bfloat16).reshape(shape)
        return torch.from_numpy(np.array(numpy_helper.to_array(proto)))

    def _check(self, nodes: list[Node]) -> None:
        unknown = [
            node for node in nodes if node.operator not in ('Shape', 'Constant', *OPERATORS)
        ]
        if unknown:
            others = f' and {len(unknown) - 1} more nodes' if unknown[1:] else ''
            raise EngineError(
                f'{unknown[0].title}{others}: the runtime torch does not know the operator '
                f'{unknown[0].operator}; use the runtime openvino or onnxruntime'
            )

    def _check_shapes(self, inputs: Mapping[str, Tensor]) -> None:
        for name, declared in self.inputs.items():
            found = tuple(inputs[name].shape)
            if len(found) != len(declared) or any(
                size not in (None, place) for size, place in zip(declared, found, strict=True)
            ):
                raise EngineError(f'{self._file}: {name!r} is {found}, the graph has {declared}')


def _read(path: Path) -> onnx.GraphProto:
    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:  # protobuf's errors have no public base class
        raise EngineError(f'{path} is not an ONNX model that can be read: {error}') from error
    versions = [one.version for one in model.opset_import if one.domain in ('', 'ai.onnx')]
    if not versions or min(versions) < _OLDEST_OPSET:
        raise EngineError(
            f'{path} has the opset {versions}; {_OLDEST_OPSET} or later is known here'
        )
    return model.graph


def _settings(nodes: list[Node]) -> set[str]:
    """The inputs that are read before anything is run, such as the scales of a Resize."""
    return {
        node.inputs[place]
        for node in nodes
        if node.operator in OPERATORS
        for place in OPERATORS[node.operator].beforehand
        if place < len(node.inputs)
    }


def _is_weight(value: Tensor) -> bool:
    return value.is_floating_point() and value.numel() > 1


def _fold(nodes: list[Node], known: dict[str, Tensor]) -> list[Node]:
    """Compute what depends on nothing else into `known`, and return the other nodes."""
    left = []
    for node in nodes:
        if node.operator == 'Constant':
            known[node.outputs[0]] = _constant(node)
        elif node.operator == 'Shape' and node.inputs[0] in known:
            known[node.outputs[0]] = _shape(node, known[node.inputs[0]])
        elif node.operator != 'Shape' and all(name in known or not name for name in node.inputs):
            known.update(_named(node.outputs, _computed(node, known)))
        else:
            left.append(node)
    return left


def _constant(node: Node) -> Tensor:
    (kind, value), *_ = node.attributes.items()
    if kind == 'value':
        return value
    return torch.tensor(value, dtype=torch.int64 if 'int' in kind else torch.float32)


def _shape(node: Node, value: Tensor) -> Tensor:
    return torch.tensor(
        value.shape[node.attributes.get('start', 0) : node.attributes.get('end')],
        dtype=torch.int64,
    )


def _computed(node: Node, known: Mapping[str, Tensor]) -> Any:
    """What the node gives, all of its inputs being known."""
    step = _step(node, known)
    return step.function(*[known[name] if name else None for name in step.inputs])


def _step(node: Node, known: Mapping[str, Tensor]) -> _Step:
    operator = OPERATORS[node.operator]
    for place in operator.beforehand:
        if place < len(node.inputs) and node.inputs[place] not in ('', *known):
            raise EngineError(
                f'{node.title}: the input {node.inputs[place]!r} must not depend on the image; '
                'use the runtime openvino or onnxruntime'
            )
    call = Call(
        node.title,
        node.attributes,
        tuple(known.get(name) for name in node.inputs),
        len(node.outputs),
    )
    remaining = [
        name for place, name in enumerate(node.inputs) if place not in operator.beforehand
    ]
    return _Step(operator.make(call), tuple(remaining), node.outputs)


def _named(names: tuple[str, ...], results: Any) -> dict[str, Tensor]:
    if isinstance(results, Tensor):
        return {names[0]: results}
    return dict(zip(names, results, strict=True))


def _freeing(steps: list[_Step], outputs: tuple[str, ...]) -> list[_Step]:
    """The steps, each with the values that are last used there."""
    needed = set(outputs)
    result = []
    for step in reversed(steps):
        done = {*step.inputs, *step.outputs} - needed - {''}
        needed |= done
        result.append(_Step(step.function, step.inputs, step.outputs, tuple(done)))
    return result[::-1]
