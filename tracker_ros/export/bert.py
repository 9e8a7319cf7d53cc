# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""BERT as a package: one graph from the tokens of a sentence to its mean embedding."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tracker_ros.export.graphs import Graph
from tracker_ros.networks.bert import Bert, variant_of

TOKENS = 50
"""VLT's sentences are padded to this length, and all positions count in the mean."""

VOCABULARY = 'vocab.txt'
_WEIGHTS = ('model.safetensors', 'pytorch_model.bin')

# Before the names of the encoder: in files for other tasks, and in VLT's own checkpoints.
_PREFIX = re.compile(r'^(bert|backbone\.(0\.body\.)?bert_model)\.')
_OURS = re.compile(r'^(embeddings|encoder)\.')


def files(path: Path) -> tuple[Path, dict[str, Path]]:
    """Weights and vocabulary of a folder as Hugging Face has it, or a file and what is beside it.

    Raises FileNotFoundError saying what is missing.
    """
    folder = path if path.is_dir() else path.parent
    weights = [folder / name for name in _WEIGHTS] if path.is_dir() else [path]
    found = next((file for file in weights if file.is_file()), None)
    if found is None:
        raise FileNotFoundError(f'there is no {" or ".join(map(str, weights))}')
    if not (folder / VOCABULARY).is_file():
        raise FileNotFoundError(
            f'there is no {folder / VOCABULARY}: the list of words that belongs to the weights '
            'must lie beside them'
        )
    return found, {'vocabulary': folder / VOCABULARY}


def build(shapes: Mapping[str, tuple[int, ...]]) -> Bert:
    return Bert(variant_of(shapes))


def official_names(tensors: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The tensors of the encoder alone, by the names of today."""
    found = {}
    for name, value in tensors.items():
        own = _PREFIX.sub('', name)
        own = own.replace('LayerNorm.gamma', 'LayerNorm.weight')
        own = own.replace('LayerNorm.beta', 'LayerNorm.bias')
        if _OURS.match(own) and not own.endswith('position_ids'):
            found[own] = value
    return found


class SentenceGraph(nn.Module):
    """Tokens (B, 50) int64 and mask (B, 50) float32 to the mean embedding (B, C)."""

    def __init__(self, network: Bert) -> None:
        super().__init__()
        self.network = network

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        # The paper averages the words; the code, whose weights these are, the padding as well.
        return self.network(tokens, mask).mean(dim=1)


def graphs(network: Bert) -> dict[str, Graph]:
    examples = torch.zeros(2, TOKENS, dtype=torch.int64), torch.ones(2, TOKENS)
    module = SentenceGraph(network)
    return {'sentence': Graph(module, examples, ('tokens', 'mask'), ('embedding',))}


def manifest(network: Bert) -> dict[str, Any]:
    variant = network.variant
    return {
        'summary': (
            f'BERT, {variant.depth} layers of {variant.dim} channels: reads sentences for VLT'
        ),
        'inputs': {'tokens': TOKENS},
    }
