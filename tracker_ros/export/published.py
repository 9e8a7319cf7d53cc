# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Model packages from ONNX files that other projects publish.

The published graphs take normalised float crops, and some compute the template branch anew in
every frame. Here they become the two graphs of a package: normalisation, channel order and
layout go inside, and whatever depends on the template alone moves to ``template.onnx``.
The weights themselves are not touched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from tracker_ros.export import IMAGENET_MEAN, IMAGENET_STD
from tracker_ros.runtime.package import ModelPackage, PackageError

try:
    import onnx
    from onnx import TensorProto, compose, helper, numpy_helper, shape_inference
except ImportError as error:
    raise ImportError(f'{error}; making a model package needs it: pip install onnx') from error

_OPSET = 17
_LARGEST_FILE_BYTES = 1 << 30


def assemble(package: ModelPackage, files: dict[str, Path], folder: Path) -> dict[str, str]:
    """Write template.onnx and search.onnx of `package` into `folder`.

    `files` are the published files by role. Raises PackageError when they do not have the
    inputs and outputs that the family expects.
    """
    makers: dict[str, Callable[[ModelPackage, dict[str, Path]], tuple[onnx.ModelProto, ...]]] = {
        'vittrack': _vittrack,
        'nanotrack': _nanotrack,
    }
    if package.family not in makers:
        raise PackageError(f'{package.name}: no way to package the family {package.family!r}')
    graphs = {}
    for role, model in zip(
        ('template', 'search'), makers[package.family](package, files), strict=True
    ):
        onnx.checker.check_model(model, full_check=True)
        onnx.save(model, str(folder / f'{role}.onnx'))
        graphs[role] = f'{role}.onnx'
    return graphs


def _vittrack(package: ModelPackage, files: dict[str, Path]) -> tuple[onnx.ModelProto, ...]:
    network = _prefixed(_load(files['network']), 'net/')
    pixels = _normalise(IMAGENET_MEAN, IMAGENET_STD)
    whole = _feed(network, 'net/template', 'template', package.inputs['template_px'], pixels)
    whole = _feed(whole, 'net/search', 'search', package.inputs['search_px'], pixels)
    whole = _rename_outputs(
        whole, {'net/output1': 'score', 'net/output2': 'size', 'net/output3': 'offset'}
    )
    return _split(whole, 'template', 'search')


def _nanotrack(package: ModelPackage, files: dict[str, Path]) -> tuple[onnx.ModelProto, ...]:
    def backbone(crop: str, side: int) -> onnx.ModelProto:
        model = _prefixed(_load(files['backbone']), f'{crop}/')
        return _feed(model, f'{crop}/input', crop, side, _raw)

    whole = _prefixed(_load(files['head']), 'head/')
    for crop, feature in (('template', 'head/input1'), ('search', 'head/input2')):
        features = backbone(crop, package.inputs[f'{crop}_px'])
        whole = compose.merge_models(features, whole, io_map=[(f'{crop}/output', feature)])
    # Of the sizes that the files were published with; inference finds those of these crops.
    del whole.graph.value_info[:]
    whole = _rename_outputs(whole, {'head/output1': 'score', 'head/output2': 'offset'})
    # The head, too, has branches of the template alone.
    return _split(whole, 'template', 'search')


# A pixel stage: nodes that turn the tensor `source` (N, 3, side, side) float32, BGR in 0..255,
# into `target`, and the constants they use.
PixelStage = Callable[[str, str], tuple[list[onnx.NodeProto], list[onnx.TensorProto]]]


def _raw(source: str, target: str) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    return [helper.make_node('Identity', [source], [target])], []


def _normalise(mean: Iterable[float], std: Iterable[float]) -> PixelStage:
    """BGR in 0..255 to normalised RGB, all in one 1x1 convolution."""
    scale = 1.0 / (255.0 * np.asarray(list(std)))
    weight = np.zeros((3, 3, 1, 1), np.float32)
    for rgb in range(3):
        weight[rgb, 2 - rgb] = scale[rgb]
    bias = (-np.asarray(list(mean)) / np.asarray(list(std))).astype(np.float32)

    def stage(source: str, target: str) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
        constants = [
            numpy_helper.from_array(weight, f'{target}/pixel_weight'),
            numpy_helper.from_array(bias, f'{target}/pixel_bias'),
        ]
        names = [source, *(constant.name for constant in constants)]
        return [helper.make_node('Conv', names, [target])], constants

    return stage


def _feed(
    model: onnx.ModelProto, old: str, new: str, side: int, pixels: PixelStage
) -> onnx.ModelProto:
    """Replace the float input `old` by `new`: (1, side, side, 3) uint8 BGR."""
    graph = model.graph
    if old not in {value.name for value in graph.input}:
        raise PackageError(
            f'the published graph has the inputs {[value.name for value in graph.input]}, '
            f'but {old.split("/")[-1]!r} is needed'
        )
    kept = [value for value in graph.input if value.name != old]
    del graph.input[:]
    graph.input.extend(kept)
    graph.input.append(helper.make_tensor_value_info(new, TensorProto.UINT8, [1, side, side, 3]))
    nodes, constants = pixels(f'{new}/planes', old)
    # TensorRT takes uint8 only where a Cast is the first thing that happens to it.
    first = [
        helper.make_node('Cast', [new], [f'{new}/float'], to=TensorProto.FLOAT),
        helper.make_node('Transpose', [f'{new}/float'], [f'{new}/planes'], perm=[0, 3, 1, 2]),
        *nodes,
    ]
    body = list(graph.node)
    del graph.node[:]
    graph.node.extend(first + body)
    graph.initializer.extend(constants)
    return model


def _split(
    model: onnx.ModelProto, template: str, search: str
) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """Cut a graph in two where tensors that depend on the template alone meet the search.

    The tensors on the cut are the outputs of the first graph and inputs of the second.
    """
    graph = model.graph
    reached = {template: {template}, search: {search}}
    for name in (template, search):
        for node in graph.node:
            if reached[name].intersection(node.input):
                reached[name].update(node.output)
    of_search = [node for node in graph.node if reached[search].intersection(node.output)]
    only_template = reached[template] - reached[search] - {template}
    cut = sorted({name for node in of_search for name in node.input if name in only_template})
    if not cut:
        raise PackageError('the published graph has no branch that depends on the template alone')
    model = shape_inference.infer_shapes(model)
    extractor = onnx.utils.Extractor(model)
    outputs = [output.name for output in graph.output]
    return extractor.extract_model([template], cut), extractor.extract_model(
        [search, *cut], outputs
    )


def _load(path: Path) -> onnx.ModelProto:
    if path.stat().st_size > _LARGEST_FILE_BYTES:
        raise PackageError(f'{path} is larger than 1 GiB')
    try:
        model = onnx.load_model_from_string(path.read_bytes())
        return onnx.version_converter.convert_version(model, _OPSET)
    except Exception as error:  # protobuf and converter errors share no base class
        raise PackageError(f'{path} is not an ONNX model that can be read: {error}') from error


def _prefixed(model: onnx.ModelProto, prefix: str) -> onnx.ModelProto:
    del model.graph.value_info[:]
    model.ir_version = 8
    return compose.add_prefix(model, prefix)


def _rename_outputs(model: onnx.ModelProto, names: dict[str, str]) -> onnx.ModelProto:
    found = {value.name for value in model.graph.output}
    if found != set(names):
        raise PackageError(f'the published graph has the outputs {sorted(found)}')
    for value in model.graph.output:
        value.name = names[value.name]
        # The published shapes belong to other input sizes; inference finds the new ones.
        value.type.tensor_type.ClearField('shape')
    for node in model.graph.node:
        for place, name in enumerate(node.output):
            node.output[place] = names.get(name, name)
        for place, name in enumerate(node.input):
            node.input[place] = names.get(name, name)
    return shape_inference.infer_shapes(model, strict_mode=True)
