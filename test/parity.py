# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Reading the golden numbers: the inputs that their rule describes."""

from __future__ import annotations

import hashlib
import json
import math
import re
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest


class Golden:
    """One `NAME.npz` with the `NAME.json` beside it."""

    def __init__(self, folder: Path, name: str) -> None:
        if not (folder / f'{name}.npz').is_file():
            pytest.skip(f'no golden numbers {name} in {folder}: pass --parity DIR')
        self.facts = self.facts_of(folder, name)
        self.arrays = np.load(folder / f'{name}.npz', allow_pickle=False)

    @staticmethod
    def facts_of(folder: Path, name: str) -> dict:
        return json.loads((folder / f'{name}.json').read_text(encoding='utf-8'))

    def table(self, key: str, columns: str) -> list[dict[str, float]]:
        """Rows of a table as dictionaries, its column names read from the facts."""
        names = self.facts[columns].split(',')
        names = [name.split('(')[0] for name in names]
        return [dict(zip(names, row.tolist(), strict=True)) for row in self.arrays[key]]


def struct_noise(seed: int, height: int, width: int) -> np.ndarray:
    """(3, height, width) float32 in [0, 1): coarse blocks of 16 pixels with fine noise."""
    generator = np.random.Generator(np.random.PCG64(seed))
    coarse = generator.random((3, math.ceil(height / 16), math.ceil(width / 16)), np.float32)
    fine = generator.random((3, height, width), np.float32)
    coarse = coarse.repeat(16, axis=1).repeat(16, axis=2)[:, :height, :width]
    return np.float32(0.7) * coarse + np.float32(0.3) * fine


def synth_image(seed: int, height: int, width: int) -> np.ndarray:
    """(height, width, 3) uint8 of `struct_noise`."""
    noise = np.floor(struct_noise(seed, height, width) * np.float32(256)).astype(np.uint8)
    return np.ascontiguousarray(noise.transpose(1, 2, 0))


def frame(shared: Path, name: str, index: int, digest: str) -> np.ndarray:
    """Frame `index` of a clip, BGR uint8; skips where the decoder gives other pixels."""
    capture = cv2.VideoCapture(str(shared / 'data' / 'small' / name / 'video.mp4'))
    try:
        for _ in range(index + 1):
            ok, image = capture.read()
            assert ok, f'{name} ends before frame {index}'
    finally:
        capture.release()
    if sha16(image) != digest:
        pytest.skip(f'this machine decodes {name} to other pixels than the golden numbers saw')
    return image


def sha16(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:16]


def made_up_weights(
    rule: dict, entries: list[tuple[str, tuple[int, ...]]], keep: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Deterministic weights by the rule of the golden numbers, for tensors (name, shape).

    `keep` gives the tensors that the rule says to take as the network builds them.
    """
    weights = {}
    for name, shape in entries:
        if any(re.search(pattern, name) for pattern in rule['keep']):
            weights[name] = keep[name]
            continue
        weights[name] = _made_up(rule, name, tuple(shape))
    return weights


def load_made_up(network: Any, rule: dict) -> Any:
    """The network (of PyTorch) with the deterministic weights of a rule."""
    import torch

    own = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    weights = made_up_weights(rule, [(name, value.shape) for name, value in own.items()], own)
    network.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
    return network.eval()


def check_weights(facts: dict, state: dict) -> None:
    """Names, shapes and made-up values of a state dict are the official ones."""
    own = {key: value.numpy() for key, value in state.items()}
    rows = [dict(zip(facts['columns'], row, strict=True)) for row in facts['tensors']]
    assert {row['name'] for row in rows} == set(own)
    for row in rows:
        value = own[row['name']].astype(np.float64).reshape(-1)
        assert list(own[row['name']].shape) == row['shape'], row['name']
        assert value[0] == pytest.approx(row['first'], abs=1e-6)
        assert value[-1] == pytest.approx(row['last'], abs=1e-6)
        assert value.sum() == pytest.approx(row['sum'], rel=1e-5, abs=1e-3)
        assert np.abs(value).sum() == pytest.approx(row['abssum'], rel=1e-5)


def distance(found: np.ndarray, golden: Golden, key: str) -> float:
    """Largest difference relative to the largest value, on the stored samples."""
    step = golden.facts['arrays'][key]['k']
    assert list(found.shape) == golden.facts['arrays'][key]['shape'], key
    samples = found.reshape(-1)[::step]
    stored = golden.arrays[key].reshape(-1)
    return float(np.abs(samples - stored).max() / np.abs(stored).max())


def _made_up(rule: dict, name: str, shape: tuple[int, ...]) -> np.ndarray:
    if name.endswith('num_batches_tracked'):
        return np.zeros(shape, np.int64)
    salt = next((salt for pattern, salt in rule['salts'] if re.search(pattern, name)), None)
    seed = zlib.crc32(((rule['salt'] if salt is None else salt) + name).encode())
    z = np.random.Generator(np.random.PCG64(seed)).standard_normal(size=shape, dtype=np.float32)
    value = _shaped(name, z)
    for pattern, change in rule['overrides']:
        if re.search(pattern, name):
            if 'scale' in change:
                value = value * np.float32(change['scale'])
            else:
                value = value + np.asarray(change['add'], np.float32)
    return value.astype(np.float32)


def _shaped(name: str, z: np.ndarray) -> np.ndarray:
    one = np.float32(1)
    if name.endswith('running_mean'):
        return np.float32(0.1) * z
    if name.endswith('running_var'):
        return one + np.float32(0.2) * np.abs(z)
    if name.endswith('bias'):
        return np.float32(0.02) * z
    if name.endswith('.gamma'):
        return np.float32(0.1) * np.abs(z) + np.float32(0.05)
    if name.endswith(('cls_weight', 'loc_weight')):
        return z
    if name.endswith('.weight') and z.ndim == 1:
        return one + np.float32(0.1) * z
    if name.endswith('weight') and z.ndim >= 2:
        return z * np.float32(1 / np.sqrt(np.prod(z.shape[1:])))
    return np.float32(0.02) * z


IMAGENET_MEAN = np.float32([0.485, 0.456, 0.406])
IMAGENET_STD = np.float32([0.229, 0.224, 0.225])


def net_input(seed: int, size: int) -> np.ndarray:
    """(1, 3, size, size) float32: normalised structured noise."""
    noise = struct_noise(seed, size, size)
    return ((noise - IMAGENET_MEAN[:, None, None]) / IMAGENET_STD[:, None, None])[None]


def language(seed: int) -> np.ndarray:
    """(768,) float32: the mean embedding of a sentence that was never said."""
    random = np.random.Generator(np.random.PCG64(seed))
    return np.float32(0.3) * random.standard_normal(768, np.float32)


def sequence(shared: Path, run: dict) -> list[np.ndarray]:
    """The frames of a golden run, BGR uint8; skips where the decoder gives other pixels."""
    if run['kind'] == 'synth':
        frames = [_synth_frame(run['seed'], t) for t in range(run['frames'])]
        assert [sha16(image) for image in frames] == run['frame_sha256_16']
        return frames
    name = run['sequence'].removesuffix('_fallback')
    capture = cv2.VideoCapture(str(shared / 'data' / 'small' / name / 'video.mp4'))
    wanted = [run['start'] + run['step'] * place for place in range(run['frames'])]
    frames = []
    try:
        for index in range(wanted[-1] + 1):
            ok, image = capture.read()
            assert ok, f'{name} ends before frame {index}'
            if index in wanted:
                frames.append(image)
    finally:
        capture.release()
    if [sha16(image) for image in frames] != run['frame_sha256_16']:
        pytest.skip(f'this machine decodes {name} to other pixels than the golden numbers saw')
    return frames


def _synth_frame(seed: int, t: int) -> np.ndarray:
    """An object of 48 x 36 px that moves by (3, 2) px a frame over a still background."""
    image = synth_image(seed, 240, 320).copy()
    x, y = 100 + 3 * t, 80 + 2 * t
    image[y : y + 36, x : x + 48] = synth_image(seed + 1, 36, 48)
    return image
