# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import io
import os
import pickle
import sys
import types
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import torch

from tracker_ros.export.checkpoint import CheckpointError, read_checkpoint, tensors_of


def a_state_dict() -> dict[str, torch.Tensor]:
    torch.manual_seed(3)
    whole = torch.randn(4, 6)
    return OrderedDict(
        weight=torch.randn(3, 5),
        view=whole[1:3, ::2],
        turned=torch.randn(2, 7).t(),
        scalar=torch.tensor(2.5),
        empty=torch.zeros(0, 3),
        counts=torch.arange(4),
        half=torch.randn(5).half(),
        brain=torch.randn(5).bfloat16(),
        flags=torch.tensor([True, False]),
        parameter=torch.nn.Parameter(torch.randn(2, 2)),
    )


@pytest.mark.parametrize('zipped', [True, False], ids=['archive', 'stream'])
def test_every_tensor_comes_back_as_it_was(tmp_path, zipped):
    path = tmp_path / 'weights.pth.tar'
    state = a_state_dict()
    torch.save(
        {'epoch': 3, 'net': state, 'name': 'x'}, path, _use_new_zipfile_serialization=zipped
    )
    found = tensors_of(read_checkpoint(path))
    assert found.keys() == state.keys()
    for name, tensor in state.items():
        expected = tensor.detach().float() if tensor.dtype == torch.bfloat16 else tensor.detach()
        np.testing.assert_array_equal(found[name], expected.numpy(), err_msg=name)


def test_the_prefix_of_distributed_training_is_taken_off(tmp_path):
    torch.save({'module.a.weight': torch.ones(2)}, tmp_path / 'w.pth')
    assert list(tensors_of(read_checkpoint(tmp_path / 'w.pth'))) == ['a.weight']


def test_objects_of_the_training_code_are_passed_over(tmp_path, monkeypatch):
    """Official files hold statistics and settings of classes that nobody has installed."""
    names = ['lib', 'lib.train', 'lib.train.admin', 'lib.train.admin.stats']
    for name in names:
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    module = sys.modules[names[-1]]

    class AverageMeter:
        def __init__(self):
            self.history = [1.0, np.float64(2.0)]

    AverageMeter.__module__ = module.__name__
    AverageMeter.__qualname__ = 'AverageMeter'
    module.AverageMeter = AverageMeter
    path = tmp_path / 'official.pth.tar'
    torch.save({'net': {'w': torch.ones(3)}, 'stats': OrderedDict(train=AverageMeter())}, path)
    for name in names:
        monkeypatch.delitem(sys.modules, name)
    np.testing.assert_array_equal(tensors_of(read_checkpoint(path))['w'], np.ones(3))


class Evil:
    """Unpickling this with the ordinary loader makes a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize('zipped', [True, False], ids=['archive', 'stream'])
def test_a_malicious_pickle_runs_nothing(tmp_path, zipped):
    path, trace = tmp_path / 'evil.pth', tmp_path / 'trace'
    torch.save({'net': {'w': Evil(trace)}}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match=r'evil\.pth.*names (os|posix)\.mkdir.*nothing'):
        read_checkpoint(path)
    assert not trace.exists()
    # The file does what it is accused of.
    torch.load(path, weights_only=False)
    assert trace.is_dir()


@pytest.mark.parametrize(
    'name', ['builtins.eval', 'builtins.getattr', 'subprocess.Popen', 'torch.load', 'os.system']
)
def test_no_function_is_reachable(tmp_path, name):
    module, function = name.rsplit('.', 1)
    stream = pickle.PROTO + b'\x02' + f'c{module}\n{function}\n'.encode() + b'.'
    with zipfile.ZipFile(tmp_path / 'x.pth', 'w') as archive:
        archive.writestr('x/data.pkl', stream)
    with pytest.raises(CheckpointError, match='nothing of it was run'):
        read_checkpoint(tmp_path / 'x.pth')


def test_a_tensor_must_lie_in_its_storage(tmp_path):
    good = tmp_path / 'good.pth'
    torch.save({'w': torch.arange(4, dtype=torch.float32)}, good)
    with zipfile.ZipFile(good) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    name = next(name for name in content if name.endswith('data.pkl'))
    # The size (4,) of the tensor, not of the storage: one byte integer in a tuple.
    assert content[name].count(b'K\x04\x85') == 1
    content[name] = content[name].replace(b'K\x04\x85', b'K\x40\x85')
    with zipfile.ZipFile(tmp_path / 'bad.pth', 'w') as archive:
        for member, data in content.items():
            archive.writestr(member, data)
    with pytest.raises(CheckpointError, match='reaches beyond its storage'):
        read_checkpoint(tmp_path / 'bad.pth')


@pytest.mark.parametrize('keep', [0, 1, 20, 200])
@pytest.mark.parametrize('zipped', [True, False], ids=['archive', 'stream'])
def test_damaged_files_say_so(tmp_path, zipped, keep):
    stream = io.BytesIO()
    torch.save({'w': torch.ones(100)}, stream, _use_new_zipfile_serialization=zipped)
    path = tmp_path / 'cut.pth'
    path.write_bytes(stream.getvalue()[:keep])
    with pytest.raises(CheckpointError, match=r'cut\.pth'):
        read_checkpoint(path)


@pytest.mark.parametrize('content', [[1, 2], {'epoch': 3}, {}])
def test_a_file_without_weights_says_what_it_holds(tmp_path, content):
    torch.save(content, tmp_path / 'w.pth')
    with pytest.raises(CheckpointError, match=r'no weights|not a dictionary'):
        tensors_of(read_checkpoint(tmp_path / 'w.pth'))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(CheckpointError, match='no file'):
        read_checkpoint(tmp_path / 'nowhere.pth')
