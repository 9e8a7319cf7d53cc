# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`benchmarks/speed.py`: what it does with public code and with results, on none of that code."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from tracker_ros.evaluation.speed import TEMPLATE, Record, Turn

FOLDER = Path(__file__).resolve().parent.parent / 'benchmarks'


@pytest.fixture(autouse=True)
def scripts(monkeypatch):
    """Lets tests import from the benchmarks; what they change in PyTorch is put back."""
    monkeypatch.syspath_prepend(str(FOLDER))
    gradients, threads = torch.is_grad_enabled(), torch.get_num_threads()
    yield
    sys.modules.pop('of_a_clone.old', None)
    torch.set_grad_enabled(gradients)
    torch.set_num_threads(threads)


def following(takes_rgb: bool):
    """A tracker class of the kind that clones have: its network adds up a picture's corner."""
    from official import Official

    class Following(Official):
        def load(self) -> None:
            self.network = torch.nn.Linear(6, 4, bias=False).requires_grad_(False)
            self.network.weight.copy_(torch.eye(4, 6))
            self.clock(self.network, 'forward')
            self.started: list = []

        def start(self, picture, box) -> None:
            self.started.append((picture, box))

        def search_around(self, box) -> None:
            self.last = box

        def track(self, picture):
            seen = [*picture[0, 0].tolist(), 0, 0, 0]
            assert not torch.is_grad_enabled()
            self.network(torch.tensor([seen], dtype=torch.float32))
            return self.last.xywh()

    Following.takes_rgb = takes_rgb
    return Following(FOLDER, FOLDER, 'following', {}, 1, (320, 240))


def test_public_code_is_a_subject():
    subject = following(takes_rgb=False)
    facts = subject.facts()
    assert facts['model'] == 'following'
    assert facts['gmacs_per_frame'] == 0.0  # 24 of them
    assert [len(box) for box in facts['boxes']] == [4] * 24
    assert facts['boxes'][0] == list(subject.started[0][1].xywh())
    for whole, network, rest in subject.turn('frame', 0.0):
        assert 0 < network < whole
        assert network + rest == pytest.approx(whole, abs=1e-3)
    before = len(subject.started)
    assert all(len(row) == 2 for row in subject.turn(TEMPLATE, 0.0))
    assert len(subject.started) > before


def test_public_code_gets_the_colours_that_it_takes():
    one, other = (following(takes_rgb).started[0][0] for takes_rgb in (False, True))
    assert (one == other[..., ::-1]).all()
    assert (one != other).any()


def test_text_is_exchanged_in_memory(tmp_path):
    from official import import_edited

    path = tmp_path / 'old.py'
    path.write_text('def width(row):\n    return row.ptp()\n', encoding='utf-8')
    module = import_edited('of_a_clone.old', path, {'row.ptp()': 'max(row) - min(row)'})
    assert module.width([3, 1, 7]) == 6
    assert sys.modules['of_a_clone.old'] is module
    with pytest.raises(ValueError, match='not the version'):
        import_edited('of_a_clone.old', path, {'np.ptp': 'ptp'})


def test_entries_of_a_tree_are_attributes():
    from official import Tree

    tree = Tree({'TEST': {'SIZE': 3}}, new_allowed=True)
    tree.TEST.update(FACTOR=2)
    tree.MODEL = {'NAME': 'one'}
    assert (tree.TEST.SIZE, tree.TEST.FACTOR, tree.MODEL.NAME) == (3, 2, 'one')
    with pytest.raises(AttributeError):
        _ = tree.TRAIN


def test_results_are_set_against_the_first():
    import speed

    records, results = [], []
    for name, ms, x in (('official', 100.0, 1.0), ('ours', 25.0, 1.5)):
        record = Record(name, 1.0, {})
        record.turns[speed.MASK] = [Turn([[ms / 500]], 0.0)]
        records.append(record)
        results.append(
            {'name': name, 'frame_ms': {'median': ms}, 'boxes': [[0.0] * 4, [x, 2.0, 3.0, 4.0]]}
        )
    first, ours = speed.with_comparison({'results': results}, records, False)['results']
    assert ours['times_first'] == 4.0
    assert ours['box_apart_px'] == 0.5
    assert ours['mask_frame_ms']['median'] == 50.0
    assert first['box_range_px'] == [1.0, 2.0, 3.0, 4.0]
    assert 'boxes' not in first


def test_clones_that_are_not_there_are_named(tmp_path):
    import speed

    assert 'no model' in speed.problem_with(['nobody'], tmp_path)
    assert 'no clone of SimTrack' in speed.problem_with(['simtrack_b16'], tmp_path)
    assert speed.problem_with(['dual_tfr'], tmp_path) is None
    file = tmp_path / 'SOTS' / 'lib/models/backbone/SPOS_VLT.py'
    file.parent.mkdir(parents=True)
    file.touch()
    assert speed.problem_with(['vlt_scar', 'vlt_tt'], tmp_path) is None


def test_masks_are_wanted_in_their_turns_alone():
    import speed

    compared = speed.Compared.__new__(speed.Compared)
    compared._tracker = SimpleNamespace(wants_mask=False)
    wanted = []
    compared._frame = lambda: wanted.append(compared._tracker.wants_mask) or ()
    compared.turn(speed.MASK, 0.0)
    assert set(wanted) == {True}
    wanted.clear()
    compared.turn('frame', 0.0)
    assert set(wanted) == {False}
