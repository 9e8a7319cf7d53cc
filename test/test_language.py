# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""BERT from files as they are published to sentences that a tracker is told.

The weights of the published model are not here: a small one with random weights and a vocabulary
of its own stands in, and plain loops for the official code.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import parity
import pytest
import torch
import yaml
from fakes import make_package

from tracker_ros.export.bert import TOKENS
from tracker_ros.export.checkpoint import CheckpointError
from tracker_ros.export.convert import ConversionError, convert
from tracker_ros.export.safetensors import read_safetensors
from tracker_ros.geometry import Box
from tracker_ros.networks.bert import Bert, Variant, variant_of
from tracker_ros.runtime import language
from tracker_ros.runtime.engine import EngineError
from tracker_ros.runtime.language import LanguageModel, load_language_model
from tracker_ros.runtime.package import PackageError
from tracker_ros.trackers import TrackerError, create

pytest.importorskip('tokenizers', reason='needs the tokenizers: pip install tokenizers')

WORDS = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', 'the', 'black', 'bird', 'fly', '##ing', ',']
WORDS += ['a', 'on', 'ground', 'cafe', '##s']
TINY = Variant(vocabulary=len(WORDS), positions=64, dim=128, depth=2, hidden=256)


@pytest.fixture(scope='module')
def network() -> Bert:
    torch.manual_seed(4)
    network = Bert(TINY).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return network


def published(network: Bert, folder: Path, layout: str) -> Path:
    """What is given to `convert`: the model as one of the places that have it lays it out."""
    folder.mkdir(parents=True)
    (folder / 'vocab.txt').write_text('\n'.join(WORDS) + '\n')
    state = {name: value.clone() for name, value in network.state_dict().items()}
    state['pooler.dense.bias'] = torch.zeros(TINY.dim)
    if layout == 'safetensors':
        write_safetensors(folder / 'model.safetensors', state)
        return folder
    if layout == 'pytorch':
        old = {'LayerNorm.weight': 'LayerNorm.gamma', 'LayerNorm.bias': 'LayerNorm.beta'}
        for new, name in old.items():
            state = {key.replace(new, name): value for key, value in state.items()}
        state = {f'bert.{name}': value for name, value in state.items()}
        state['cls.predictions.bias'] = torch.zeros(TINY.vocabulary)
        torch.save(state, folder / 'pytorch_model.bin')
        return folder
    prefix = {'scar': 'backbone.bert_model.', 'tt': 'backbone.0.body.bert_model.'}[layout]
    state['embeddings.position_ids'] = torch.arange(TINY.positions)[None]
    state = {f'module.{prefix}{name}': value for name, value in state.items()}
    state['module.head.bias'] = torch.zeros(3)
    torch.save({'state_dict': state}, folder / 'VLT.pth')
    return folder / 'VLT.pth'


def write_safetensors(path: Path, state: dict[str, torch.Tensor]) -> None:
    header, data = {'__metadata__': {'format': 'pt'}}, b''
    for name, value in state.items():
        raw = value.numpy().tobytes()
        header[name] = {
            'dtype': 'F32',
            'shape': list(value.shape),
            'data_offsets': [len(data), len(data) + len(raw)],
        }
        data += raw
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, 'little') + text + data)


@pytest.fixture(scope='module')
def package(network, tmp_path_factory):
    folder = tmp_path_factory.mktemp('bert')
    given = published(network, folder / 'given', 'safetensors')
    return convert(given, 'bert', 'bert_tiny', folder / 'bert_tiny')


@pytest.fixture(params=['_on_onnxruntime', '_on_openvino'])
def model(request, package, monkeypatch) -> LanguageModel:
    """On each of the libraries."""
    monkeypatch.setattr(language, '_on_onnxruntime', getattr(language, request.param))
    return LanguageModel(package)


def test_a_sentence_becomes_words_and_padding(model):
    ids, mask = model.tokens('The black birds, FLYING!')
    expected = ['[CLS]', 'the', 'black', 'bird', '##s', ',', 'fly', '##ing', '[UNK]', '[SEP]']
    expected += ['[PAD]'] * (TOKENS - len(expected))
    assert [WORDS[number] for number in ids[0]] == expected
    np.testing.assert_array_equal(mask[0], [word != '[PAD]' for word in expected])


def test_accents_do_not_matter(model):
    np.testing.assert_array_equal(model.tokens('café')[0], model.tokens('cafe')[0])


def test_what_is_too_long_is_cut(model):
    ids, mask = model.tokens('bird ' * 200)
    assert ids.shape == mask.shape == (1, TOKENS)
    assert mask.all()
    assert WORDS[ids[0, -1]] == '[SEP]'
    assert model.embed('bird ' * 100_000).shape == (TINY.dim,)


def test_the_embedding_is_the_mean_over_all_positions(model, network):
    """Of padding as well, which sees the words but is not seen."""
    found = model.embed('the black bird')
    expected = by_loops(network, model.tokens('the black bird')[0][0].tolist(), count=5)
    np.testing.assert_allclose(found, expected.mean(axis=0), atol=2e-6)


def test_sentences_differ(model):
    black, flying = model.embed('the black bird'), model.embed('the flying bird')
    assert np.abs(black - flying).max() > 1e-3
    np.testing.assert_array_equal(black, model.embed('the black bird'))


def by_loops(network: Bert, ids: list[int], count: int) -> np.ndarray:
    """The encoder as the paper describes it, head by head; the first `count` ids are words."""
    weights = {name: value.double().numpy() for name, value in network.state_dict().items()}

    def linear(values, name):
        return values @ weights[f'{name}.weight'].T + weights[f'{name}.bias']

    def norm(values, name):
        values = values - values.mean(axis=1, keepdims=True)
        values = values / np.sqrt((values**2).mean(axis=1, keepdims=True) + 1e-12)
        return values * weights[f'{name}.LayerNorm.weight'] + weights[f'{name}.LayerNorm.bias']

    tokens = weights['embeddings.word_embeddings.weight'][ids]
    tokens = tokens + weights['embeddings.position_embeddings.weight'][: len(ids)]
    tokens = tokens + weights['embeddings.token_type_embeddings.weight'][0]
    tokens = norm(tokens, 'embeddings')
    for place in range(TINY.depth):
        layer = f'encoder.layer.{place}'
        query, key, value = (
            linear(tokens, f'{layer}.attention.self.{name}') for name in ('query', 'key', 'value')
        )
        found = np.zeros_like(tokens)
        for first in range(0, TINY.dim, 64):
            part = slice(first, first + 64)
            similar = np.exp(query[:, part] @ key[:count, part].T / 8)
            similar /= similar.sum(axis=1, keepdims=True)
            found[:, part] = similar @ value[:count, part]
        output = linear(found, f'{layer}.attention.output.dense')
        tokens = norm(output + tokens, f'{layer}.attention.output')
        hidden = torch.from_numpy(linear(tokens, f'{layer}.intermediate.dense'))
        hidden = torch.nn.functional.gelu(hidden).numpy()
        tokens = norm(linear(hidden, f'{layer}.output.dense') + tokens, f'{layer}.output')
    return tokens


@pytest.mark.parametrize('layout', ['pytorch', 'scar', 'tt'])
def test_every_published_layout_is_read(network, package, tmp_path, layout):
    """Whether alone, with older names and a head of its training, or in a file of VLT."""
    given = published(network, tmp_path / 'given', layout)
    made = convert(given, 'bert', 'other', tmp_path / 'made')
    assert made.graphs['sentence'].sha256 == package.graphs['sentence'].sha256
    assert made.files['vocabulary'].path.read_text().split() == WORDS


def test_parameters_of_bert_base():
    with torch.device('meta'):
        network = Bert(Variant())
    total = sum(value.numel() for value in network.parameters())
    shipped = Path(__file__).parent.parent / 'models' / 'bert_base_uncased' / 'model.yaml'
    assert total == yaml.safe_load(shipped.read_text())['parameters'] == 108_891_648
    shapes = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    assert variant_of(shapes) == Variant()


@pytest.mark.parametrize('missing', ['model.safetensors', 'vocab.txt'])
def test_what_is_missing_is_named(network, tmp_path, missing):
    given = published(network, tmp_path / 'given', 'safetensors')
    (given / missing).unlink()
    with pytest.raises(FileNotFoundError, match=missing):
        convert(given, 'bert', 'bert', tmp_path / 'made')


def test_other_checkpoints_are_refused(tmp_path):
    (tmp_path / 'vocab.txt').write_text('\n'.join(WORDS))
    torch.save({'conv1.weight': torch.zeros(1)}, tmp_path / 'other.bin')
    with pytest.raises(ConversionError, match=r'no BERT checkpoint.*word_embeddings'):
        convert(tmp_path / 'other.bin', 'bert', 'bert', tmp_path / 'made')


@pytest.mark.parametrize(
    ('header', 'message'),
    [
        ({'w': {'dtype': 'F32', 'shape': [4], 'data_offsets': [0, 12]}}, r'shape \(4,\)'),
        ({'w': {'dtype': 'F32', 'shape': [5], 'data_offsets': [0, 20]}}, r'shape \(5,\)'),
        ({'w': {'dtype': 'F32', 'shape': [-4], 'data_offsets': [0, 16]}}, r'shape is \(-4,\)'),
        ({'w': {'dtype': 'Q4', 'shape': [4], 'data_offsets': [0, 16]}}, "'Q4' is no kind"),
        ({'w': {'dtype': 'F32', 'shape': [4]}}, 'data_offsets'),
        ({'w': 3}, 'not what its header says'),
        ([], 'no list of tensors'),
    ],
)
def test_broken_safetensors_are_refused(tmp_path, header, message):
    text = json.dumps(header).encode()
    path = tmp_path / 'w.safetensors'
    path.write_bytes(len(text).to_bytes(8, 'little') + text + bytes(16))
    with pytest.raises(CheckpointError, match=message):
        read_safetensors(path)


@pytest.mark.parametrize(
    'data', [b'', b'1234', (1 << 40).to_bytes(8, 'little') + b'{}', b'\0' * 9]
)
def test_what_is_no_safetensors_is_refused(tmp_path, data):
    path = tmp_path / 'w.safetensors'
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=r'w\.safetensors is no safetensors file'):
        read_safetensors(path)


def test_safetensors_of_16_bits(tmp_path):
    header = {
        'half': {'dtype': 'F16', 'shape': [2], 'data_offsets': [0, 4]},
        'brain': {'dtype': 'BF16', 'shape': [1, 2], 'data_offsets': [4, 8]},
    }
    text = json.dumps(header).encode()
    numbers = (
        np.float16([1.5, -2]).tobytes()
        + (np.float32([1.5, -2]).view('<u4') >> 16).astype('<u2').tobytes()
    )
    path = tmp_path / 'w.safetensors'
    path.write_bytes(len(text).to_bytes(8, 'little') + text + numbers)
    found = read_safetensors(path)
    np.testing.assert_array_equal(found['half'], [1.5, -2])
    np.testing.assert_array_equal(found['brain'], [[1.5, -2]])


# -- the tracker -------------------------------------------------------------------------------


@pytest.fixture(params=['vlt_scar', 'vlt_tt'])
def tracker(request, cache, tmp_path):
    return create(str(make_package(tmp_path / 'm', request.param)), 'onnxruntime', 1)


IMAGE = parity.synth_image(2, 120, 160)
BOX = Box(60, 50, 40, 30)


def test_a_sentence_without_its_model_is_refused(tracker):
    with pytest.raises(TrackerError, match=r'bert_base_uncased.*models convert.*--family bert'):
        tracker.start(IMAGE, BOX, 'a bird')


@pytest.mark.parametrize('text', [None, '', '  '])
def test_no_sentence_needs_no_model(tracker, text):
    tracker.start(IMAGE, BOX, text)
    assert tracker.step(IMAGE).box.is_finite()


def test_a_sentence_is_read_once_a_target(tracker, package, cache, monkeypatch):
    folder = cache / 'models' / 'bert_base_uncased'
    shutil.copytree(package.folder, folder)
    read, told = [], []
    embed, template = LanguageModel.embed, tracker._engine.template

    def note_text(model, text):
        read.append(text)
        return np.resize(embed(model, text), 768)

    def note_numbers(**inputs):
        told.append(inputs)
        return template(**inputs)

    monkeypatch.setattr(LanguageModel, 'embed', note_text)
    tracker._engine.template = note_numbers
    tracker.start(IMAGE, BOX, 'the black bird')
    for _ in range(3):
        tracker.step(IMAGE)
    tracker.start(IMAGE, BOX)
    tracker.start(IMAGE, BOX, 'the flying bird')
    assert read == ['the black bird', 'the flying bird']
    assert [inputs['by_language'].tolist() for inputs in told] == [[1.0], [0.0], [1.0]]
    assert np.abs(told[0]['language'] - told[2]['language']).max() > 1e-3


def test_a_language_model_follows_nothing(package):
    with pytest.raises(TrackerError, match='reads sentences'):
        create(str(package.folder))


def test_a_tracker_reads_no_sentences(tmp_path):
    folder = make_package(tmp_path / 'm', 'vittrack')
    with pytest.raises(PackageError, match='reads no sentences'):
        load_language_model(str(folder))


def test_a_vocabulary_of_something_else_is_named(package, tmp_path):
    folder = shutil.copytree(package.folder, tmp_path / 'm')
    (folder / 'vocab.txt').write_text('apple\npear\n')
    manifest = yaml.safe_load((folder / 'model.yaml').read_text())
    from tracker_ros.runtime.package import read_package, sha256_of

    manifest['files']['vocabulary']['sha256'] = sha256_of(folder / 'vocab.txt')
    (folder / 'model.yaml').write_text(yaml.safe_dump(manifest))
    with pytest.raises(EngineError, match=r'vocab\.txt is no vocabulary of BERT'):
        LanguageModel(read_package(folder))


def test_a_changed_vocabulary_is_found(package, tmp_path):
    folder = shutil.copytree(package.folder, tmp_path / 'm')
    (folder / 'vocab.txt').write_text('\n'.join(WORDS[::-1]))
    with pytest.raises(PackageError, match=r'vocab\.txt has sha256'):
        load_language_model(str(folder))
