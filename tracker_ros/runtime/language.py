# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Sentences as numbers: a language model, run once for each target that is described.

It is a package of its own, because it is much larger than the trackers that listen to it, and
most targets are not described.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from tracker_ros.runtime import store
from tracker_ros.runtime.engine import EngineError
from tracker_ros.runtime.package import LANGUAGE, ModelPackage, PackageError

EMBEDDING = 768
"""Numbers that stand for a sentence."""

# More than 50 tokens can be; what is longer is no sentence.
_LONGEST_TEXT = 10_000

Run = Callable[[NDArray[np.int64], NDArray[np.float32]], NDArray[np.float32]]


class LanguageModel:
    """A loaded package of the language family.

    Raises EngineError where a library is missing, or one cannot read the package.
    """

    def __init__(self, package: ModelPackage) -> None:
        if package.family != LANGUAGE:
            raise PackageError(
                f'{package.name} is a {package.family}, which reads no sentences; that takes a '
                f'package of the family {LANGUAGE}'
            )
        try:
            self._count = int(package.inputs['tokens'])
            vocabulary, graph = package.files['vocabulary'], package.graphs['sentence']
        except (KeyError, TypeError, ValueError) as error:
            raise PackageError(
                f'{package.folder}: a {LANGUAGE} needs the entry {error}'
            ) from error
        self._tokenizer = _tokenizer(vocabulary.path, self._count)
        self._run = _runner(graph.path)

    def tokens(self, text: str) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The tokens of a sentence (1, N), and where they are not padding (1, N), 1 or 0.

        What is too long is cut off.
        """
        found = self._tokenizer.encode(text[:_LONGEST_TEXT])
        return np.array([found.ids], np.int64), np.array([found.attention_mask], np.float32)

    def embed(self, text: str) -> NDArray[np.float32]:
        """The mean embedding (C,) of a sentence."""
        try:
            return self._run(*self.tokens(text))[0]
        except Exception as error:  # the libraries' exceptions have no common base class
            raise EngineError(f'the sentence {text[:60]!r} cannot be read: {error}') from error


def load_language_model(name: str) -> LanguageModel:
    """The language model in the package `name`.

    Raises PackageError for one that is not here, or EngineError, each with the remedy.
    """
    try:
        return LanguageModel(store.find(name))
    except (PackageError, EngineError) as error:
        raise type(error)(
            f'a sentence needs a language model, and {error} Without a sentence it works as it is.'
        ) from error


def _tokenizer(vocabulary: Path, count: int) -> Any:
    """Lower-case WordPiece, in the way of bert-base-uncased, padded and cut to `count`."""
    try:
        from tokenizers import Tokenizer
        from tokenizers.models import WordPiece
        from tokenizers.normalizers import BertNormalizer
        from tokenizers.pre_tokenizers import BertPreTokenizer
        from tokenizers.processors import BertProcessing
    except ImportError as error:
        raise EngineError(f'{error} (pip install tokenizers).') from error
    try:
        words = WordPiece.read_file(str(vocabulary))
        tokenizer = Tokenizer(WordPiece(words, unk_token='[UNK]'))
        tokenizer.normalizer = BertNormalizer(lowercase=True)
        tokenizer.pre_tokenizer = BertPreTokenizer()
        tokenizer.post_processor = BertProcessing(
            ('[SEP]', words['[SEP]']), ('[CLS]', words['[CLS]'])
        )
        tokenizer.enable_truncation(count)
        tokenizer.enable_padding(length=count, pad_id=words['[PAD]'], pad_token='[PAD]')
    except Exception as error:  # that of the library is Exception itself
        raise EngineError(f'{vocabulary} is no vocabulary of BERT: {error}.') from error
    return tokenizer


def _runner(path: Path) -> Run:
    """The graph on the CPU, with the first library that is here."""
    reasons = []
    for load in (_on_onnxruntime, _on_openvino):
        try:
            return load(path)
        except ImportError as error:
            reasons.append(str(error))
        except Exception as error:  # the libraries' exceptions have no common base class
            raise EngineError(f'cannot load {path}: {error}.') from error
    raise EngineError(f'no inference library is here: {"; ".join(reasons)}.')


def _on_onnxruntime(path: Path) -> Run:
    import onnxruntime

    from tracker_ros.runtime.onnxruntime_engine import session_options

    session = onnxruntime.InferenceSession(
        str(path), sess_options=session_options(0), providers=['CPUExecutionProvider']
    )

    def run(tokens: NDArray[np.int64], mask: NDArray[np.float32]) -> NDArray[np.float32]:
        return cast('NDArray[np.float32]', session.run(None, {'tokens': tokens, 'mask': mask})[0])

    return run


def _on_openvino(path: Path) -> Run:
    import openvino

    options = {'INFERENCE_PRECISION_HINT': 'f32'}
    model = openvino.Core().compile_model(str(path), 'CPU', options)

    def run(tokens: NDArray[np.int64], mask: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.array(model({'tokens': tokens, 'mask': mask})[0], np.float32)

    return run
