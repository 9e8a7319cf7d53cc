# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The field's training sets, read where they lie in their authors' layouts (`layouts`).

What was read is kept in the user's cache (`tracks`). What of a set cannot be used is left out and
told, with file and line.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tracker_ros.training.layouts import LAYOUTS, Pick, words_in
from tracker_ros.training.pictures import (
    Collection,
    DataError,
    Files,
    Subject,
    read_collection,
)
from tracker_ros.training.samples import Mix
from tracker_ros.training.tracks import Columns, backgrounds_of, kept, stamp_of, subjects_of

_TOLD_PROBLEMS = 5


@dataclass(frozen=True)
class SetSource:
    """One set in a recipe.

    kind: a name of `LAYOUTS`. split: 'train', or another that the set has. weight: how often it is
    drawn from, beside the others. name: of the source; the kind if empty. only: a file with the
    names of the sequences to use, or their numbers in the set's list, from 0, one a line.
    """

    kind: str
    folder: str
    split: str = 'train'
    weight: float = 1.0
    name: str = ''
    only: str = ''

    @property
    def source(self) -> str:
        return self.name or self.kind


def read_sources(
    folder: str,
    sets: Sequence[SetSource],
    cache_bytes: int = 3 << 30,
    tell: Callable[[str], None] = lambda _: None,
) -> Collection:
    """All that a recipe names: a folder of `pictures`, where it is not '', and sets.

    tell: is called with what was left out. Raises DataError.
    """
    if folder or not sets:
        collection = read_collection(Path(folder), cache_bytes=cache_bytes)
    else:
        collection = Collection([], [], {}, cache_bytes)
    for entry in sets:
        if entry.source in collection.files:
            raise DataError(f'two sources are called {entry.source}: give one of them a name')
        subjects, files = read_set(entry, tell)
        collection.subjects += subjects
        collection.pictures += backgrounds_of(subjects)
        collection.files[entry.source] = files
    return collection


def mix_of(mix: Mix, folder: str, sets: Sequence[SetSource]) -> Mix:
    """The mix with the sets' weights in it, beside those of the folder's sources.

    Raises DataError where both are there and the folder's sources have none.
    """
    if not sets:
        return mix
    if folder and not mix.sources:
        raise DataError(
            f'data.sets and {folder} are both given: say in mix.sources which weights the sources '
            'of the folder have'
        )
    own = {entry.source: entry.weight for entry in sets}
    return dataclasses.replace(mix, sources={**mix.sources, **own})


def read_set(
    entry: SetSource, tell: Callable[[str], None] = lambda _: None
) -> tuple[list[Subject], Files]:
    """The subjects of a set, and its files. Raises DataError."""
    layout = LAYOUTS.get(entry.kind)
    if layout is None:
        raise DataError(f'there is no set {entry.kind!r}; known are {", ".join(LAYOUTS)}')
    if entry.split not in layout.splits:
        raise DataError(
            f'{entry.kind} has no split {entry.split!r}; there are {", ".join(layout.splits)}'
        )
    if entry.only and not layout.has_list:
        raise DataError(f'{entry.kind} has no list of sequences to choose from: leave out `only`')
    root = Path(entry.folder)
    inputs = layout.inputs(root, entry.split) if root.is_dir() else []
    if not inputs:
        raise DataError(
            f'{root} is not laid out as {entry.kind}: looked for {layout.looked_for}, '
            f'{_found_in(root)}'
        )
    chosen = [Path(entry.only)] if entry.only else []
    try:
        stamp = stamp_of([*chosen, *inputs])
    except OSError as error:
        raise DataError(f'{root}: {error}') from error

    def read() -> Columns:
        tell(f'{entry.source}: reading the annotations below {root}, once')
        writer = layout.writer()
        layout.read(root, entry.split, _picker(entry.only), writer)
        return writer.columns()

    identity = [entry.kind, str(root.resolve()), entry.split, entry.only]
    columns = kept(identity, stamp, read)
    for problem in columns.problems[:_TOLD_PROBLEMS]:
        tell(f'{entry.source}: left out: {problem}')
    if len(columns.problems) > _TOLD_PROBLEMS:
        tell(f'{entry.source}: left out: {len(columns.problems) - _TOLD_PROBLEMS} more')
    if not len(columns.label):
        why = columns.problems[0] if columns.problems else 'no target is seen in it'
        raise DataError(f'{root}: nothing in it can be used: {why}')
    return subjects_of(columns, entry.source), layout.open(root, columns)


def _picker(only: str) -> Pick:
    def pick(names: list[str]) -> list[str]:
        if not only:
            return names
        wanted = words_in(Path(only))
        if all(word.isdecimal() for word in wanted):
            beyond = [word for word in wanted if int(word) >= len(names)]
            if beyond:
                raise DataError(f'{only}: there is no sequence {beyond[0]} of {len(names)}')
            return [names[int(word)] for word in wanted]
        unknown = sorted(set(wanted) - set(names))
        if unknown:
            raise DataError(f'{only}: there is no sequence {unknown[0]}')
        return wanted

    return pick


def _found_in(root: Path) -> str:
    if not root.is_dir():
        return 'there is no such folder'
    names = sorted(itertools.islice((each.name for each in root.iterdir()), 1000))
    shown = ', '.join(names[:6]) or 'nothing'
    return f'found {shown}' + (', ...' if len(names) > 6 else '')
