# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`benchmarks/gpu.py` on a machine without a GPU: it measures what is there, and says the rest.

Libraries for a GPU are tried with stand-ins, so that their part is not first run on one.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from fake_tensorrt import fake_gpu
from small_graphs import make_small

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / 'benchmarks' / 'gpu.py'


@pytest.fixture
def bench(tmp_path):
    """Runs it on a small package; returns the finished process and its JSON."""
    make_small(tmp_path / 'small')

    def run(*arguments: str, **environment: str):
        report = tmp_path / 'report.json'
        command = [
            sys.executable,
            str(SCRIPT),
            '--quick',
            '--seconds',
            '100',
            *arguments,
        ]
        done = subprocess.run(
            [*command, '--model', str(tmp_path / 'small'), '--json', str(report)],
            env={**os.environ, 'CUDA_VISIBLE_DEVICES': '', 'PYTHONPATH': str(ROOT), **environment},
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        return done, json.loads(report.read_text()) if report.exists() else None

    return run


def test_without_a_gpu_the_cpu_is_measured(bench):
    done, report = bench('--threads', '1', '--calls', '3')
    assert done.returncode == 0, done.stderr
    assert 'no GPU, so libraries for the CPU alone' in done.stdout
    machine = report['machine']
    assert machine['gpu'] is None
    assert machine['why_no_gpu']
    assert machine['versions']['onnxruntime']
    (package,) = report['packages']
    assert (package['precision'], package['search_px']) == ('fp32', 32)
    assert set(package['engines']) == {'openvino', 'onnxruntime', 'torch'}
    engine = package['engines']['onnxruntime']
    assert engine['engine'] == 'onnxruntime (CPU, fp32)'
    assert engine['parity'] == {
        'against': 'onnxruntime (CPU, fp32)',
        'box_px': 0.0,
        'score': 0.0,
        'is_within': True,
    }
    assert engine['memory_mib']['host']['engine'] > 0
    assert engine['load_s'] > 0
    for batch in ('1', '2'):
        cell = engine['latency'][batch]
        assert cell['calls'] == 3
        assert 0 < cell['p10_ms'] <= cell['median_ms'] <= cell['p90_ms']
    stages = engine['frame']['stages_ms']
    assert list(stages) == ['crop', 'network', 'decode', 'rest']
    assert sum(stages.values()) == pytest.approx(engine['frame']['median_ms'], rel=0.5)


def test_a_library_that_fails_does_not_hold_up_the_others(bench, tmp_path):
    for name, text in (
        ('openvino', 'import os; os._exit(9)'),
        ('torch', 'raise RuntimeError("this library is broken")'),
    ):
        (tmp_path / f'{name}.py').write_text(text)
    done, report = bench('--calls', '1', PYTHONPATH=f'{tmp_path}{os.pathsep}{ROOT}')
    assert done.returncode == 0, done.stderr
    engines = report['packages'][0]['engines']
    assert engines['openvino']['error'] == 'load: the process ended with code 9'
    assert engines['torch']['error'] == 'load: RuntimeError: this library is broken'
    assert set(engines['onnxruntime']['latency']) == {'1', '2'}
    assert 'the process ended with code 9' in done.stdout


def test_wrong_answers_are_told_and_end_with_1(bench, tmp_path):
    """A package that allows no difference at all."""
    manifest = tmp_path / 'small' / 'model.yaml'
    manifest.write_text(manifest.read_text() + 'parity: {box_px: -1.0}\n')
    done, report = bench('--runtimes', 'onnxruntime', '--calls', '1')
    assert done.returncode == 1
    assert not report['packages'][0]['engines']['onnxruntime']['parity']['is_within']


def test_a_runtime_or_model_that_is_not_there_is_named(bench):
    done, report = bench('--runtimes', 'tpu')
    assert 'there is no runtime tpu; known are onnxruntime' in done.stderr
    assert report is None
    done, _ = bench('--model', 'no_such_model')
    assert done.returncode == 1
    assert "there is no model 'no_such_model'" in done.stderr


# -- with stand-ins for the GPU ------------------------------------------------------------------


@pytest.fixture
def script(monkeypatch):
    spec = importlib.util.spec_from_file_location('gpu_benchmark', SCRIPT)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


def measured(script, name, folder):
    """All that is asked of the process of one library."""
    (case,) = [case for case in script.CASES if case.name == name]
    bench = script.Bench(case, folder, 1)
    found = {**bench.load(), **bench.check()}
    assert found['parity']['is_within']
    assert len(bench.latency(batch=1, calls=1)) == 1
    found['latency'] = script.summary(bench.latency(batch=2, calls=3))
    found['frame'] = bench.frame(calls=2)
    bench._engine.close()
    return found


@pytest.mark.parametrize('flavour', ['tensorrt', 'tensorrt_rtx'])
@pytest.mark.parametrize('graphs', ['', ' without graph'])
def test_tensorrt_is_measured_with_and_without_graphs(
    script, flavour, graphs, tmp_path, monkeypatch, cache
):
    package = make_small(tmp_path / 'small')
    with fake_gpu(monkeypatch, tmp_path, {'tensorrt': '10', 'tensorrt_rtx': 'rtx'}[flavour]):
        found = measured(script, f'{flavour}{graphs}', package.folder)
    assert 'Fake GPU' in found['engine']
    assert found['note'] == ('without CUDA graph: none is wanted' if graphs else '')


@pytest.mark.parametrize('graphs', ['', ' without graph'])
def test_torch_is_measured_with_and_without_graphs(script, graphs, tmp_path, monkeypatch):
    torch = pytest.importorskip('torch', reason='needs PyTorch: pip install torch')
    from test_torch_engine import StandIn

    from tracker_ros.runtime import torch_gpu

    monkeypatch.setattr('tracker_ros.runtime.torch_cuda_engine.find_cuda', lambda: None)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch_gpu, 'Gpu', type('Gpu', (StandIn,), {}))
    found = measured(script, f'torch_cuda{graphs}', make_small(tmp_path / 'small').folder)
    assert found['engine'] == f'torch (Stand-In, fp32{"" if graphs else ", CUDA graph"})'
    assert found['note'] == ('without CUDA graph: none is wanted' if graphs else '')
    assert list(found['latency']['stages_ms']) == ['copy in', 'run', 'copy out']


def test_on_a_gpu_all_are_chosen_but_those_not_asked_for(script):
    args = script.argparse.Namespace(runtimes=None)
    assert script.chosen(args, {'gpu': {'name': 'GPU'}}) == [*script.CASES]
    without = script.chosen(args, {'gpu': None})
    assert [case.name for case in without] == ['openvino', 'onnxruntime', 'torch']
    args.runtimes = ['torch_cuda']
    names = [case.name for case in script.chosen(args, {'gpu': {'name': 'GPU'}})]
    assert names == ['torch_cuda', 'torch_cuda without graph']


def test_made_up_packages_come_in_all_precisions(script, tmp_path):
    pytest.importorskip('torch', reason='needs PyTorch: pip install torch')
    packages = script.made_up('tiny', ['fp32', 'fp16', 'int8'], tmp_path)
    assert [package.precision for package in packages] == ['fp32', 'fp16', 'int8']
    with pytest.raises(script.PackageError, match=r'no size .xl.; known are b, s, stage1, tiny'):
        script.made_up('xl', ['fp32'], tmp_path)
