# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""From a checkpoint to a model package: read tensors, build the network, write its graphs."""

from __future__ import annotations

import functools
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from torch import nn

from tracker_ros.export import bert, dual_tfr, kestrel, mixformer_v2, siam_attn, simtrack, vlt
from tracker_ros.export.checkpoint import read_checkpoint, tensors_of
from tracker_ros.export.graphs import Graph, GraphPair, by_role, macs_of, write_graphs
from tracker_ros.export.safetensors import read_safetensors
from tracker_ros.runtime.package import (
    LANGUAGE,
    MANIFEST,
    ModelPackage,
    read_package,
    sha256_of,
)


class ConversionError(Exception):
    """A checkpoint does not fit the family it was said to be of."""


@dataclass(frozen=True, slots=True)
class Family:
    """How checkpoints of one family become packages."""

    build: Callable[[Mapping[str, tuple[int, ...]]], nn.Module]
    """Makes the network for tensors of these names and shapes. Raises ValueError."""
    graphs: Callable[[Any], GraphPair | Mapping[str, Graph]]
    manifest: Callable[[Any], dict[str, Any]]
    """What model.yaml says beyond name, family, licence and source."""
    official_names: Callable[[Mapping[str, NDArray[Any]]], Mapping[str, NDArray[Any]]] = dict
    """For families whose published files name their tensors in several ways."""
    files: Callable[[Path], tuple[Path, dict[str, Path]]] = lambda path: (path, {})
    """The checkpoint in what was given, and files by role that go into the package with it."""
    every_frame: tuple[str, ...] = ('search',)
    """The graphs that run on every frame."""


FAMILIES = {
    'dual_tfr': Family(dual_tfr.build, dual_tfr.graphs, dual_tfr.manifest),
    'kestrel': Family(kestrel.build, kestrel.graphs, kestrel.manifest),
    LANGUAGE: Family(bert.build, bert.graphs, bert.manifest, bert.official_names, bert.files),
    'mixformer_v2': Family(mixformer_v2.build, mixformer_v2.graphs, mixformer_v2.manifest),
    'siam_attn': Family(
        siam_attn.build,
        siam_attn.graphs,
        siam_attn.manifest,
        every_frame=('search', 'refine'),
    ),
    'simtrack': Family(
        simtrack.build, simtrack.graphs, simtrack.manifest, simtrack.official_names
    ),
    **{
        f'vlt_{name}': Family(
            functools.partial(vlt.build, name), vlt.graphs, vlt.manifest, vlt.official_names
        )
        for name in ('scar', 'tt', 'rpn')
    },
}


def convert(
    path: Path,
    family: str,
    name: str,
    folder: Path,
    *,
    half_weights: bool = False,
    **facts: Any,
) -> ModelPackage:
    """Make the package `name` in `folder` from the checkpoint at `path`.

    half_weights: keep the weights in 16 bits, and compute in 32: see `with_half_weights`.
    `facts` are further entries of model.yaml, such as licence and source. The folder appears
    whole or not at all, in place of one that was there. Raises CheckpointError or
    ConversionError, which names missing and unexpected tensors.
    """
    if family not in FAMILIES:
        raise ConversionError(
            f'there is no family {family!r}; known are {", ".join(sorted(FAMILIES))}'
        )
    maker = FAMILIES[family]
    path, beside = maker.files(path)
    network = load_network(family, _tensors(path))
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f'.{folder.name}-') as scratch:
        fresh = Path(scratch) / folder.name
        fresh.mkdir()
        graphs = by_role(maker.graphs(network))
        files = write_graphs(graphs, fresh, half_weights)
        manifest = {
            'name': name,
            'family': family,
            'licence': 'unknown: that of the checkpoint',
            **facts,
            'checkpoint': {'file': path.name, 'sha256': sha256_of(path)},
            'parameters': sum(tensor.numel() for tensor in network.parameters()),
            **work_of(graphs, maker.every_frame),
            **maker.manifest(network),
            'graphs': _listed(fresh, files),
        }
        if beside:
            for file in beside.values():
                shutil.copy(file, fresh / file.name)
            copies = {role: file.name for role, file in beside.items()}
            manifest['files'] = _listed(fresh, copies)
        (fresh / MANIFEST).write_text(yaml.safe_dump(manifest, sort_keys=False), encoding='utf-8')
        read_package(fresh).verify()
        if folder.exists():
            shutil.move(folder, Path(scratch) / 'previous')
        fresh.rename(folder)
    return read_package(folder)


def work_of(graphs: Mapping[str, Graph], every_frame: tuple[str, ...]) -> dict[str, float]:
    """Billions of multiply-accumulates for a frame and for a template; none of other graphs."""
    if 'search' not in graphs:
        return {}
    parts = {'gmacs_per_frame': every_frame, 'gmacs_template': ('template',)}
    return {
        name: round(sum(macs_of(graphs[role]) for role in roles) / 1e9, 3)
        for name, roles in parts.items()
    }


def _tensors(path: Path) -> dict[str, NDArray[Any]]:
    if path.suffix == '.safetensors':
        return read_safetensors(path)
    return tensors_of(read_checkpoint(path))


def _listed(folder: Path, files: Mapping[str, str]) -> dict[str, dict[str, str]]:
    return {
        role: {'file': file, 'sha256': sha256_of(folder / file)} for role, file in files.items()
    }


def load_network(family: str, tensors: Mapping[str, NDArray[Any]]) -> nn.Module:
    """The network of `family` with these weights, all of them and no others."""
    maker = FAMILIES[family]
    return fill_network(family, maker.build, maker.official_names(tensors))


def fill_network(
    family: str,
    build: Callable[[Mapping[str, tuple[int, ...]]], nn.Module],
    tensors: Mapping[str, NDArray[Any]],
) -> nn.Module:
    """What `build` makes for the shapes of these weights, with them; `family` is for people."""
    try:
        network = build({name: tuple(value.shape) for name, value in tensors.items()})
    except ValueError as error:
        raise ConversionError(str(error)) from error
    own = network.state_dict()
    missing = sorted(own.keys() - tensors.keys())
    unexpected = sorted(tensors.keys() - own.keys())
    wrong = sorted(
        f'{name} {tuple(tensors[name].shape)} instead of {tuple(own[name].shape)}'
        for name in own.keys() & tensors.keys()
        if tensors[name].shape != own[name].shape
    )
    problems = [
        f'{len(names)} {what}: {", ".join(names[:8])}{" ..." if len(names) > 8 else ""}'
        for what, names in (
            ('tensors are missing', missing),
            ('tensors are unexpected', unexpected),
            ('tensors have a wrong shape', wrong),
        )
        if names
    ]
    if problems:
        raise ConversionError(f'the checkpoint does not fit {family}: {"; ".join(problems)}')
    network.load_state_dict(
        {
            name: torch.from_numpy(np.ascontiguousarray(value)).to(own[name].dtype)
            for name, value in tensors.items()
        }
    )
    return network.eval()
