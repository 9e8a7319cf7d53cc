# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What each ONNX operator means in PyTorch.

`OPERATORS` has, for each operator, a maker: it takes what is known of a node beforehand - its
attributes, and inputs such as shapes and axes - and gives a function of the tensors that remain.
Such a function never waits for the device.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial, reduce
from typing import Any

import torch
from onnx import TensorProto
from torch import Tensor
from torch.nn import functional

from tracker_ros.runtime.engine import EngineError

Function = Callable[..., Any]
"""Takes the tensors of a node, None for one that is left out; returns one tensor, or several."""

DTYPES = {
    TensorProto.FLOAT: torch.float32,
    TensorProto.FLOAT16: torch.float16,
    TensorProto.BFLOAT16: torch.bfloat16,
    TensorProto.DOUBLE: torch.float64,
    TensorProto.UINT8: torch.uint8,
    TensorProto.INT8: torch.int8,
    TensorProto.INT16: torch.int16,
    TensorProto.INT32: torch.int32,
    TensorProto.INT64: torch.int64,
    TensorProto.BOOL: torch.bool,
}


@dataclass(frozen=True, slots=True)
class Call:
    """A node, seen by the maker of its function."""

    title: str
    attributes: dict[str, Any]
    known: tuple[Tensor | None, ...]
    """Inputs whose values are known, on the CPU; None for the others."""
    outputs: int

    def attribute(self, name: str, default: Any = None) -> Any:
        return self.attributes.get(name, default)

    def ints(self, place: int) -> list[int] | None:
        """The whole numbers that input `place` holds; None where it is left out."""
        value = self._known(place)
        return None if value is None else [int(number) for number in value.flatten().tolist()]

    def numbers(self, place: int) -> list[float] | None:
        value = self._known(place)
        return None if value is None else [float(number) for number in value.flatten().tolist()]

    def number(self, place: int) -> float | None:
        value = self._known(place)
        return None if value is None else float(value.item())

    def refuse(self, problem: str) -> EngineError:
        return EngineError(f'{self.title}: {problem}; use the runtime openvino or onnxruntime')

    def _known(self, place: int) -> Tensor | None:
        return self.known[place] if place < len(self.known) else None


@dataclass(frozen=True, slots=True)
class Operator:
    make: Callable[[Call], Function]
    beforehand: frozenset[int] = frozenset()
    """The inputs that the maker reads; they must not depend on what is in an image."""


# -- elementwise -------------------------------------------------------------------------------


def _is(function: Function) -> Operator:
    return Operator(lambda call: function)


def _of_many(function: Function) -> Operator:
    return Operator(lambda call: lambda *values: reduce(function, values))


def _divide(call: Call) -> Function:
    def divide(left: Tensor, right: Tensor) -> Tensor:
        whole = not (left.is_floating_point() or right.is_floating_point())
        return torch.div(left, right, rounding_mode='trunc' if whole else None)

    return divide


def _mod(call: Call) -> Function:
    # The sign is that of the divisor, unless it shall be as in C.
    return torch.fmod if call.attribute('fmod', 0) else torch.remainder


def _cast(call: Call) -> Function:
    kind = call.attribute('to')
    if kind not in DTYPES:
        raise call.refuse(f'casts to {TensorProto.DataType.Name(kind)}, which is not known here')
    return lambda value: value.to(DTYPES[kind])


def _clip(call: Call) -> Function:
    least, most = call.number(1), call.number(2)
    if least is None and most is None:
        return _same
    return lambda value: torch.clamp(value, least, most)


def _hard_sigmoid(call: Call) -> Function:
    alpha, beta = call.attribute('alpha', 0.2), call.attribute('beta', 0.5)
    return lambda value: torch.clamp(value * alpha + beta, 0.0, 1.0)


def _leaky_relu(call: Call) -> Function:
    return partial(functional.leaky_relu, negative_slope=call.attribute('alpha', 0.01))


def _gelu(call: Call) -> Function:
    return partial(functional.gelu, approximate=_text(call.attribute('approximate', 'none')))


def _softmax(call: Call) -> Function:
    return partial(torch.softmax, dim=call.attribute('axis', -1))


def _same(value: Tensor) -> Tensor:
    return value


# -- shapes ------------------------------------------------------------------------------------


def _reshape(call: Call) -> Function:
    target = call.ints(1) or []
    zero_is_zero = call.attribute('allowzero', 0)

    def reshape(value: Tensor) -> Tensor:
        shape = [
            value.shape[place] if size == 0 and not zero_is_zero else size
            for place, size in enumerate(target)
        ]
        return value.reshape(shape)

    return reshape


def _flatten(call: Call) -> Function:
    axis = call.attribute('axis', 1)
    return lambda value: value.reshape(math.prod(value.shape[:axis]), -1)


def _transpose(call: Call) -> Function:
    order = call.attribute('perm')
    return lambda value: value.permute(order or [*range(value.dim())[::-1]])


def _squeeze(call: Call) -> Function:
    axes = call.ints(1)
    if axes is None:
        return torch.squeeze
    return lambda value: value.squeeze(tuple(axes))


def _unsqueeze(call: Call) -> Function:
    axes = call.ints(1) or []

    def unsqueeze(value: Tensor) -> Tensor:
        rank = value.dim() + len(axes)
        for axis in sorted(axis % rank for axis in axes):
            value = value.unsqueeze(axis)
        return value

    return unsqueeze


def _expand(call: Call) -> Function:
    target = call.ints(1) or []
    # Either may be the wider one.
    return lambda value: value.expand(torch.broadcast_shapes(value.shape, target))


def _tile(call: Call) -> Function:
    repeats = call.ints(1) or []
    return lambda value: value.repeat(repeats)


def _concat(call: Call) -> Function:
    axis = call.attribute('axis')
    return lambda *values: torch.cat(values, dim=axis)


def _split(call: Call) -> Function:
    axis, sizes = call.attribute('axis', 0), call.ints(1)

    def split(value: Tensor) -> tuple[Tensor, ...]:
        return torch.split(value, sizes or -(-value.shape[axis] // call.outputs), dim=axis)

    return split


def _slice(call: Call) -> Function:
    starts, ends = call.ints(1) or [], call.ints(2) or []
    axes = call.ints(3) or [*range(len(starts))]
    steps = call.ints(4) or [1] * len(starts)

    def cut(value: Tensor) -> Tensor:
        parts = [slice(None)] * value.dim()
        backwards = [axis for axis, step in zip(axes, steps, strict=True) if step < 0]
        for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
            places = range(value.shape[axis])[start:end:step]
            if step < 0:
                places = places[::-1]
            parts[axis] = slice(places.start, places.stop, places.step)
        part = value[tuple(parts)]
        return part.flip(backwards) if backwards else part

    return cut


def _gather(call: Call) -> Function:
    axis, indices = call.attribute('axis', 0), call.known[1]
    if indices is not None and indices.dim() == 0:
        place = int(indices)
        return lambda value, _: value.select(axis, place)

    def gather(value: Tensor, places: Tensor) -> Tensor:
        at = axis % value.dim()
        places = torch.where(places < 0, places + value.shape[at], places)
        shape = (*value.shape[:at], *places.shape, *value.shape[at + 1 :])
        return value.index_select(at, places.reshape(-1)).reshape(shape)

    return gather


def _gather_elements(call: Call) -> Function:
    axis = call.attribute('axis', 0)

    def gather(value: Tensor, places: Tensor) -> Tensor:
        places = torch.where(places < 0, places + value.shape[axis], places)
        return torch.gather(value, axis, places)

    return gather


def _pad(call: Call) -> Function:
    pads, filling, axes = call.ints(1) or [], call.number(2), call.ints(3)
    mode = _text(call.attribute('mode', 'constant'))
    if mode != 'constant' or axes is not None:
        raise call.refuse(f'pads by {mode}, along the axes {axes}')
    return lambda value: functional.pad(value, _from_last(pads), value=filling or 0.0)


def _constant_of_shape(call: Call) -> Function:
    shape, value = call.ints(0) or [], call.attribute('value')
    filled = torch.full(shape, 0.0) if value is None else value.reshape(()).expand(shape).clone()
    return lambda: filled


def _range(call: Call) -> Function:
    start, end, step = call.known
    assert start is not None
    assert end is not None
    assert step is not None
    values = torch.arange(start.item(), end.item(), step.item(), dtype=start.dtype)
    return lambda: values


def _reduce(function: Callable[..., Tensor]) -> Operator:
    """`function` takes a tensor, the axes and keepdim."""

    def make(call: Call) -> Function:
        axes = call.attribute('axes') or call.ints(1)
        keepdim = bool(call.attribute('keepdims', 1))
        if not axes and call.attribute('noop_with_empty_axes', 0):
            return _same
        return lambda value: function(value, axes or [*range(value.dim())], keepdim=keepdim)

    return Operator(make, frozenset({1}))


# -- layers ------------------------------------------------------------------------------------


def _gemm(call: Call) -> Function:
    alpha, beta = call.attribute('alpha', 1.0), call.attribute('beta', 1.0)
    turn_left, turn_right = call.attribute('transA', 0), call.attribute('transB', 0)

    def gemm(left: Tensor, right: Tensor, added: Tensor | None = None) -> Tensor:
        left, right = left.T if turn_left else left, right.T if turn_right else right
        if added is None:
            return left @ right * alpha
        return torch.addmm(added, left, right, beta=beta, alpha=alpha)

    return gemm


def _layer_norm(call: Call) -> Function:
    axis, epsilon = call.attribute('axis', -1), call.attribute('epsilon', 1e-5)
    if call.outputs > 1:
        raise call.refuse('gives mean and deviation, too')

    def layer_norm(value: Tensor, scale: Tensor, bias: Tensor | None = None) -> Tensor:
        return functional.layer_norm(value, value.shape[axis:], scale, bias, epsilon)

    return layer_norm


_CONVOLUTIONS = (functional.conv1d, functional.conv2d, functional.conv3d)
_TRANSPOSED = (
    functional.conv_transpose1d,
    functional.conv_transpose2d,
    functional.conv_transpose3d,
)
_MAXIMA = (functional.max_pool1d, functional.max_pool2d, functional.max_pool3d)
_AVERAGES = (functional.avg_pool1d, functional.avg_pool2d, functional.avg_pool3d)


def _convolution(call: Call) -> Function:
    pads = _pads(call)
    strides, dilations = call.attribute('strides', 1), call.attribute('dilations', 1)
    groups = call.attribute('group', 1)

    def convolve(value: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        function = _CONVOLUTIONS[value.dim() - 3]
        value, padding = _padded(value, pads)
        return function(value, weight, bias, strides, padding, dilations, groups)

    return convolve


def _transposed_convolution(call: Call) -> Function:
    pads = _pads(call)
    strides, dilations = call.attribute('strides', 1), call.attribute('dilations', 1)
    groups, more = call.attribute('group', 1), call.attribute('output_padding', 0)
    if not _is_symmetric(pads) or call.attribute('output_shape'):
        raise call.refuse(f'makes an output_shape, or has the pads {pads}')
    padding = pads[: len(pads) // 2] or 0

    def convolve(value: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        function = _TRANSPOSED[value.dim() - 3]
        return function(value, weight, bias, strides, padding, more, groups, dilations)

    return convolve


def _average_pool(call: Call) -> Function:
    pads, count_pads = _pads(call), bool(call.attribute('count_include_pad', 0))
    kernel = call.attribute('kernel_shape')
    strides, up = call.attribute('strides', [1] * len(kernel)), bool(call.attribute('ceil_mode'))
    if not (count_pads or _is_symmetric(pads)) or any(
        dilation != 1 for dilation in call.attribute('dilations', [])
    ):
        raise call.refuse(f'averages with the pads {pads}, not counted, or with gaps')

    def average(value: Tensor) -> Tensor:
        function = _AVERAGES[value.dim() - 3]
        value, padding = _padded(value, pads)
        return function(value, kernel, strides, padding, up, count_pads)

    return average


def _max_pool(call: Call) -> Function:
    pads, kernel = _pads(call), call.attribute('kernel_shape')
    strides = call.attribute('strides', [1] * len(kernel))
    dilations = call.attribute('dilations', 1)
    up = bool(call.attribute('ceil_mode', 0))
    if call.outputs > 1:
        raise call.refuse('gives the places of the largest, too')

    def pool(value: Tensor) -> Tensor:
        function = _MAXIMA[value.dim() - 3]
        value, padding = _padded(value, pads, -math.inf)
        return function(value, kernel, strides, padding, dilations, up)

    return pool


def _grid_sample(call: Call) -> Function:
    # What the opsets from 16 and from 20 on call it.
    modes = {
        'bilinear': 'bilinear',
        'linear': 'bilinear',
        'bicubic': 'bicubic',
        'cubic': 'bicubic',
    }
    mode = _text(call.attribute('mode', 'bilinear'))
    if mode not in modes:
        raise call.refuse(f'samples by {mode}')
    return partial(
        functional.grid_sample,
        mode=modes[mode],
        padding_mode=_text(call.attribute('padding_mode', 'zeros')),
        align_corners=bool(call.attribute('align_corners', 0)),
    )


_RESIZES = {'linear': 'bilinear', 'cubic': 'bicubic'}
_ALIGNED = {'align_corners': True, 'half_pixel': False, 'pytorch_half_pixel': False}


def _resize(call: Call) -> Function:
    mode = _text(call.attribute('mode', 'nearest'))
    corners = _text(call.attribute('coordinate_transformation_mode', 'half_pixel'))
    scales, sizes = call.numbers(2), call.ints(3)
    is_odd = (
        call.attribute('antialias', 0)
        or call.attribute('exclude_outside', 0)
        or call.attribute('cubic_coeff_a', -0.75) != -0.75
        or call.attribute('axes')
    )
    # Each cell as several: what torch means by nearest.
    is_repeat = (
        mode == 'nearest'
        and corners == 'asymmetric'
        and _text(call.attribute('nearest_mode', 'round_prefer_floor')) == 'floor'
    )
    if is_odd or not (is_repeat or (corners in _ALIGNED and mode in _RESIZES)):
        raise call.refuse(f'resizes by {mode} and {corners}, or with settings of its own')

    def resize(value: Tensor) -> Tensor:
        if value.dim() != 4:
            raise call.refuse(f'resizes {value.dim()} dimensions')
        size = sizes or [
            math.floor(length * scale)
            for length, scale in zip(value.shape, scales or [], strict=True)
        ]
        return functional.interpolate(
            value,
            size=tuple(size[2:]),
            mode=_RESIZES.get(mode, mode),
            align_corners=_ALIGNED.get(corners),
        )

    return resize


def _batch_norm(call: Call) -> Function:
    epsilon = call.attribute('epsilon', 1e-5)
    if call.attribute('training_mode', 0):
        raise call.refuse('trains')

    def batch_norm(value: Tensor, *numbers: Tensor) -> Tensor:
        scale, bias, mean, variance = numbers
        return functional.batch_norm(value, mean, variance, scale, bias, eps=epsilon)

    return batch_norm


def _global_average_pool(call: Call) -> Function:
    return lambda value: value.mean(dim=[*range(2, value.dim())], keepdim=True)


def _pads(call: Call) -> list[int]:
    """The begin of each spatial axis, then the end of each."""
    automatic = _text(call.attribute('auto_pad', 'NOTSET'))
    if automatic not in ('NOTSET', 'VALID'):
        raise call.refuse(f'pads by {automatic}')
    pads: list[int] = call.attribute('pads', [])
    return pads if any(pads) and automatic == 'NOTSET' else []


def _is_symmetric(pads: list[int]) -> bool:
    half = len(pads) // 2
    return pads[:half] == pads[half:]


def _padded(
    value: Tensor, pads: list[int], filling: float = 0.0
) -> tuple[Tensor, list[int] | int]:
    """The value, padded where the layer itself cannot do it, and what is left to the layer."""
    half = len(pads) // 2
    if _is_symmetric(pads):
        return value, pads[:half] or 0
    return functional.pad(value, _from_last(pads), value=filling), 0


def _from_last(pads: list[int]) -> list[int]:
    """Pads as PyTorch wants them: begin and end of the last axis, of the one before, and so on."""
    half = len(pads) // 2
    pairs = zip(pads[:half][::-1], pads[half:][::-1], strict=True)
    return [size for pair in pairs for size in pair]


# -- fewer bits --------------------------------------------------------------------------------


def _quantize(call: Call) -> Function:
    axis, given = call.attribute('axis', 1), DTYPES.get(call.attribute('output_dtype'))
    _refuse_blocks(call)

    def quantize(value: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
        dtype = zero.dtype if zero is not None else given or torch.uint8
        steps = torch.round(value / _along(scale, value, axis))
        if zero is not None:
            steps = steps + _along(zero, value, axis)
        limits = torch.iinfo(dtype)
        return torch.clamp(steps, limits.min, limits.max).to(dtype)

    return quantize


def _dequantize(call: Call) -> Function:
    axis = call.attribute('axis', 1)
    _refuse_blocks(call)

    def dequantize(value: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
        # In 32 bits the difference of two 8-bit numbers has room.
        steps = value.to(torch.int32)
        if zero is not None:
            steps = steps - _along(zero, value, axis).to(torch.int32)
        return steps.to(scale.dtype) * _along(scale, value, axis)

    return dequantize


def _along(parameter: Tensor, value: Tensor, axis: int) -> Tensor:
    """One number for each place along `axis` of `value`, or one for all."""
    if parameter.numel() == 1:
        return parameter.reshape(())
    shape = [1] * value.dim()
    shape[axis] = -1
    return parameter.reshape(shape)


def _refuse_blocks(call: Call) -> None:
    if call.attribute('block_size', 0):
        raise call.refuse('quantizes in blocks')


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _beforehand(make: Callable[[Call], Function], *places: int) -> Operator:
    return Operator(make, frozenset(places))


OPERATORS: dict[str, Operator] = {
    'Abs': _is(torch.abs),
    'Add': _is(torch.add),
    'And': _is(torch.logical_and),
    'AveragePool': Operator(_average_pool),
    'BatchNormalization': Operator(_batch_norm),
    'Cast': Operator(_cast),
    'Ceil': _is(torch.ceil),
    'Clip': _beforehand(_clip, 1, 2),
    'Concat': Operator(_concat),
    'ConstantOfShape': _beforehand(_constant_of_shape, 0),
    'Conv': Operator(_convolution),
    'ConvTranspose': Operator(_transposed_convolution),
    'Cos': _is(torch.cos),
    'DequantizeLinear': Operator(_dequantize),
    'Div': Operator(_divide),
    'Equal': _is(torch.eq),
    'Erf': _is(torch.erf),
    'Exp': _is(torch.exp),
    'Expand': _beforehand(_expand, 1),
    'Flatten': Operator(_flatten),
    'Floor': _is(torch.floor),
    'Gather': Operator(_gather),
    'GatherElements': Operator(_gather_elements),
    'Gelu': Operator(_gelu),
    'Gemm': Operator(_gemm),
    'GlobalAveragePool': Operator(_global_average_pool),
    'Greater': _is(torch.gt),
    'GreaterOrEqual': _is(torch.ge),
    'GridSample': Operator(_grid_sample),
    'HardSigmoid': Operator(_hard_sigmoid),
    'HardSwish': _is(functional.hardswish),
    'Identity': _is(_same),
    'LayerNormalization': Operator(_layer_norm),
    'LeakyRelu': Operator(_leaky_relu),
    'Less': _is(torch.lt),
    'LessOrEqual': _is(torch.le),
    'Log': _is(torch.log),
    'MatMul': _is(torch.matmul),
    'Max': _of_many(torch.maximum),
    'MaxPool': Operator(_max_pool),
    'Mean': Operator(lambda call: lambda *values: sum(values) / len(values)),
    'Min': _of_many(torch.minimum),
    'Mod': Operator(_mod),
    'Mul': _is(torch.mul),
    'Neg': _is(torch.neg),
    'Not': _is(torch.logical_not),
    'Or': _is(torch.logical_or),
    'Pad': _beforehand(_pad, 1, 2, 3),
    'Pow': _is(torch.pow),
    'QuantizeLinear': Operator(_quantize),
    'Range': _beforehand(_range, 0, 1, 2),
    'Reciprocal': _is(torch.reciprocal),
    'ReduceMax': _reduce(torch.amax),
    'ReduceMean': _reduce(torch.mean),
    'ReduceMin': _reduce(torch.amin),
    'ReduceSum': _reduce(torch.sum),
    'Relu': _is(torch.relu),
    'Reshape': _beforehand(_reshape, 1),
    'Resize': _beforehand(_resize, 1, 2, 3),
    'Round': _is(torch.round),
    'Sigmoid': _is(torch.sigmoid),
    'Sign': _is(torch.sign),
    'Sin': _is(torch.sin),
    'Slice': _beforehand(_slice, 1, 2, 3, 4),
    'Softmax': Operator(_softmax),
    'Split': _beforehand(_split, 1),
    'Sqrt': _is(torch.sqrt),
    'Squeeze': _beforehand(_squeeze, 1),
    'Sub': _is(torch.sub),
    'Sum': _of_many(torch.add),
    'Tanh': _is(torch.tanh),
    'Tile': _beforehand(_tile, 1),
    'Transpose': Operator(_transpose),
    'Unsqueeze': _beforehand(_unsqueeze, 1),
    'Where': _is(torch.where),
}
"""Shape and Constant are not among them: their values are known without computing anything."""
