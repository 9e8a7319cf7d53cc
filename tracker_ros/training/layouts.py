# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""How the field's training sets lie on disk: a reader of each set's own layout.

A reader puts the subjects of a set into a `Writer`. Frames in which the target is hidden or out of
view are kept apart; a sequence whose annotation is broken is left out, and the others are used. No
frame is decoded: of YouTube-VOS, whose boxes are those of its masks, the masks are.

Annotations are untrusted: names stay below the set's folder, XML with a document type (and so
with entities) is refused, numbers must be those of a picture.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.parsers import expat

import cv2
import numpy as np
from numpy.typing import NDArray

from tracker_ros.evaluation.datasets import flags_in, folders_in, sentence_in, text_of, values_in
from tracker_ros.evaluation.sequences import ANNOTATION_NAME, Boxes, SequenceError, read_boxes
from tracker_ros.footage import IMAGE_SUFFIXES, natural_key
from tracker_ros.training.outlines import (
    filled,
    from_runs,
    runs_of,
    size_of,
    step_of,
    with_indices,
)
from tracker_ros.training.pictures import DataError, Files, FolderFiles
from tracker_ros.training.tracks import LARGEST_COORDINATE_PX, OUTLINE, Columns, Writer

Pick = Callable[[list[str]], list[str]]
"""Those of the set's sequences that are wanted."""

_LARGEST_XML_BYTES = 1 << 20
_LARGEST_JSON_BYTES = 4 << 30
_LARGEST_SIDE_PX = 16384
_LARGEST_RUN = 1 << 24
_HEADER_BYTES = 1 << 18
_PRINTABLE = re.compile(r'[^\x00-\x1f\x7f]+')


@dataclass(frozen=True)
class Layout:
    """How a set lies on disk.

    looked_for: what its folder must hold, in words. inputs: the files and folders that its
    annotations are in. read: puts them into a writer. open: where its pictures and masks are.
    has_list: whether its sequences have names to choose by.
    """

    looked_for: str
    inputs: Callable[[Path, str], list[Path]]
    read: Callable[[Path, str, Pick, Writer], None]
    writer: Callable[[], Writer]
    splits: tuple[str, ...] = ('train',)
    open: Callable[[Path, Columns], Files] = lambda root, _: FolderFiles(root)
    has_list: bool = True


# LaSOT: CATEGORY/CATEGORY-N with img/00000001.jpg ..., groundtruth.txt, full_occlusion.txt,
# out_of_view.txt and nlp.txt.

_LASOT_TEST = """
    airplane:1,9,13,15 basketball:1,6,7,11 bear:2,4,6,17 bicycle:2,7,9,18 bird:2,3,15,17
    boat:3,4,12,17 book:3,10,11,19 bottle:1,12,14,18 bus:2,5,17,19 car:2,6,9,17 cat:1,3,18,20
    cattle:2,7,12,13 chameleon:3,6,11,20 coin:3,6,7,18 crab:3,6,12,18 crocodile:3,4,10,14
    cup:1,4,7,17 deer:4,8,10,14 dog:1,7,15,19 drone:2,7,13,15 electricfan:1,10,18,20
    elephant:1,12,16,18 flag:2,3,5,9 fox:2,3,5,20 frog:3,4,9,20 gametarget:1,2,7,13
    gecko:1,5,16,19 giraffe:2,10,13,15 goldfish:3,7,8,10 gorilla:4,6,9,13 guitar:3,8,10,16
    hand:2,3,9,16 hat:1,2,5,18 helmet:5,11,13,19 hippo:1,7,9,20 horse:1,4,12,15 kangaroo:2,5,11,14
    kite:4,6,10,15 leopard:1,7,16,20 licenseplate:6,12,13,15 lion:1,5,12,20 lizard:1,3,6,13
    microphone:2,6,14,16 monkey:3,4,9,17 motorcycle:1,3,9,18 mouse:1,8,9,17 person:1,5,10,12
    pig:2,10,13,18 pool:3,7,12,15 rabbit:10,13,17,19 racing:10,15,16,20 robot:1,5,8,19
    rubicCube:1,6,14,19 sepia:6,8,13,16 shark:2,3,5,6 sheep:3,5,7,9 skateboard:3,8,16,19
    spider:14,16,18,20 squirrel:8,11,13,19 surfboard:4,5,8,12 swing:10,14,17,20 tank:6,9,14,16
    tiger:4,6,12,18 train:1,7,11,20 truck:3,6,7,16 turtle:5,8,9,16 umbrella:2,9,17,19
    volleyball:1,13,18,19 yoyo:7,15,17,19 zebra:10,14,16,17
"""
"""The 280 test sequences of LaSOT (protocol II; testing_set.txt of its evaluation toolkit)."""


def lasot_test() -> dict[str, set[int]]:
    """The numbers of the test sequences, by category."""
    entries = (entry.split(':') for entry in _LASOT_TEST.split())
    return {category: set(map(int, numbers.split(','))) for category, numbers in entries}


def _lasot_folders(root: Path, split: str) -> list[Path]:
    test = lasot_test()
    found = []
    for category in folders_in(root):
        for folder in folders_in(category):
            number = folder.name.removeprefix(f'{category.name}-')
            # Another category is of the extension, which is for tests alone.
            if category.name not in test or not number.isdecimal():
                continue
            is_test = int(number) in test[category.name]
            if split == 'all' or is_test == (split == 'test'):
                found.append(folder)
    return found


def _lasot_inputs(root: Path, split: str) -> list[Path]:
    names = (ANNOTATION_NAME, 'full_occlusion.txt', 'out_of_view.txt', 'nlp.txt')
    return _existing(folder / name for folder in _lasot_folders(root, split) for name in names)


def _read_lasot(root: Path, split: str, pick: Pick, writer: Writer) -> None:
    """Boxes count pixels from 1: on 1400 sequences most that touch the left edge have x = 1."""
    folders = {folder.name: folder for folder in _lasot_folders(root, split)}

    def read(name: str) -> None:
        folder = folders[name]
        boxes = _boxes(folder / ANNOTATION_NAME) - (1.0, 1.0, 0.0, 0.0)
        for label in ('full_occlusion.txt', 'out_of_view.txt'):
            boxes[flags_in(folder / label, len(boxes))] = np.nan
        prefix = f'{folder.parent.name}/{name}/img/'
        _check_last(root, f'{prefix}{len(boxes):08d}.jpg', folder / ANNOTATION_NAME)
        frames = np.arange(len(boxes))
        writer.add(
            boxes, frames, frames + 1, prefix, '.jpg', folder.parent.name,
            sentence_in(folder / 'nlp.txt'),
        )  # fmt: skip

    _read_each(pick(list(folders)), read, writer)


# GOT-10k: train/list.txt, and of each sequence 00000001.jpg ..., groundtruth.txt, absence.label
# (1: out of view), cover.label (eighths of the target that are seen) and meta_info.ini.

_GOT_CLASSES = ('object_class', 'motion_class', 'major_class', 'root_class')


def _got10k_part(root: Path, split: str) -> Path:
    return root / split if (root / split / 'list.txt').is_file() else root


def _got10k_inputs(root: Path, split: str) -> list[Path]:
    part = _got10k_part(root, split)
    if not (part / 'list.txt').is_file():
        return []
    names = (ANNOTATION_NAME, 'absence.label', 'cover.label', 'meta_info.ini')
    return [part / 'list.txt'] + _existing(
        part / name / file for name in _list_of(part / 'list.txt') for file in names
    )


def _read_got10k(root: Path, split: str, pick: Pick, writer: Writer) -> None:
    """Boxes are taken as they are, as its own toolkit takes them."""
    part = _got10k_part(root, split)
    below = f'{split}/' if part != root else ''

    def read(name: str) -> None:
        folder = part / name
        boxes = _boxes(folder / ANNOTATION_NAME)
        boxes[flags_in(folder / 'absence.label', len(boxes))] = np.nan
        if (folder / 'cover.label').is_file():
            boxes[values_in(folder / 'cover.label', len(boxes)) == 0] = np.nan
        _check_last(root, f'{below}{name}/{len(boxes):08d}.jpg', folder / ANNOTATION_NAME)
        said = _got10k_words(folder / 'meta_info.ini')
        frames = np.arange(len(boxes))
        writer.add(
            boxes, frames, frames + 1, f'{below}{name}/', '.jpg', said.get('object_class'),
            ' '.join(said[key] for key in _GOT_CLASSES if key in said),
        )  # fmt: skip

    _read_each(pick(_list_of(part / 'list.txt')), read, writer)


def _got10k_words(path: Path) -> dict[str, str]:
    """What `meta_info.ini` says, line by line: no file, no words."""
    if not path.is_file():
        return {}
    lines = (line.partition(':') for line in text_of(path).splitlines())
    return {key.strip(): value.strip() for key, _, value in lines if value.strip()}


# TrackingNet: TRAIN_0 to TRAIN_11, in each anno/NAME.txt and frames/NAME/0.jpg ...


_TRACKINGNET_PART = re.compile(r'TRAIN_\d+', re.IGNORECASE)


def _trackingnet_inputs(root: Path, _split: str) -> list[Path]:
    parts = [folder for folder in folders_in(root) if _TRACKINGNET_PART.fullmatch(folder.name)]
    return [
        path
        for part in parts
        for path in sorted((part / 'anno').glob('*.txt'))
    ]  # fmt: skip


def _read_trackingnet(root: Path, split: str, pick: Pick, writer: Writer) -> None:
    """Boxes are made of YouTube-BoundingBoxes', parts of the picture's size: so they count from 0.

    Only one a second was drawn by hand; those between are tracked (TrackingNet, section 3.2).
    """
    annotations = {path.stem: path for path in _trackingnet_inputs(root, split)}

    def read(name: str) -> None:
        path = annotations[name]
        boxes = _boxes(path)
        prefix = f'{path.parent.parent.name}/frames/{name}/'
        _check_last(root, f'{prefix}{len(boxes) - 1}.jpg', path)
        frames = np.arange(len(boxes))
        writer.add(boxes, frames, frames, prefix, '.jpg')

    _read_each(pick(list(annotations)), read, writer)


# TNL2K: NAME/imgs/, NAME/groundtruth.txt and NAME/language.txt, below another folder or not. The
# names of the test sequences begin with test_.


def _tnl2k_folders(root: Path, split: str) -> list[Path]:
    below = [
        folder
        for each in folders_in(root)
        for folder in ([each] if (each / 'imgs').is_dir() else folders_in(each))
        if (folder / 'imgs').is_dir()
    ]
    return [each for each in below if split == 'all' or not each.name.startswith('test_')]


def _tnl2k_inputs(root: Path, split: str) -> list[Path]:
    names = (ANNOTATION_NAME, 'language.txt', 'imgs')
    return _existing(folder / name for folder in _tnl2k_folders(root, split) for name in names)


def _read_tnl2k(root: Path, split: str, pick: Pick, writer: Writer) -> None:
    """Frames without the target have boxes of no size; there are no other labels of absence."""
    folders = {folder.name: folder for folder in _tnl2k_folders(root, split)}

    def read(name: str) -> None:
        folder = folders[name]
        boxes = _boxes(folder / ANNOTATION_NAME)
        pictures = sorted(
            (each.name for each in os.scandir(folder / 'imgs')
             if Path(each.name).suffix.lower() in IMAGE_SUFFIXES),
            key=natural_key,
        )  # fmt: skip
        if len(pictures) < len(boxes):
            raise DataError(
                f'{folder / ANNOTATION_NAME}:{len(boxes)}: the annotation ends here, but there '
                f'are {len(pictures)} pictures in {folder / "imgs"}'
            )
        writer.add(
            boxes,
            np.arange(len(boxes)),
            pictures[: len(boxes)],
            f'{folder.relative_to(root).as_posix()}/imgs/',
            sentence=sentence_in(folder / 'language.txt'),
        )

    _read_each(pick(list(folders)), read, writer)


# ImageNet VID and DET: Annotations/VID/train/... with an XML a picture, the pictures in the same
# folders below Data/VID/train. VID gives tracks, by trackid.


def _xml_folders(kind: str) -> Callable[[Path, str], list[Path]]:
    def inputs(root: Path, split: str) -> list[Path]:
        top = root / 'Annotations' / kind / split
        if not (root / 'Data' / kind / split).is_dir():
            return []
        below = (Path(folder) for folder, _, files in os.walk(top, followlinks=True)
                 if any(name.endswith('.xml') for name in files))  # fmt: skip
        return sorted(below, key=lambda folder: natural_key(folder.as_posix()))

    return inputs


_vid_inputs, _det_inputs = _xml_folders('VID'), _xml_folders('DET')


def _read_vid(root: Path, split: str, pick: Pick, writer: Writer) -> None:
    """Boxes count from 0, xmin to xmax taken as edges, as all trackers trained on it take them.

    A video has several tracks; what is partly hidden is used, out of view there is no object.
    """
    top = root / 'Annotations' / 'VID' / split
    names = [folder.relative_to(top).as_posix() for folder in _vid_inputs(root, split)]

    def read(name: str) -> None:
        tracks: dict[str, list[tuple[int, Boxes, str]]] = defaultdict(list)
        for path in sorted((top / name).glob('*.xml')):
            if not (path.stem.isdecimal() and len(path.stem) == 6):
                raise DataError(f'{path}: the name of a frame must be a number of six digits')
            for item in _xml_objects(path):
                if 'trackid' not in item:
                    raise DataError(f'{path}: an object has no trackid')
                tracks[item['trackid']].append((int(path.stem), _xml_box(path, item),
                                                item.get('name', '')))  # fmt: skip
        for track in tracks.values():
            frames = np.array([frame for frame, _, _ in track])
            boxes = np.array([box for _, box, _ in track])
            writer.add(boxes, frames, frames, f'Data/VID/{split}/{name}/', '.JPEG', track[0][2])

    _read_each(pick(names), read, writer)


def _read_det(root: Path, split: str, _pick: Pick, writer: Writer) -> None:
    """Boxes as those of VID; each object is a subject of its own."""
    top = root / 'Annotations' / 'DET' / split

    def read(path: Path) -> None:
        below = path.relative_to(top).with_suffix('.JPEG').as_posix()
        found = [(_xml_box(path, item), item.get('name')) for item in _xml_objects(path)]
        for box, label in found:
            writer.add(box[None], _ONE, [below], f'Data/DET/{split}/', label=label)

    paths = (path for folder in _det_inputs(root, split) for path in sorted(folder.glob('*.xml')))
    _read_each(paths, read, writer)


_ONE = np.zeros(1, np.int64)
_BOX_TAGS = ('xmin', 'ymin', 'xmax', 'ymax')


def _xml_objects(path: Path) -> list[dict[str, str]]:
    """What is said of each `object`, and of its `bndbox`, by tag. Raises DataError."""
    found: list[dict[str, str]] = []
    tags: list[str] = []
    text: list[str] = []

    def start(tag: str, _attributes: dict[str, str]) -> None:
        tags.append(tag)
        text.clear()
        if tags[1:] == ['object']:
            found.append({})

    def end(tag: str) -> None:
        if tags[1:2] == ['object'] and tags[2:-1] in ([], ['bndbox']):
            found[-1][tag] = ''.join(text).strip()
        tags.pop()
        text.clear()

    def refuse(*_: object) -> None:
        raise DataError(
            f'{path}:{parser.CurrentLineNumber}: has a document type, which annotations have not; '
            'its entities are not read'
        )

    parser = expat.ParserCreate()
    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler = text.append
    parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = refuse
    try:
        parser.Parse(_content(path, _LARGEST_XML_BYTES), True)
    except expat.ExpatError as error:
        raise DataError(
            f'{path}:{error.lineno}: is no XML: {expat.ErrorString(error.code)}'
        ) from error
    return found


def _xml_box(path: Path, item: dict[str, str]) -> Boxes:
    try:
        x1, y1, x2, y2 = (float(item[tag]) for tag in _BOX_TAGS)
    except (KeyError, ValueError) as error:
        raise DataError(f'{path}: an object has no box: {error}') from error
    return _checked(np.array([x1, y1, x2 - x1, y2 - y1]), str(path))


# YouTube-BoundingBoxes: yt_bb_detection_train.csv, as it is published, and frames as
# youtube-bb-utility cuts them from the videos, with the time in ms:
# yt_bb_detection_train/CLASS/ID_TIME_CLASS_OBJECT.jpg

_YTBB_COLUMNS = 10
_YTBB_HZ = 30
"""Of the videos, roughly: to turn times into frames. A box a second is drawn."""


def _ytbb_inputs(root: Path, split: str) -> list[Path]:
    table = root / f'yt_bb_detection_{split}.csv'
    pictures = root / f'yt_bb_detection_{split}'
    return [table, *folders_in(pictures)] if table.is_file() and pictures.is_dir() else []


def _read_ytbb(root: Path, split: str, _pick: Pick, writer: Writer) -> None:
    """Boxes are parts of the picture's size, which is read from its first bytes.

    A segment is a video, a class and an object (its download page). Frames that are not on disk,
    because the video is not on YouTube any more, are left out.
    """
    table, *folders = _ytbb_inputs(root, split)
    segments = _ytbb_segments(table, writer)
    for folder in folders:
        there = {entry.name for entry in os.scandir(folder)}

        def read(
            key: tuple[str, str, str], folder: Path = folder, there: set[str] = there
        ) -> None:
            video, kind, thing = key
            label, numbers = segments[key]
            rows = np.frombuffer(numbers, np.float64).reshape(-1, 5)
            rows = rows[rows[:, 0].argsort(kind='stable')]
            suffix = f'_{kind}_{thing}.jpg'
            rows = rows[[f'{video}_{int(time)}{suffix}' in there for time in rows[:, 0]]]
            if not len(rows):
                return
            times = rows[:, 0].astype(np.int64)
            width, height = _picture_size(folder / f'{video}_{times[0]}{suffix}')
            x1, x2, y1, y2 = rows[:, 1:].T * np.array([[width], [width], [height], [height]])
            boxes = np.stack([x1, y1, x2 - x1, y2 - y1], axis=1)
            boxes[(boxes[:, 2:] <= 0).any(axis=1)] = np.nan
            frames = times * _YTBB_HZ // 1000
            prefix = f'{folder.parent.name}/{folder.name}/{video}_'
            writer.add(boxes, frames, times, prefix, suffix, label)

        _read_each([key for key in segments if key[1] == folder.name], read, writer)


def _ytbb_segments(
    table: Path, writer: Writer
) -> dict[tuple[str, str, str], tuple[str, array[float]]]:
    """By video, class and object: the class's name, and time, xmin, xmax, ymin, ymax of each."""
    segments: dict[tuple[str, str, str], tuple[str, array[float]]] = {}
    broken: set[tuple[str, str, str]] = set()
    try:
        with table.open(encoding='utf-8', newline='') as stream:
            for line in (rows := csv.reader(stream)):
                place = f'{table}:{rows.line_num}'
                if len(line) != _YTBB_COLUMNS:
                    writer.leave_out(f'{place}: {len(line)} columns, not {_YTBB_COLUMNS}')
                    continue
                video, time, kind, label, thing, presence, *sides = line
                key = (video, kind, thing)
                try:
                    _inside(f'{video}_{kind}_{thing}', place)
                    values = [float(int(time)), *map(float, sides)]
                    if presence == 'absent':
                        continue
                    if not all(0 <= value <= 1 for value in values[1:]) or values[0] > 1 << 30:
                        raise DataError(f'{place}: {sides} are no parts of a picture')
                    segments.setdefault(key, (label, array('d')))[1].extend(values)
                except (DataError, ValueError, OverflowError) as error:
                    broken.add(key)
                    told = error if isinstance(error, DataError) else f'{place}: {error}'
                    writer.leave_out(told)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f'{table} cannot be read: {error}') from error
    for key in broken:
        segments.pop(key, None)
    return segments


def _picture_size(path: Path) -> tuple[int, int]:
    try:
        with path.open('rb') as stream:
            return size_of(stream.read(_HEADER_BYTES))
    except (OSError, ValueError) as error:
        raise DataError(f'{path}: {error}') from error


# COCO: annotations/instances_train2017.json, and pictures in train2017.


def _coco_split(split: str) -> str:
    return {'train': 'train2017', 'val': 'val2017'}.get(split, split)


def _coco_inputs(root: Path, split: str) -> list[Path]:
    split = _coco_split(split)
    path = root / 'annotations' / f'instances_{split}.json'
    return [path] if path.is_file() and (root / split).is_dir() else []


def _read_coco(root: Path, split: str, _pick: Pick, writer: Writer) -> None:
    """Boxes are x, y, w, h from 0, with parts of pixels. Crowds are no single thing: left out.

    The outlines, polygons or runs, become masks when they are asked for.
    """
    (path,) = _coco_inputs(root, split)
    content = _json(path)
    try:
        labels = {each['id']: str(each['name']) for each in content['categories']}
        pictures = {
            each['id']: (
                _inside(each['file_name'], str(path)),
                _side(each['width'], path),
                _side(each['height'], path),
            )
            for each in content['images']
        }
        annotations = list(enumerate(content['annotations']))
        annotations.sort(key=lambda entry: int(entry[1]['image_id']))
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f'{path} is no file of COCO: {type(error).__name__}: {error}') from error

    def read(entry: tuple[int, dict[str, Any]]) -> None:
        place, item = entry
        try:
            if item.get('iscrowd'):
                return
            name, width, height = pictures[item['image_id']]
            box = _checked(np.array(item['bbox'], np.float64), f'{path}: annotation {place}')
            parts, are_runs = _coco_outline(item.get('segmentation'), width, height)
            label = labels[item['category_id']]
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise DataError(
                f'{path}: annotation {place}: {type(error).__name__}: {error}'
            ) from error
        has_outline = np.array([int(bool(parts))])
        writer.add(
            box[None], _ONE, [name], f'{_coco_split(split)}/', label=label, instances=has_outline
        )
        writer.add_outline(parts, width, height, are_runs)

    _read_each(annotations, read, writer)


def _coco_outline(said: Any, width: int, height: int) -> tuple[list[NDArray[np.float64]], bool]:
    """Polygons, or one list of runs and True; empty where nothing is said. Raises ValueError."""
    if not said:
        return [], False
    if isinstance(said, dict):
        counts = said['counts']
        runs = np.array(runs_of(counts) if isinstance(counts, str) else counts, np.float64)
        if (
            said['size'] != [height, width]
            or runs.ndim != 1
            or (runs < 0).any()
            or (runs.sum() != width * height or runs.max() > _LARGEST_RUN)
        ):
            raise ValueError(f'its runs are no mask of {width} x {height}')
        return [runs], True
    parts = [np.array(part, np.float64) for part in said]
    for part in parts:
        if part.ndim != 1 or len(part) < 6 or len(part) % 2:
            raise ValueError('a polygon must have three points at least, x and y of each')
        if not (np.abs(part) <= LARGEST_COORDINATE_PX).all():
            raise ValueError('a polygon has points far outside of any picture')
    return parts, False


@dataclass(frozen=True)
class _DrawnFiles:
    """Pictures in a folder, and masks that are drawn from their outlines."""

    pictures: FolderFiles
    columns: Columns

    def read(self, name: str) -> bytes:
        if not name.startswith(OUTLINE):
            return self.pictures.read(name)
        parts, width, height, are_runs = self.columns.outline(int(name.removeprefix(OUTLINE)))
        if are_runs:
            mask = from_runs(parts[0].astype(np.int64), width, height)
        else:
            mask = filled(parts, width, height)
        return cv2.imencode('.bmp', mask)[1].tobytes()


# YouTube-VOS: train/meta.json, JPEGImages/VIDEO/00000.jpg and Annotations/VIDEO/00000.png, whose
# palette indices are the objects.


def _vos_part(root: Path, split: str) -> Path:
    return root / split if (root / split / 'meta.json').is_file() else root


def _vos_inputs(root: Path, split: str) -> list[Path]:
    part = _vos_part(root, split)
    if not (part / 'meta.json').is_file() or not (part / 'JPEGImages').is_dir():
        return []
    return [part / 'meta.json', *folders_in(part / 'Annotations')]


def _read_vos(root: Path, split: str, pick: Pick, writer: Writer) -> None:
    """Boxes are those of the masks, where an object is seen; meta.json says in which frames."""
    part = _vos_part(root, split)
    below = f'{split}/' if part != root else ''
    files = _MaskFiles(FolderFiles(root))
    path = part / 'meta.json'
    content = _json(path)
    try:
        videos = {str(name): dict(said['objects']) for name, said in content['videos'].items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            f'{path} is none of YouTube-VOS: {type(error).__name__}: {error}'
        ) from error

    def read(name: str) -> None:
        _inside(name, str(path))
        objects: dict[int, tuple[str, list[str]]] = {}
        try:
            for key, said in videos[name].items():
                frames = sorted(map(str, said['frames']), key=int)
                if not (str(key).isdecimal() and 0 < int(key) < 256):
                    raise DataError(f'{path}: {name}: {key!r} is no object')
                objects[int(key)] = (str(said.get('category') or ''), frames)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f'{path}: {name}: {type(error).__name__}: {error}') from error
        seen: dict[str, tuple[dict[int, Boxes], int]] = {}
        for frame in sorted({frame for _, frames in objects.values() for frame in frames}):
            _inside(frame, f'{path}: {name}')
            seen[frame] = _boxes_of_mask(files, f'{below}Annotations/{name}/{frame}.png', objects)
        for key, (label, frames) in objects.items():
            boxes = [seen[frame][0].get(key, np.full(4, np.nan)) for frame in frames]
            writer.add(
                np.array(boxes).reshape(-1, 4),
                np.array([int(frame) for frame in frames], np.int64),
                frames,
                f'{below}JPEGImages/{name}/',
                '.jpg',
                label,
                instances=np.array([key * seen[frame][1] for frame in frames], np.int64),
            )

    _read_each(pick(list(videos)), read, writer)


def _boxes_of_mask(
    files: _MaskFiles, name: str, objects: Iterable[int]
) -> tuple[dict[int, Boxes], int]:
    """The boxes of the objects that are seen, and by how much their grey values differ."""
    content = files.read(name)
    try:
        if max(size_of(content)) > _LARGEST_SIDE_PX:
            raise ValueError('is too large')
        values = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_GRAYSCALE)
        if values is None:
            raise ValueError('is no PNG')
    except (ValueError, cv2.error) as error:
        raise DataError(f'{name}: {error}') from error
    step = step_of(content)
    found = {}
    for key in objects:
        x, y, w, h = cv2.boundingRect((values == key * step).astype(np.uint8))
        if w:
            found[key] = np.array([x, y, w, h], np.float64)
    return found, step


@dataclass(frozen=True)
class _MaskFiles:
    """Files of a folder; of PNG with palettes the indices, instead of the colours."""

    files: FolderFiles

    def read(self, name: str) -> bytes:
        content = self.files.read(name)
        return with_indices(content) if name.endswith('.png') else content


LAYOUTS = {
    'lasot': Layout(
        'CATEGORY/CATEGORY-N/groundtruth.txt',
        _lasot_inputs, _read_lasot, lambda: Writer(digits=8), ('train', 'test', 'all'),
    ),
    'got10k': Layout(
        'train/list.txt and train/GOT-10k_Train_000001/groundtruth.txt ...',
        _got10k_inputs, _read_got10k, lambda: Writer(digits=8), ('train', 'val'),
    ),
    'trackingnet': Layout(
        'TRAIN_0/anno/NAME.txt and TRAIN_0/frames/NAME/0.jpg ...',
        _trackingnet_inputs, _read_trackingnet, lambda: Writer(digits=1), ('train',),
    ),
    'tnl2k': Layout(
        'NAME/imgs, NAME/groundtruth.txt and NAME/language.txt',
        _tnl2k_inputs, _read_tnl2k, Writer, ('train', 'all'),
    ),
    'imagenet_vid': Layout(
        'Annotations/VID/train/.../000000.xml and Data/VID/train',
        _vid_inputs, _read_vid, lambda: Writer(digits=6), ('train', 'val'),
    ),
    'imagenet_det': Layout(
        'Annotations/DET/train/.../NAME.xml and Data/DET/train',
        _det_inputs, _read_det, Writer, ('train', 'val'), has_list=False,
    ),
    'youtube_bb': Layout(
        'yt_bb_detection_train.csv and yt_bb_detection_train/CLASS/ID_TIME_CLASS_OBJECT.jpg',
        _ytbb_inputs, _read_ytbb, lambda: Writer(digits=1), ('train', 'validation'),
        has_list=False,
    ),
    'coco': Layout(
        'annotations/instances_train2017.json and train2017',
        _coco_inputs, _read_coco, lambda: Writer(masks='outline'),
        ('train', 'val', 'train2017', 'val2017', 'train2014', 'val2014'),
        lambda root, columns: _DrawnFiles(FolderFiles(root), columns), has_list=False,
    ),
    'youtube_vos': Layout(
        'train/meta.json, train/JPEGImages and train/Annotations',
        _vos_inputs, _read_vos, lambda: Writer(masks='JPEGImages/ Annotations/ .png'), ('train',),
        lambda root, _: _MaskFiles(FolderFiles(root)),
    ),
}  # fmt: skip
"""The sets by their kind."""


# What several of them need.


def _read_each(names: Iterable[Any], read: Callable[[Any], None], writer: Writer) -> None:
    for name in names:
        try:
            read(name)
        except (DataError, SequenceError) as error:
            writer.leave_out(error)
        except OSError as error:
            writer.leave_out(f'{name}: {error}')


def _boxes(path: Path) -> Boxes:
    """(n, 4) as `read_boxes` has them, several times as fast. Raises SequenceError."""
    text = text_of(path).rstrip()
    try:
        boxes = np.loadtxt(io.StringIO(text.replace(',', ' ') or 'x'), ndmin=2, comments=None)
    except ValueError:
        return read_boxes(path)
    if boxes.shape != (text.count('\n') + 1, 4) or np.isinf(boxes).any():
        # It says what is wrong, with the line.
        return read_boxes(path)
    boxes[np.isnan(boxes).any(axis=1) | (boxes[:, 2:] <= 0).any(axis=1)] = np.nan
    return boxes


def _checked(box: Boxes, place: str) -> Boxes:
    """Raises DataError for what is no box in a picture."""
    if box.shape != (4,) or not (np.abs(box) <= LARGEST_COORDINATE_PX).all():
        raise DataError(f'{place}: {box.tolist()} is no box')
    if box[2] <= 0 or box[3] <= 0:
        raise DataError(f'{place}: a box of no size: {box.tolist()}')
    return box


def _check_last(root: Path, name: str, annotation: Path) -> None:
    """An annotation must not go on after the pictures. Raises DataError."""
    if not (root / name).is_file():
        raise DataError(f'{annotation}: its last line is of a picture that is not there: {name}')


def _inside(name: Any, place: str) -> str:
    """A name that stays below the folder it is looked for in. Raises DataError."""
    text = str(name)
    parts = re.split(r'[\\/]', text)
    if not _PRINTABLE.fullmatch(text) or '..' in parts or not parts[0] or ':' in parts[0]:
        raise DataError(f'{place}: {text[:80]!r} is no name of a file below the set')
    return text


def _side(value: Any, path: Path) -> int:
    if not 0 < int(value) <= _LARGEST_SIDE_PX:
        raise DataError(f'{path}: no picture is {value} pixels wide or high')
    return int(value)


def _list_of(path: Path) -> list[str]:
    return [_inside(name, str(path)) for name in words_in(path)]


def words_in(path: Path) -> list[str]:
    """Raises DataError."""
    try:
        return text_of(path).split()
    except SequenceError as error:
        raise DataError(str(error)) from error


def _existing(paths: Iterable[Path]) -> list[Path]:
    return [path for path in paths if path.exists()]


def _content(path: Path, largest: int) -> bytes:
    try:
        if path.stat().st_size > largest:
            raise DataError(f'{path} is larger than {largest >> 20} MiB')
        return path.read_bytes()
    except OSError as error:
        raise DataError(f'{path} cannot be read: {error}') from error


def _json(path: Path) -> Any:
    try:
        return json.loads(_content(path, _LARGEST_JSON_BYTES))
    except json.JSONDecodeError as error:
        raise DataError(f'{path}:{error.lineno}: is no JSON: {error.msg}') from error
    except (ValueError, RecursionError) as error:
        raise DataError(f'{path}: is no JSON: {error}') from error
