# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Packages made of published ONNX files compute what those files compute."""

import numpy as np
import onnx
import onnxruntime
import pytest

from tracker_ros.export.published import IMAGENET_MEAN, IMAGENET_STD, assemble
from tracker_ros.runtime import store
from tracker_ros.runtime.engine import load_engine
from tracker_ros.runtime.package import PackageError, read_package

NANOTRACK = 'nanotrack/nanotrackv{0}_nanotrack_{1}{2}.onnx'
FILES = {
    'vittrack': {'network': 'vittrack.onnx'},
    'nanotrack_v2': {role: NANOTRACK.format(2, role, '_sim') for role in ('backbone', 'head')},
    'nanotrack_v3': {role: NANOTRACK.format(3, role, '') for role in ('backbone', 'head')},
}


@pytest.fixture(scope='module')
def packages(shared, tmp_path_factory):
    """Every published model, imported into a cache of this module's own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('TRACKER_ROS_CACHE', str(tmp_path_factory.mktemp('published')))
        made = {}
        for name, files in FILES.items():
            for file in files.values():
                for _, published in store.packages_of_file(shared / 'weights' / file):
                    store.keep(published, shared / 'weights' / file)
            made[name] = store.install(name, assemble)
    return made


def crops_of(package):
    random = np.random.default_rng(7)
    sides = package.inputs['template_px'], package.inputs['search_px']
    return [random.integers(0, 256, (side, side, 3), np.uint8) for side in sides]


def outputs_of(package):
    engine = load_engine(package, 'onnxruntime', threads=1)
    template, search = crops_of(package)
    return engine.search(search, engine.template(template))


def run(model, **feeds):
    return onnxruntime.InferenceSession(model).run(None, feeds)


def test_vittrack_computes_what_its_authors_file_computes(packages, shared):
    def normalised(crop):
        rgb = crop[..., ::-1] / 255.0
        planes = ((rgb - IMAGENET_MEAN) / IMAGENET_STD).transpose(2, 0, 1)
        return planes[np.newaxis].astype(np.float32)

    template, search = map(normalised, crops_of(packages['vittrack']))
    expected = run(str(shared / 'weights' / 'vittrack.onnx'), template=template, search=search)
    found = outputs_of(packages['vittrack'])
    for name, output in zip(('score', 'size', 'offset'), expected, strict=True):
        np.testing.assert_allclose(found[name], output, rtol=0, atol=1e-5)
    assert np.ptp(expected[0]) > 1e-3, 'the crops should not leave it cold'


@pytest.mark.parametrize('name', ['nanotrack_v2', 'nanotrack_v3'])
def test_nanotrack_computes_what_its_authors_files_compute(packages, shared, name):
    def features(crop):
        model = onnx.load(shared / 'weights' / FILES[name]['backbone'])
        for dimension in model.graph.input[0].type.tensor_type.shape.dim[2:]:
            dimension.dim_value = crop.shape[0]
        del model.graph.value_info[:]
        model.graph.output[0].type.tensor_type.ClearField('shape')
        planes = crop.transpose(2, 0, 1)[np.newaxis].astype(np.float32)
        return run(model.SerializeToString(), input=planes)[0]

    template, search = map(features, crops_of(packages[name]))
    head = str(shared / 'weights' / FILES[name]['head'])
    expected = run(head, input1=template, input2=search)
    found = outputs_of(packages[name])
    for output, value in zip(('score', 'offset'), expected, strict=True):
        # Offsets are distances in pixels, up to a hundred of them.
        np.testing.assert_allclose(found[output], value, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('name', sorted(FILES))
def test_the_template_is_computed_once(packages, name):
    """Nothing in the search graph depends on the template alone."""
    template, search = (
        onnx.load(packages[name].graphs[role].path).graph for role in ('template', 'search')
    )
    cached = {value.name for value in template.output}
    assert {value.name for value in template.input} == {'template'}
    assert {value.name for value in search.input} == {'search', *cached}
    of_search = {'search'}
    for node in search.node:
        if of_search.intersection(node.input):
            of_search.update(node.output)
        else:
            assert not cached.intersection(node.input), f'{node.name} could be cached'
    for value in (template.input[0], search.input[0]):
        if value.name in ('template', 'search'):
            assert value.type.tensor_type.elem_type == onnx.TensorProto.UINT8


def test_the_other_target_gives_another_answer(packages):
    package = packages['vittrack']
    engine = load_engine(package, 'onnxruntime', threads=1)
    template, search = crops_of(package)
    first = engine.search(search, engine.template(template))['score'].copy()
    second = engine.search(search, engine.template(255 - template))['score']
    assert np.abs(first - second).max() > 1e-3


def test_files_that_are_no_onnx_are_named(packages, tmp_path):
    path = tmp_path / 'net.onnx'
    path.write_bytes(b'no protobuf at all')
    with pytest.raises(PackageError, match=rf'{path} is not an ONNX model'):
        assemble(packages['vittrack'], {'network': path}, tmp_path)


def test_a_model_with_other_inputs_is_refused(packages, shared, tmp_path):
    head = shared / 'weights' / FILES['nanotrack_v3']['head']
    with pytest.raises(PackageError, match=r"has the inputs .*'template' is needed"):
        assemble(packages['vittrack'], {'network': head}, tmp_path)


def test_a_family_that_cannot_be_packaged_is_named(tmp_path):
    package = read_package(store.describe('csrt').folder)
    with pytest.raises(PackageError, match="no way to package the family 'csrt'"):
        assemble(package, {}, tmp_path)
