# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""BERT: Pre-training of Deep Bidirectional Transformers (Devlin et al., NAACL 2019).

The part that turns a sentence into vectors: embeddings and the encoder, post-norm transformer
layers (section 3). Tensor names are those of the published bert-base-uncased.

Shapes: B batch, N tokens, C channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from tracker_ros.networks.layers import merge_heads, split_heads

HEAD_DIM = 64
EPSILON = 1e-12


@dataclass(frozen=True, slots=True)
class Variant:
    """The sizes of a model; the standard values are those of BERT-base."""

    vocabulary: int = 30522
    positions: int = 512
    dim: int = 768
    depth: int = 12
    hidden: int = 3072


class Embeddings(nn.Module):
    """Word, position and segment, added and normalised (figure 2)."""

    def __init__(self, variant: Variant) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(variant.vocabulary, variant.dim)
        self.position_embeddings = nn.Embedding(variant.positions, variant.dim)
        # A single sentence is segment 0.
        self.token_type_embeddings = nn.Embedding(2, variant.dim)
        self.LayerNorm = nn.LayerNorm(variant.dim, eps=EPSILON)

    def forward(self, ids: Tensor) -> Tensor:
        places = self.position_embeddings.weight[: ids.shape[1]]
        segment = self.token_type_embeddings.weight[0]
        return self.LayerNorm(self.word_embeddings(ids) + (places + segment))


class Added(nn.Module):
    """A linear layer whose result is added to what was before, and normalised."""

    def __init__(self, inside: int, dim: int) -> None:
        super().__init__()
        self.dense = nn.Linear(inside, dim)
        self.LayerNorm = nn.LayerNorm(dim, eps=EPSILON)

    def forward(self, found: Tensor, before: Tensor) -> Tensor:
        return self.LayerNorm(self.dense(found) + before)


class Projections(nn.Module):
    """Query, key and value of the attention, and what it finds."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim)
        self.value = nn.Linear(dim, dim)

    def forward(self, tokens: Tensor, ignored: Tensor) -> Tensor:
        heads = tokens.shape[-1] // HEAD_DIM
        query, key, value = (
            split_heads(layer(tokens), heads) for layer in (self.query, self.key, self.value)
        )
        similar = query @ key.transpose(-1, -2) / HEAD_DIM**0.5 + ignored
        return merge_heads(similar.softmax(dim=-1) @ value)


class Layer(nn.Module):
    """Attention over the sentence, then a feed-forward network, each added and normalised."""

    def __init__(self, variant: Variant) -> None:
        super().__init__()
        dim, hidden = variant.dim, variant.hidden
        self.attention = nn.ModuleDict({'self': Projections(dim), 'output': Added(dim, dim)})
        self.intermediate = nn.ModuleDict({'dense': nn.Linear(dim, hidden)})
        self.output = Added(hidden, dim)

    def forward(self, tokens: Tensor, ignored: Tensor) -> Tensor:
        tokens = self.attention['output'](self.attention['self'](tokens, ignored), tokens)
        return self.output(functional.gelu(self.intermediate['dense'](tokens)), tokens)


class Bert(nn.Module):
    def __init__(self, variant: Variant) -> None:
        super().__init__()
        self.variant = variant
        self.embeddings = Embeddings(variant)
        self.encoder = nn.ModuleDict(
            {'layer': nn.ModuleList(Layer(variant) for _ in range(variant.depth))}
        )

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """The vectors (B, N, C) of tokens `ids` (B, N).

        `mask` (B, N) is 1 for tokens of the sentence and 0 for padding, which nobody looks at
        but which looks at the sentence.
        """
        tokens = self.embeddings(ids)
        ignored = (1.0 - mask[:, None, None, :]) * torch.finfo(torch.float32).min
        for layer in cast('nn.ModuleList', self.encoder['layer']):
            tokens = layer(tokens, ignored)
        return tokens


def variant_of(shapes: Mapping[str, tuple[int, ...]]) -> Variant:
    """The sizes of the model with tensors of these shapes.

    Raises ValueError naming the tensor that is missing or has an impossible shape.
    """
    try:
        vocabulary, dim = shapes['embeddings.word_embeddings.weight']
        positions = shapes['embeddings.position_embeddings.weight'][0]
        hidden = shapes['encoder.layer.0.intermediate.dense.weight'][0]
    except (KeyError, IndexError, ValueError) as error:
        raise ValueError(
            f'this is no BERT checkpoint: the tensor {error} is missing or has a wrong shape'
        ) from error
    depth = len({name.split('.')[2] for name in shapes if name.startswith('encoder.layer.')})
    if dim % HEAD_DIM:
        raise ValueError(f'this is no BERT checkpoint: {dim} channels are no whole heads')
    return Variant(vocabulary, positions, dim, depth, hidden)
