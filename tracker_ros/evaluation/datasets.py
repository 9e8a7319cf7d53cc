# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The tracking benchmarks as they are downloaded: OTB, UAV123, LaSOT and its extension, GOT-10k,
TrackingNet, TNL2K and DTB70; and plain folders.

Boxes become 0-based here: OTB, UAV123, LaSOT and DTB70 count pixels from 1. Frames that a
benchmark does not score, because the target is covered or out of view, become nan.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tracker_ros.evaluation.sequences import (
    ANNOTATION_NAME,
    Boxes,
    Sequence,
    SequenceError,
    assemble,
    check_folder,
    read_boxes,
    read_sequences,
)
from tracker_ros.footage import IMAGE_SUFFIXES, natural_key

PLAIN = 'plain'
"""The name of what is no benchmark."""

OTB_ATTRIBUTES = (
    'illumination variation',
    'out-of-plane rotation',
    'scale variation',
    'occlusion',
    'deformation',
    'motion blur',
    'fast motion',
    'in-plane rotation',
    'out of view',
    'background clutter',
    'low resolution',
)
UAV123_ATTRIBUTES = (
    'scale variation',
    'aspect ratio change',
    'low resolution',
    'fast motion',
    'full occlusion',
    'partial occlusion',
    'out of view',
    'background clutter',
    'illumination variation',
    'viewpoint change',
    'camera motion',
    'similar object',
)
LASOT_ATTRIBUTES = (
    'illumination variation',
    'partial occlusion',
    'deformation',
    'motion blur',
    'camera motion',
    'rotation',
    'background clutter',
    'viewpoint change',
    'scale variation',
    'full occlusion',
    'fast motion',
    'out of view',
    'low resolution',
    'aspect ratio change',
)
TNL2K_ATTRIBUTES = (
    'camera motion',
    'rotation',
    'deformation',
    'full occlusion',
    'illumination variation',
    'out of view',
    'partial occlusion',
    'viewpoint change',
    'scale variation',
    'background clutter',
    'motion blur',
    'aspect ratio change',
    'low resolution',
    'fast motion',
    'adversarial samples',
    'thermal crossover',
    'modality switch',
)

Problems = list[SequenceError]


@dataclass(frozen=True, eq=False)
class Dataset:
    """Sequences of one benchmark. origin: the number the benchmark gives to the first pixel."""

    benchmark: str
    sequences: list[Sequence]
    origin: int = 0


@dataclass(frozen=True)
class Layout:
    """A benchmark's folders. fits: whether a folder is its root. read: its sequences."""

    name: str
    fits: Callable[[Path], bool]
    read: Callable[[Path, Problems], list[Sequence]]
    origin: int = 0


def read_dataset(path: str | Path, problems: Problems, benchmark: str = 'auto') -> Dataset:
    """Read the benchmark at `path`, or a plain folder.

    benchmark: a name of `LAYOUTS`, 'plain', or 'auto', which looks at the folders.
    problems: what cannot be used is left out, and its errors, which name file and line, are
    appended here.
    Raises SequenceError when there is nothing of that kind.
    """
    root = Path(path)
    check_folder(root)
    if benchmark == 'auto':
        layout = next((each for each in LAYOUTS.values() if each.fits(root)), None)
    elif benchmark == PLAIN:
        layout = None
    elif benchmark in LAYOUTS:
        layout = LAYOUTS[benchmark]
    else:
        raise SequenceError(f'no benchmark {benchmark!r}; there are {", ".join(names())}')
    if layout is None:
        return Dataset(PLAIN, read_sequences(root, problems))
    sequences = layout.read(root, problems)
    if not sequences and not problems:
        raise SequenceError(
            f'{root}: holds no sequence in the layout of {layout.name}; docs/evaluation.md has '
            'the folders of each benchmark'
        )
    return Dataset(layout.name, sequences, layout.origin)


def names() -> list[str]:
    """What `read_dataset` takes as `benchmark`."""
    return ['auto', PLAIN, *LAYOUTS]


# OTB and DTB70: NAME/img/*.jpg and NAME/groundtruth_rect.txt; several targets in one folder of
# OTB have groundtruth_rect.1.txt, groundtruth_rect.2.txt.

_OTB_FIRST_IMAGE = {'David': 300}
_OTB_SPARE_FRAMES = {'David', 'Diving', 'Football1', 'Freeman3', 'Freeman4'}


def _fits_otb(root: Path) -> bool:
    return any(root.glob('*/groundtruth_rect*.txt')) and any(root.glob('*/img/'))


def _fits_dtb70(root: Path) -> bool:
    return 'dtb' in root.resolve().name.lower() and _fits_otb(root)


def _read_otb(root: Path, problems: Problems) -> list[Sequence]:
    return _read_each(_otb_annotations(root, problems), _otb_sequence, problems)


def _otb_annotations(root: Path, problems: Problems) -> Iterator[tuple[str, Path]]:
    for folder in folders_in(root):
        if not (folder / 'img').is_dir():
            continue
        found = _sorted(folder.glob('groundtruth_rect*.txt'))
        # OTB ships an empty file for a target of Human4 that it does not have.
        several = [each for each in found if each.stat().st_size > 2] or found
        if not several:
            problems.append(SequenceError(f'{folder / "groundtruth_rect.txt"}: no such file'))
        for number, annotation in enumerate(several, 1):
            yield folder.name if len(several) == 1 else f'{folder.name}.{number}', annotation


def _otb_sequence(name: str, annotation: Path) -> Sequence:
    folder = annotation.parent
    first = 0
    if folder.name in _OTB_FIRST_IMAGE:
        numbers = [int(path.stem) for path in _images(folder / 'img') if path.stem.isdigit()]
        first = sum(number < _OTB_FIRST_IMAGE[folder.name] for number in numbers)
    return assemble(
        name,
        folder / 'img',
        annotation,
        truth=_from_one(read_boxes(annotation)),
        first_frame=first,
        spare_frames=folder.name in _OTB_SPARE_FRAMES,
        attributes=_attributes(
            folder.parent / 'anno' / 'att', [name, folder.name], OTB_ATTRIBUTES
        ),
    )


def _read_dtb70(root: Path, problems: Problems) -> list[Sequence]:
    def sequence(name: str, annotation: Path) -> Sequence:
        truth = _from_one(read_boxes(annotation))
        return assemble(name, annotation.parent / 'img', annotation, truth=truth)

    return _read_each(_otb_annotations(root, problems), sequence, problems)


# UAV123: data_seq/UAV123/FOLDER/*.jpg, anno/UAV123/NAME.txt and anno/UAV123/att/NAME.txt; which
# frames of which folder a NAME has is in configSeqs.m.

_UAV_LIST = re.compile(r'seq(\w+)\s*=\s*\{(.*?)\}\s*;', re.DOTALL)
_UAV_ENTRY = re.compile(
    r"'name'\s*,\s*'([^']+)'.*?'path'\s*,\s*'([^']+)'.*?'startFrame'\s*,\s*(\d+)"
)


def _fits_uav123(root: Path) -> bool:
    return (root / 'data_seq').is_dir() and (root / 'anno').is_dir()


def _read_uav123(root: Path, problems: Problems) -> list[Sequence]:
    versions = [each for each in folders_in(root / 'anno') if each.name != 'att']
    # UAV20L, if it is here, is a benchmark of its own over the same pictures.
    chosen = next((each for each in versions if each.name.startswith('UAV123')), None)
    annotations = chosen or (versions[0] if versions else root / 'anno')
    pictures = folders_in(root / 'data_seq')
    own = [each for each in pictures if each.name == annotations.name] or pictures
    clips = _uav123_clips(root / 'configSeqs.m', annotations.name)

    def sequence(name: str, annotation: Path) -> Sequence:
        if not own:
            raise SequenceError(f'{root / "data_seq"}: holds no folder with the pictures')
        folder, first = clips.get(name, (name, 1))
        source = own[0] / folder
        if not source.is_dir():
            raise SequenceError(
                f'{source}: no such folder; configSeqs.m in {root}, which comes with UAV123, says '
                f'which frames {name} has'
            )
        truth = _from_one(read_boxes(annotation))
        attributes = _attributes(annotations / 'att', [name], UAV123_ATTRIBUTES)
        return assemble(
            name,
            source,
            annotation,
            truth=truth,
            first_frame=first - 1,
            spare_frames=name in clips,
            attributes=attributes,
        )

    files = ((path.stem, path) for path in _sorted(annotations.glob('*.txt')))
    return _read_each(files, sequence, problems)


def _uav123_clips(path: Path, version: str) -> dict[str, tuple[str, int]]:
    """Folder and number of the first image, by the sequence's name; empty without the file."""
    if not path.is_file():
        return {}
    lists = dict(_UAV_LIST.findall(text_of(path)))
    only = next(iter(lists.values())) if len(lists) == 1 else ''
    entries = lists.get(version, only)
    return {
        name: (re.split(r'[\\/]', folder.rstrip('\\/'))[-1], int(first))
        for name, folder, first in _UAV_ENTRY.findall(entries)
    }


# LaSOT and its extension: CATEGORY/CATEGORY-N with img/, groundtruth.txt, full_occlusion.txt,
# out_of_view.txt and nlp.txt; testing_set.txt beside the categories names those of the test. The
# toolkit's annos/att and annos/absent are read where they lie beside the categories.


def _fits_lasot(root: Path) -> bool:
    return any(root.glob('*/*/full_occlusion.txt')) or any(root.glob('*/*/out_of_view.txt'))


def _fits_lasot_ext(root: Path) -> bool:
    return 'ext' in root.resolve().name.lower() and _fits_lasot(root)


def _read_lasot(root: Path, problems: Problems) -> list[Sequence]:
    chosen = _listed(root / 'testing_set.txt')
    folders = [
        folder
        for category in folders_in(root)
        for folder in folders_in(category)
        if (folder / 'img').is_dir() and (chosen is None or folder.name in chosen)
    ]
    for name in sorted((chosen or set()) - {folder.name for folder in folders}):
        problems.append(SequenceError(f'{root / "testing_set.txt"}: {name} is not below {root}'))

    def sequence(name: str, annotation: Path) -> Sequence:
        folder = annotation.parent
        truth = _from_one(read_boxes(annotation))
        absent = _absent_by_toolkit(root, name, len(truth))
        if absent is None:
            absent = np.zeros(len(truth), bool)
            for label in ('full_occlusion.txt', 'out_of_view.txt'):
                absent |= flags_in(folder / label, len(truth))
        return assemble(
            name,
            folder / 'img',
            annotation,
            truth=_without(truth, absent),
            attributes=_attributes(root / 'annos' / 'att', [name], LASOT_ATTRIBUTES),
            text=sentence_in(folder / 'nlp.txt'),
        )

    files = ((folder.name, folder / ANNOTATION_NAME) for folder in folders)
    return _read_each(files, sequence, problems)


# GOT-10k: val/ and test/ with list.txt and NAME/*.jpg, groundtruth.txt and cover.label
# (eighths of the target that are seen); of the test only the first boxes are public.


def _fits_got10k(root: Path) -> bool:
    return bool(_got10k_parts(root))


def _got10k_parts(root: Path) -> list[Path]:
    parts = [root, root / 'val', root / 'test', root / 'train']
    return [each for each in parts if (each / 'list.txt').is_file()]


def _read_got10k(root: Path, problems: Problems) -> list[Sequence]:
    part, *_ = _got10k_parts(root) or [root]
    listed = text_of(part / 'list.txt').split()

    def sequence(name: str, annotation: Path) -> Sequence:
        folder = annotation.parent
        if not folder.is_dir():
            raise SequenceError(f'{part / "list.txt"}: {name} is not in {part}')
        truth = read_boxes(annotation)
        if len(truth) == 1:
            return assemble(name, folder, annotation, truth=truth, withheld=True)
        absent = np.zeros(len(truth), bool)
        if (folder / 'cover.label').is_file():
            absent |= values_in(folder / 'cover.label', len(truth)) == 0
        return assemble(name, folder, annotation, truth=_without(truth, absent))

    files = ((name, part / name / ANNOTATION_NAME) for name in listed)
    return _read_each(files, sequence, problems)


# TrackingNet: TEST/frames/NAME/*.jpg and TEST/anno/NAME.txt, the first boxes alone; TRAIN_0 to
# TRAIN_11 the same with all boxes.


def _fits_trackingnet(root: Path) -> bool:
    return bool(_trackingnet_parts(root))


def _trackingnet_parts(root: Path) -> list[Path]:
    parts = [root, root / 'TEST', *_sorted(root.glob('TRAIN_*'))]
    return [each for each in parts if (each / 'frames').is_dir() and (each / 'anno').is_dir()]


def _read_trackingnet(root: Path, problems: Problems) -> list[Sequence]:
    part, *_ = _trackingnet_parts(root) or [root]

    def sequence(name: str, annotation: Path) -> Sequence:
        source = part / 'frames' / name
        if not source.is_dir():
            raise SequenceError(f'{source}: no such folder')
        truth = read_boxes(annotation)
        withheld = len(truth) == 1
        return assemble(name, source, annotation, truth=truth, withheld=withheld)

    files = ((path.stem, path) for path in _sorted((part / 'anno').glob('*.txt')))
    return _read_each(files, sequence, problems)


# TNL2K: NAME/imgs/, NAME/groundtruth.txt and NAME/language.txt, below a category or not; the
# toolkit's annos/att/NAME_attribute.txt and annos/absent/NAME.txt are read where they lie beside.


def _fits_tnl2k(root: Path) -> bool:
    return any(root.glob('*/language.txt')) or any(root.glob('*/*/language.txt'))


def _read_tnl2k(root: Path, problems: Problems) -> list[Sequence]:
    below = folders_in(root)
    folders = [
        folder
        for each in below
        for folder in ([each] if (each / 'imgs').is_dir() else folders_in(each))
        if (folder / 'imgs').is_dir()
    ]

    def sequence(name: str, annotation: Path) -> Sequence:
        folder = annotation.parent
        truth = read_boxes(annotation)
        absent = _absent_by_toolkit(root, name, len(truth))
        attribute_names = [f'{name}_attribute', name]
        return assemble(
            name,
            folder / 'imgs',
            annotation,
            truth=truth if absent is None else _without(truth, absent),
            attributes=_attributes(root / 'annos' / 'att', attribute_names, TNL2K_ATTRIBUTES),
            text=sentence_in(folder / 'language.txt'),
        )

    files = ((folder.name, folder / ANNOTATION_NAME) for folder in folders)
    return _read_each(files, sequence, problems)


LAYOUTS = {
    layout.name: layout
    for layout in (
        Layout('trackingnet', _fits_trackingnet, _read_trackingnet),
        Layout('uav123', _fits_uav123, _read_uav123, origin=1),
        Layout('got10k', _fits_got10k, _read_got10k),
        Layout('lasot_ext', _fits_lasot_ext, _read_lasot, origin=1),
        Layout('lasot', _fits_lasot, _read_lasot, origin=1),
        Layout('tnl2k', _fits_tnl2k, _read_tnl2k),
        Layout('dtb70', _fits_dtb70, _read_dtb70, origin=1),
        Layout('otb', _fits_otb, _read_otb, origin=1),
    )
}
"""Those that tell more of themselves come first: the first that fits is taken."""


def _read_each(
    files: Iterable[tuple[str, Path]],
    read: Callable[[str, Path], Sequence],
    problems: Problems,
) -> list[Sequence]:
    sequences = []
    for name, annotation in files:
        try:
            sequences.append(read(name, annotation))
        except SequenceError as error:
            problems.append(error)
    return sequences


def _attributes(folder: Path, stems: list[str], known: tuple[str, ...]) -> tuple[str, ...]:
    """Those of `known` that a file of zeros and ones says; none without the file."""
    path = next((found for stem in stems if (found := folder / f'{stem}.txt').is_file()), None)
    if path is None:
        return ()
    flags = flags_in(path, len(known))
    return tuple(name for name, flag in zip(known, flags, strict=True) if flag)


def _absent_by_toolkit(root: Path, name: str, count: int) -> NDArray[np.bool_] | None:
    path = root / 'annos' / 'absent' / f'{name}.txt'
    return flags_in(path, count) if path.is_file() else None


def flags_in(path: Path, count: int) -> NDArray[np.bool_]:
    """Which of `count` numbers are not 0; see `values_in`."""
    return values_in(path, count) != 0


def values_in(path: Path, count: int) -> NDArray[np.float64]:
    """Read `count` numbers from one line or many; SequenceError names file and line."""
    values: list[float] = []
    lines = text_of(path).splitlines()
    for number, line in enumerate(lines, 1):
        for word in filter(None, re.split(r'[,;\s]+', line.strip())):
            try:
                values.append(float(word))
            except ValueError:
                raise SequenceError(f'{path}:{number}: {word!r} is not a number') from None
    if len(values) != count:
        raise SequenceError(
            f'{path}:{len(lines)}: {len(values)} numbers where {count} are expected'
        )
    return np.array(values)


def _listed(path: Path) -> set[str] | None:
    return set(text_of(path).split()) if path.is_file() else None


def sentence_in(path: Path) -> str | None:
    """The words of a file in one line; None where there is no file or nothing in it."""
    return ' '.join(text_of(path).split()) or None if path.is_file() else None


def text_of(path: Path) -> str:
    """Raises SequenceError."""
    try:
        return path.read_text(encoding='utf-8-sig')
    except FileNotFoundError:
        raise SequenceError(f'{path}: no such file') from None
    except (OSError, UnicodeDecodeError) as error:
        raise SequenceError(f'{path}: cannot be read: {error}') from error


def _from_one(boxes: Boxes) -> Boxes:
    """Boxes of which the first pixel is number 1, with it as number 0."""
    return boxes - np.array([1.0, 1.0, 0.0, 0.0])


def _without(truth: Boxes, absent: NDArray[np.bool_]) -> Boxes:
    return np.where(absent[:, None], np.nan, truth)


def _images(folder: Path) -> list[Path]:
    return _sorted(each for each in folder.iterdir() if each.suffix.lower() in IMAGE_SUFFIXES)


def folders_in(root: Path) -> list[Path]:
    """In natural order; none where `root` is no folder."""
    return _sorted(each for each in root.iterdir() if each.is_dir()) if root.is_dir() else []


def _sorted(paths: Iterable[Path]) -> list[Path]:
    return sorted(paths, key=lambda path: natural_key(path.name))
