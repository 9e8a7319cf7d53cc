# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Sentences as numbers, for training: the language model is fixed and each sentence read once."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tracker_ros.networks.moda_mixer import EMBEDDING
from tracker_ros.runtime.engine import EngineError
from tracker_ros.runtime.language import load_language_model
from tracker_ros.runtime.package import PackageError
from tracker_ros.training.checkpoints import TrainingError

Embed = Callable[[str], NDArray[np.float32]]

WORDS = 'words'
_KEPT = 65_536
"""Sentences; training sets have some thousands, each seen many times."""


class Sentences:
    """Reads sentences with a language model, which is loaded for the first one.

    model: the name of a package of the family language, or `words`: see `mean_of_words`.
    """

    def __init__(self, model: str) -> None:
        self._model = model
        self._embed: Embed | None = None
        self._known: dict[str, NDArray[np.float32]] = {}

    def __call__(self, sentences: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Mean embeddings (B, 768), and whether there was anything to read (B, 1), 1 or 0.

        The embedding of no sentence is zero. Raises TrainingError where the model is not here.
        """
        told = [bool(sentence.strip()) for sentence in sentences]
        rows = np.zeros((len(sentences), EMBEDDING), np.float32)
        for row, (sentence, is_told) in enumerate(zip(sentences, told, strict=True)):
            if is_told:
                rows[row] = self._embedding_of(sentence)
        return torch.from_numpy(rows), torch.tensor(told, dtype=torch.float32)[:, None]

    def _embedding_of(self, sentence: str) -> NDArray[np.float32]:
        if sentence not in self._known:
            if len(self._known) >= _KEPT:
                self._known.clear()
            try:
                self._embed = self._embed or _loaded(self._model)
                self._known[sentence] = self._embed(sentence)
            except (PackageError, EngineError) as error:
                raise TrainingError(
                    f'{error} Or train without: sentence_dropped: 1.0 in the options of the recipe'
                ) from error
        return self._known[sentence]


def _loaded(model: str) -> Embed:
    return mean_of_words if model == WORDS else load_language_model(model).embed


def mean_of_words(sentence: str) -> NDArray[np.float32]:
    """A fixed random vector for each word, and their mean: (768,), deviation 1 for one word.

    It knows that two sentences share a word, and nothing of what words mean. That is enough to
    try a training or a search without a language model of 400 MB; on the robot there is none like
    it.
    """
    words = re.findall(r'\w+', sentence.lower()) or [sentence]
    return np.mean([_vector(word) for word in words], axis=0, dtype=np.float32)


def _vector(word: str) -> NDArray[np.float32]:
    seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], 'little')
    return np.random.default_rng(seed).standard_normal(EMBEDDING, np.float32)
