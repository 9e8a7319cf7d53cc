# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Packages in fewer bits: made from one in fp32, measured, refused where they fall short."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import cv2
import numpy as np
import onnx
import parity as golden
import pytest
import yaml
from small_graphs import make_small
from test_published import packages  # noqa: F401

from tracker_ros.cli import main
from tracker_ros.evaluation.sequences import read_sequence, read_sequences
from tracker_ros.export.quantize import Plan, quantize
from tracker_ros.runtime import store
from tracker_ros.runtime.engine import EngineError, load_engine
from tracker_ros.runtime.package import PackageError, read_package
from tracker_ros.runtime.parity import BOUNDS, ENTRY, check, shortfalls
from tracker_ros.trackers import create

torch = pytest.importorskip('torch', reason='needs PyTorch, to export: pip install torch')

REDUCED = ['fp16', 'bf16', 'int8', 'int8_bf16']


def make_clip(folder: Path, seed: int, frames: int = 7) -> Path:
    """A textured target on a textured ground, and where it is."""
    (folder / 'img').mkdir(parents=True)
    ground = golden.synth_image(seed, 96, 128)
    target = golden.synth_image(seed + 100, 24, 30)
    lines = []
    for number in range(frames):
        x, y = 30 + 3 * number, 40 - 2 * number
        image = ground.copy()
        image[y : y + 24, x : x + 30] = target
        cv2.imwrite(str(folder / 'img' / f'{number:04}.png'), image)
        lines.append(f'{x},{y},30,24')
    (folder / 'groundtruth.txt').write_text('\n'.join(lines) + '\n')
    return folder


@pytest.fixture(scope='module')
def clips(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp('clips')
    for seed in range(3):
        make_clip(folder / f'clip{seed}', seed)
    return folder


@pytest.fixture(scope='module')
def tiny(tmp_path_factory):
    """A small MixFormerV2 whose answers depend on the image."""
    from test_mixformer_v2_tracking import TINY, saved

    from tracker_ros.export.convert import convert
    from tracker_ros.networks.mixformer_v2 import MixFormerV2

    torch.manual_seed(1)
    network = MixFormerV2(TINY).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.requires_grad:
                parameter += 0.05 * torch.randn_like(parameter)
    folder = tmp_path_factory.mktemp('tiny')
    path = saved(network, folder / 'tiny.pth.tar')
    return convert(path, 'mixformer_v2', 'tiny', folder / 'models' / 'tiny')


def plan_of(precision, clips, **changes):
    sequences = read_sequences(clips)
    return Plan(
        **{
            'precision': precision,
            'calibrate': sequences[:2],
            'check': sequences[2:],
            'frames': 6,
            **changes,
        }
    )


@pytest.fixture(scope='module')
def reduced(tiny, clips, tmp_path_factory):
    """The package in each precision."""
    folder = tmp_path_factory.mktemp('reduced')
    made = {}

    def reduced(precision):
        if precision not in made:
            name = f'tiny-{precision}'
            plan = plan_of(precision, clips)
            made[precision] = quantize(tiny, plan, name, folder / name, force=True)
        return made[precision]

    return reduced


def contents(folder: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.iterdir())
    }


@pytest.mark.parametrize('precision', REDUCED)
def test_a_package_of_its_own_with_a_record(tiny, reduced, precision):
    package = reduced(precision)
    assert package.name == f'tiny-{precision}'
    assert package.precision == precision
    package.verify()
    assert package.inputs == tiny.inputs
    assert package.constants == tiny.constants
    assert package.manifest['made_of'] == {
        'name': 'tiny',
        **{role: graph.sha256 for role, graph in tiny.graphs.items()},
    }
    record = package.manifest[ENTRY]
    assert record['against'] == 'tiny'
    assert record['clips'] == ['clip2']
    assert record['frames'] == 6
    assert record['runtime'].startswith('onnx' if precision == 'fp16' else 'openvino')
    assert 0 < record['box_px']['median'] <= record['box_px']['p95'] <= record['box_px']['max']
    assert 0 <= record['iou']['min'] <= record['iou']['p05'] <= 1
    assert 0 < record['score']['median'] <= record['score']['max'] < 0.5
    if precision.startswith('int8'):
        assert package.manifest['calibrated_on'] == {'clips': ['clip0', 'clip1'], 'frames': 6}
    sizes = {role: graph.path.stat().st_size for role, graph in package.graphs.items()}
    share = 0.6 if precision != 'bf16' else 0.65
    assert sizes['search'] < share * tiny.graphs['search'].path.stat().st_size


@pytest.mark.parametrize('precision', REDUCED)
def test_the_cached_tensors_of_both_graphs_agree(reduced, precision):
    template, search = (
        onnx.load(reduced(precision).graphs[role].path).graph for role in ('template', 'search')
    )
    kinds = {item.name: item.type.tensor_type.elem_type for item in template.output}
    taken = {item.name: item.type.tensor_type.elem_type for item in search.input}
    half = onnx.TensorProto.FLOAT16 if precision == 'fp16' else onnx.TensorProto.FLOAT
    assert taken == {'search': onnx.TensorProto.UINT8, **kinds}
    assert set(kinds.values()) == {half}
    assert {item.type.tensor_type.elem_type for item in search.output} == {onnx.TensorProto.FLOAT}


@pytest.mark.parametrize('runtime', ['openvino', 'onnxruntime'])
@pytest.mark.parametrize('precision', REDUCED)
def test_every_engine_that_has_the_types_runs_it(tiny, reduced, clips, precision, runtime):
    package = reduced(precision)
    if (precision, runtime) == ('bf16', 'onnxruntime'):
        with pytest.raises(EngineError, match=r'bf16 on the CPU.*openvino'):
            load_engine(package, runtime, 1)
        return
    engine, reference = load_engine(package, runtime, 1), load_engine(tiny, runtime, 1)
    (image, *_) = read_sequence(clips / 'clip2').frames()
    template = np.ascontiguousarray(image[20:52, 20:52])
    search = np.ascontiguousarray(image[:64, :64])
    answers = [
        each.search(search, each.template(template, online=template))
        for each in (engine, reference)
    ]
    assert answers[0]['box'].dtype == np.float32
    np.testing.assert_allclose(answers[0]['box'], answers[1]['box'], atol=0.05)


def test_the_original_is_left_alone_and_nothing_else_is_left(tiny, clips, tmp_path):
    before = contents(tiny.folder)
    target = tmp_path / 'models' / 'half'
    quantize(tiny, plan_of('fp16', clips), 'half', target)
    quantize(tiny, plan_of('fp16', clips), 'half', target)
    assert contents(tiny.folder) == before
    assert [path.name for path in target.parent.iterdir()] == ['half']


def test_one_that_falls_short_is_not_written(tiny, clips, tmp_path, monkeypatch):
    strict = BOUNDS['int8'].__class__(iou_mean=1.0, iou_p05=1.0, score_p95=0.0)
    monkeypatch.setitem(BOUNDS, 'int8', strict)
    target = tmp_path / 'models' / 'poor'
    with pytest.raises(PackageError, match=r'too far from fp32: mean IoU 0\.\d+ .*--force'):
        quantize(tiny, plan_of('int8', clips), 'poor', target)
    assert list(target.parent.iterdir()) == []
    made = quantize(tiny, plan_of('int8', clips), 'poor', target, force=True)
    assert made.manifest['forced'] is True
    assert store.find(f'{target}').name == 'poor'
    edit(target, forced=False)
    with pytest.raises(PackageError, match=r'poor is too far from fp32: .*forced: true'):
        store.find(f'{target}')


def edit(folder: Path, **changes: object) -> None:
    manifest = yaml.safe_load((folder / 'model.yaml').read_text())
    manifest.update(changes)
    (folder / 'model.yaml').write_text(yaml.safe_dump(manifest))


GOOD = {
    'iou': {'mean': 1.0, 'p05': 1.0},
    'score': {'p95': 0.0},
}


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({}, 'has no record measured_parity'),
        ({ENTRY: 'good'}, 'has no record measured_parity'),
        ({ENTRY: {'iou': {'mean': 1.0}}}, r"cannot be read \(KeyError\('p05'\)\)"),
        ({ENTRY: {**GOOD, 'iou': 0.9}}, r'cannot be read \(TypeError'),
        ({ENTRY: {**GOOD, 'iou': {'mean': 0.1, 'p05': 1.0}}}, r'mean IoU 0\.100 below'),
        ({ENTRY: {**GOOD, 'score': {'p95': float('nan')}}}, '5 % of scores off by nan'),
    ],
)
def test_packages_of_unknown_quality_are_refused(tmp_path, changes, message):
    package = make_small(tmp_path / 'small', precision='int8', **changes)
    with pytest.raises(PackageError, match=message) as caught:
        check(package)
    assert 'tracker_ros models quantize' in str(caught.value)
    with pytest.raises(PackageError, match=message):
        create(f'{package.folder}')


@pytest.mark.parametrize(
    'changes', [{'precision': 'fp32'}, {'forced': True}, {ENTRY: GOOD}], ids=str
)
def test_others_pass(tmp_path, changes):
    check(make_small(tmp_path / 'small', **{'precision': 'int8', **changes}))


@pytest.mark.parametrize('precision', REDUCED)
def test_a_record_on_the_bound_is_good(precision):
    bounds = BOUNDS[precision]
    record = {
        'iou': {'mean': bounds.iou_mean, 'p05': bounds.iou_p05},
        'score': {'p95': bounds.score_p95},
    }
    assert shortfalls(record, precision) == []
    record['iou']['p05'] -= 1e-6
    assert len(shortfalls(record, precision)) == 1


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'precision': 'int4'}, "must be one of fp16, bf16, int8, int8_bf16, not 'int4'"),
        ({'precision': 'fp32'}, "must be one of .*, not 'fp32'"),
        ({'calibrate': []}, 'int8 needs footage to be calibrated on: --calibrate DATA'),
        ({'check': []}, 'compared with fp32 on footage: --check DATA'),
        ({'frames': 0}, 'at least one frame is needed, not 0'),
    ],
)
def test_what_cannot_be_made_is_told(tiny, clips, tmp_path, changes, message):
    plan = plan_of(**{'precision': 'int8', 'clips': clips, **changes})
    with pytest.raises(PackageError, match=message):
        quantize(tiny, plan, 'x', tmp_path / 'x')
    assert list(tmp_path.iterdir()) == []


def test_a_reduced_package_is_not_reduced_again(reduced, clips, tmp_path):
    with pytest.raises(PackageError, match='tiny-int8 is int8 already; take the fp32 package'):
        quantize(reduced('int8'), plan_of('fp16', clips), 'x', tmp_path / 'x')


def test_a_package_without_graphs_is_refused(clips, tmp_path):
    with pytest.raises(PackageError, match='csrt has no graphs of a tracker'):
        quantize(store.describe('csrt'), plan_of('fp16', clips), 'x', tmp_path / 'x')


def test_the_package_itself_is_not_overwritten(tiny, clips):
    with pytest.raises(PackageError, match='is the package itself'):
        quantize(tiny, plan_of('fp16', clips), 'x', tiny.folder)


# -- the command -------------------------------------------------------------------------------


def run(*arguments) -> int:
    return main(['models', 'quantize', *map(str, arguments)])


def test_the_command_writes_beside_the_package(tiny, clips, capsys):
    """The third clip is kept for the comparison."""
    code = run(tiny.folder, '--precision', 'fp16', '--calibrate', clips, '--frames', 3)
    output = capsys.readouterr()
    assert code == 0, output.err
    package = read_package(tiny.folder.with_name('tiny-fp16'))
    assert package.manifest[ENTRY]['clips'] == ['clip2']
    assert f'ready in {package.folder}' in output.out
    assert re.search(r'iou +mean 0\.\d+', output.out)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--precision', 'int8'], 'needs footage'),
        (['--precision', 'fp16'], '--check DATA'),
        (['--precision', 'fp8', '--check', 'CLIPS'], "not 'fp8'"),
        (['--precision', 'fp16', '--check', '/nowhere'], '/nowhere: no such folder'),
        (['--precision', 'fp16', '--check', 'CLIPS', '--output', '/proc/x'], '/proc'),
    ],
)
def test_the_command_says_what_is_wrong(tiny, clips, capsys, arguments, message):
    code = run(tiny.folder, *(str(clips) if word == 'CLIPS' else word for word in arguments))
    assert code == 1
    assert message in capsys.readouterr().err


def test_a_model_without_weights_is_told_how_to_get_them(cache, clips, capsys):
    assert run('vittrack', '--precision', 'fp16', '--check', clips) == 1
    assert 'tracker_ros models fetch vittrack' in capsys.readouterr().err


def test_the_list_shows_the_precision(cache, capsys):
    make_small(cache / 'models' / 'small-int8', precision='int8')
    assert main(['models', 'list']) == 0
    (line,) = (row for row in capsys.readouterr().out.splitlines() if 'small-int8' in row)
    assert line.split()[:3] == ['small-int8', 'ready', 'int8']


# -- a network that was trained ----------------------------------------------------------------


def test_vittrack_in_int8_tracks_like_fp32(packages, shared, tmp_path):  # noqa: F811
    clips = {name: read_sequence(shared / 'data' / 'small' / name) for name in CLIPS}
    plan = Plan('int8', list(clips.values())[:3], [clips['otb_Crossing']], 24)
    made = quantize(packages['vittrack'], plan, 'vittrack-int8', tmp_path / 'm', force=True)
    sequence = clips['uav123_car16_2']
    overlaps = []
    for package in (packages['vittrack'], made):
        tracker = create(f'{package.folder}', 'openvino', 1)
        frames = sequence.frames()
        tracker.start(next(frames), sequence.first_box)
        boxes = [tracker.step(image).box for image, _ in zip(frames, range(40), strict=False)]
        truth = sequence.truth[1:41].tolist()
        overlaps.append(
            np.mean([box.iou(type(box)(*row)) for box, row in zip(boxes, truth, strict=True)])
        )
    assert overlaps[0] > 0.6
    assert overlaps[1] > overlaps[0] - 0.05


CLIPS = (
    'davis_car-roundabout',
    'otb_DragonBaby',
    'vot2013_car',
    'otb_Crossing',
    'uav123_car16_2',
)
