# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""model.yaml: what is in it is found, what is wrong with it is named."""

import copy
import re

import pytest
import yaml
from fakes import make_package, write_manifest

from tracker_ros.resources import share_path
from tracker_ros.runtime.package import PackageError, read_package, sha256_of
from tracker_ros.tracking.confidence import Calibration

SHA = 'a' * 64
GRAPHS = {
    'template': {'file': 'template.onnx', 'sha256': SHA},
    'search': {'file': 'search.onnx', 'sha256': SHA},
}
PUBLISHED = {
    'role': 'network',
    'address': 'https://example.org/a/net.onnx',
    'size_bytes': 10,
    'sha256': SHA,
}
WHOLE = {
    'name': 'm',
    'family': 'vittrack',
    'summary': 'in one line',
    'licence': 'Apache-2.0',
    'source': 'https://example.org',
    'takes_text': True,
    'published': [PUBLISHED],
    'graphs': GRAPHS,
    'inputs': {'search_px': 64},
    'constants': {'score_map': 16},
    'confidence': {'lost': 0.2, 'sure': 1},
}
REMOVED = object()


def changed(path, value):
    """A copy of WHOLE with the entry at `path` replaced, or taken out."""
    manifest = copy.deepcopy(WHOLE)
    *way, last = path
    place = manifest
    for step in way:
        place = place[step]
    if value is REMOVED:
        del place[last]
    else:
        place[last] = value
    return manifest


def test_everything_in_it_is_read(tmp_path):
    write_manifest(tmp_path, WHOLE)
    package = read_package(tmp_path)
    assert (package.name, package.family, package.licence) == ('m', 'vittrack', 'Apache-2.0')
    assert (package.summary, package.source) == ('in one line', 'https://example.org')
    assert package.takes_text is True
    assert package.published[0].name == 'net.onnx'
    assert package.graphs['search'].path == tmp_path / 'search.onnx'
    assert package.inputs == {'search_px': 64}
    assert package.constants == {'score_map': 16}
    assert package.confidence == {'lost': 0.2, 'sure': 1.0}
    assert package.manifest == WHOLE


def test_most_of_it_may_be_left_out(tmp_path):
    write_manifest(
        tmp_path, {key: WHOLE[key] for key in ('name', 'family', 'licence', 'confidence')}
    )
    package = read_package(tmp_path)
    assert package.is_complete, 'it needs no weights'
    assert not package.takes_text
    assert package.graphs == {}


def test_published_weights_alone_do_not_run(tmp_path):
    write_manifest(tmp_path, changed(['graphs'], REMOVED))
    assert not read_package(tmp_path).is_complete


@pytest.mark.parametrize(
    ('path', 'value', 'words'),
    [
        (['name'], REMOVED, "'name' is missing"),
        (['family'], REMOVED, "'family' is missing"),
        (['licence'], REMOVED, "'licence' is missing"),
        (['confidence'], REMOVED, "'confidence' is missing"),
        (['graphs'], None, "'graphs' is missing"),
        (['name'], 3, "'name' must be text, not 3"),
        (['takes_text'], 'yes', "'takes_text' must be true or false, not 'yes'"),
        (['published'], {}, "'published' must be a list, not {}"),
        (['published', 0], 'net.onnx', "published must be a mapping, not 'net.onnx'"),
        (['published', 0, 'role'], REMOVED, "'role' is missing"),
        (['published', 0, 'size_bytes'], '1 MB', "must be a whole number, not '1 MB'"),
        (['published', 0, 'size_bytes'], True, "'size_bytes' must be a whole number, not True"),
        (['published', 0, 'size_bytes'], 0, "'size_bytes' must be above 0, not 0"),
        (['published', 0, 'address'], 'http://example.org/a', 'http://example.org/a'),
        (['published', 0, 'address'], 'file:///etc/passwd', 'must be https'),
        (['published', 0, 'address'], 'https://example.org/', 'must end in a file name'),
        (['published', 0, 'address'], 'https://example.org/..', 'must end in a file name'),
        (['published', 0, 'sha256'], 'abc', "'abc' is no sha256"),
        (['published', 0, 'sha256'], 'A' * 64, 'is no sha256'),
        (['graphs'], [], "'graphs' must be a mapping, not []"),
        (['graphs', 'search'], REMOVED, "'graphs' must hold template and search"),
        (['graphs', 'head'], {}, "the entry 'file' is missing"),
        (['graphs', '../head'], {}, "the names in 'graphs' must be words"),
        (['graphs', 3], {}, "the names in 'graphs' must be words"),
        (['graphs', 'search'], 'search.onnx', 'the graph search must be a mapping'),
        (['graphs', 'search', 'file'], REMOVED, "'file' is missing"),
        (['graphs', 'search', 'sha256'], 'z' * 64, 'is no sha256'),
        (['graphs', 'search', 'file'], '../search.onnx', "'../search.onnx' must lie beside"),
        (['graphs', 'search', 'file'], '/etc/passwd', "'/etc/passwd' must lie beside"),
        (['graphs', 'search', 'file'], 'sub/search.onnx', 'must lie beside'),
        (['graphs', 'search', 'file'], '..', "'..' must lie beside"),
        (['graphs', 'search', 'file'], '', "'' must lie beside"),
        (['inputs'], 'large', "'inputs' must be a mapping, not 'large'"),
        (['constants'], 7, "'constants' must be a mapping, not 7"),
        (['confidence', 'lost'], REMOVED, "'lost' is missing"),
        (['confidence', 'lost'], 'low', "'lost' must be a number, not 'low'"),
        (['confidence', 'lost'], True, "'lost' must be a whole number, not True"),
        (['confidence', 'lost'], -0.1, 'confidence needs 0 <= lost <= sure <= 1'),
        (['confidence', 'sure'], 1.1, 'confidence needs 0 <= lost <= sure <= 1'),
        (['confidence', 'sure'], 0.1, 'confidence needs 0 <= lost <= sure <= 1'),
        (['confidence', 'sure'], float('nan'), 'confidence needs 0 <= lost <= sure <= 1'),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_its_file(tmp_path, path, value, words):
    write_manifest(tmp_path, changed(path, value))
    with pytest.raises(PackageError, match=re.escape(words)) as caught:
        read_package(tmp_path)
    assert str(tmp_path / 'model.yaml') in str(caught.value)


@pytest.mark.parametrize(
    ('text', 'words'),
    [
        ('name: [', 'is not readable YAML'),
        ('name: !!python/object/apply:os.system [true]', 'is not readable YAML'),
        ('released: 2026-99-99', 'is not readable YAML'),
        ('[' * 5000, 'is not readable YAML'),
        ('- a list', 'must hold a mapping, not a list'),
        ('', 'must hold a mapping, not a NoneType'),
        ('# ' + 'x' * (1 << 20), 'larger than 1 MiB'),
    ],
)
def test_what_is_no_manifest_is_named(tmp_path, text, words):
    (tmp_path / 'model.yaml').write_text(text)
    with pytest.raises(PackageError, match=re.escape(words)) as caught:
        read_package(tmp_path)
    assert str(tmp_path / 'model.yaml') in str(caught.value)


def test_bytes_that_are_no_text_are_named(tmp_path):
    (tmp_path / 'model.yaml').write_bytes(b'name: \xff\xfe')
    with pytest.raises(PackageError, match=r'model\.yaml is not readable YAML'):
        read_package(tmp_path)


def test_aliases_that_stand_for_endless_text_are_not_written_out(tmp_path):
    levels = ''.join(f'l{n}: &l{n} [{", ".join([f"*l{n - 1}"] * 9)}]\n' for n in range(1, 12))
    (tmp_path / 'model.yaml').write_text(f'l0: &l0 [x, x, x]\n{levels}name: *l11\n')
    with pytest.raises(PackageError, match="'name' must be text") as caught:
        read_package(tmp_path)
    assert len(str(caught.value)) < 2000


def test_a_folder_without_manifest_is_named(tmp_path):
    with pytest.raises(PackageError, match=rf'{tmp_path}/m is no model package'):
        read_package(tmp_path / 'm')


def test_graphs_are_checked_against_their_sha256(tmp_path):
    folder = make_package(tmp_path / 'm')
    package = read_package(folder)
    package.verify()
    path = folder / 'search.onnx'
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(PackageError, match=rf'{path} has sha256 {sha256_of(path)}'):
        package.verify()
    path.unlink()
    with pytest.raises(PackageError, match=rf'{path} is missing; import or fetch m again'):
        package.verify()


@pytest.mark.parametrize(
    'path', sorted(share_path('models').glob('*/model.yaml')), ids=lambda it: it.parent.name
)
def test_the_shipped_ones_are_in_order(path):
    package = read_package(path.parent)
    assert package.name == path.parent.name
    assert package.summary
    assert package.licence
    if package.graphs:
        # Weights that come with the sources are the project's own.
        package.verify()
        assert package.manifest['training']
        assert '## Data' in (path.parent / 'card.md').read_text()
    else:
        assert package.source.startswith('https://')
    written = yaml.safe_load(path.read_text()).get('confidence', {})
    assert {key: written[key] for key in package.confidence} == package.confidence
    assert Calibration.of(package).is_fitted == ('calibration' in written)
