# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Where models are found, and that only whole and right ones get there."""

import hashlib
import signal
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import yaml
from fakes import make_package, write_manifest

from tracker_ros.ros.processes import Child
from tracker_ros.runtime import store
from tracker_ros.runtime.package import PackageError, PublishedFile

WEIGHTS = bytes(range(256)) * 1000
SHA = hashlib.sha256(WEIGHTS).hexdigest()
pytestmark = pytest.mark.usefixtures('cache')


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """A folder of shipped models with one that needs the file net.onnx."""
    folder = tmp_path / 'shipped'
    monkeypatch.setattr(
        store, 'share_path', lambda *parts: tmp_path.joinpath('shipped', *parts[1:])
    )
    write_manifest(
        folder / 'm',
        {
            'name': 'm',
            'family': 'vittrack',
            'licence': 'Apache-2.0',
            'published': [
                {
                    'role': 'network',
                    'address': 'https://example.org/net.onnx',
                    'size_bytes': len(WEIGHTS),
                    'sha256': SHA,
                }
            ],
            'confidence': {'lost': 0.2, 'sure': 0.5},
        },
    )
    return folder


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / 'downloads' / 'anything.bin'
    path.parent.mkdir()
    path.write_bytes(WEIGHTS)
    return path


def assemble(package, files, folder):
    """Stands for the export: two files made of the weights."""
    for role in ('template', 'search'):
        (folder / f'{role}.onnx').write_bytes(role.encode() + files['network'].read_bytes())
    return {'template': 'template.onnx', 'search': 'search.onnx'}


def files_below(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob('*') if path.is_file())


def import_weights(path):
    for _, published in store.packages_of_file(path):
        store.keep(published, path)


# Finding


def test_the_shipped_models_are_known_by_name():
    assert {'csrt', 'vittrack', 'nanotrack_v2', 'nanotrack_v3'} <= set(store.names())
    assert store.find('csrt').name == 'csrt'


def test_a_model_without_weights_tells_how_to_get_them():
    assert not store.describe('vittrack').is_complete
    with pytest.raises(PackageError, match='tracker_ros models fetch vittrack'):
        store.find('vittrack')


def test_an_unknown_name_gets_the_known_ones():
    with pytest.raises(PackageError, match=r"no model 'vitrack'; known are .*csrt.*vittrack"):
        store.find('vitrack')


@pytest.mark.parametrize('name', ['', 'VitTrack', '.', '..', 'a b', 'naïve', 'm\n', '-m', '\0'])
def test_what_is_no_name_is_told_apart_from_a_path(name):
    with pytest.raises(PackageError, match='is no model name'):
        store.find(name)


def test_a_path_is_taken_as_such(tmp_path, monkeypatch):
    make_package(tmp_path / 'Own Model')
    assert store.find(str(tmp_path / 'Own Model')).name == 'Own Model'
    monkeypatch.chdir(tmp_path)
    assert store.find('./Own Model').name == 'Own Model'
    monkeypatch.setenv('HOME', str(tmp_path))
    assert store.find('~/Own Model').name == 'Own Model'
    with pytest.raises(PackageError, match='is no model package'):
        store.find('./other')


def test_a_damaged_model_is_not_handed_out(tmp_path):
    folder = make_package(tmp_path / 'm')
    (folder / 'template.onnx').write_bytes(b'damaged')
    with pytest.raises(PackageError, match='was changed or damaged'):
        store.find(str(folder))


# Importing


def test_imported_weights_become_a_package(shipped, weights, cache):
    assert not store.describe('m').is_complete
    matches = store.packages_of_file(weights)
    assert [(package.name, published.role) for package, published in matches] == [('m', 'network')]
    assert store.missing_files(store.describe('m')) == [matches[0][1]]
    import_weights(weights)
    assert store.missing_files(store.describe('m')) == []
    package = store.install('m', assemble)
    assert package.folder == cache / 'models' / 'm'
    assert store.find('m') == package
    assert store.names() == ['m']
    assert files_below(cache / 'models') == ['m/model.yaml', 'm/search.onnx', 'm/template.onnx']
    assert yaml.safe_load((shipped / 'm' / 'model.yaml').read_text()).get('graphs') is None


def test_importing_again_changes_nothing(shipped, weights, cache):
    import_weights(weights)
    store.install('m', assemble)
    before = {name: (cache / name).read_bytes() for name in files_below(cache)}
    import_weights(weights)
    store.install('m', assemble)
    assert {name: (cache / name).read_bytes() for name in files_below(cache)} == before


def test_an_unknown_file_is_not_imported(shipped, tmp_path):
    path = tmp_path / 'other.onnx'
    path.write_bytes(b'other')
    with pytest.raises(PackageError, match=r'other\.onnx \(sha256 .*none of the weights'):
        store.packages_of_file(path)
    with pytest.raises(PackageError, match=r'there is no file .*ghost'):
        store.packages_of_file(tmp_path / 'ghost')


def test_a_file_that_changes_while_it_is_imported_is_not_kept(shipped, weights, cache):
    ((_, published),) = store.packages_of_file(weights)
    weights.write_bytes(WEIGHTS[:-1])
    with pytest.raises(PackageError, match=f'expected {SHA}'):
        store.keep(published, weights)
    assert files_below(cache) == []


def test_a_package_cannot_be_made_of_missing_or_damaged_weights(shipped, weights, cache):
    with pytest.raises(PackageError, match=r'm still needs net\.onnx .https://example\.org'):
        store.install('m', assemble)
    import_weights(weights)
    (kept,) = (path for path in cache.rglob('net.onnx'))
    kept.write_bytes(b'damaged')
    with pytest.raises(PackageError, match=r'net\.onnx was damaged'):
        store.install('m', assemble)
    assert not (cache / 'models').exists()


def test_a_package_that_cannot_be_made_leaves_the_old_one(shipped, weights, cache):
    import_weights(weights)
    store.install('m', assemble)

    def fail(package, files, folder):
        assemble(package, files, folder)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        store.install('m', fail)
    store.find('m').verify()
    assert [path.name for path in (cache / 'models').iterdir()] == ['m']


def test_a_killed_installation_leaves_no_half_package(shipped, weights, cache):
    import_weights(weights)
    code = f"""
import os, signal
from pathlib import Path
from tracker_ros.runtime import store
store.share_path = lambda *parts: Path({str(shipped)!r}).joinpath(*parts[1:])
def assemble(package, files, folder):
    (folder / 'template.onnx').write_bytes(b'half of it')
    os.kill(os.getpid(), signal.SIGKILL)
store.install('m', assemble)
"""
    with Child('install', [sys.executable, '-c', code]) as child:
        assert child.wait(60) == -signal.SIGKILL
    assert not (cache / 'models' / 'm').exists()
    assert store.names() == ['m']
    with pytest.raises(PackageError, match='models fetch m'):
        store.find('m')
    store.install('m', assemble)
    store.find('m').verify()


# Fetching


@pytest.fixture
def server():
    """A server on this machine that answers each path in its own way."""

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self):
            server.asked.append(self.path)
            body = {'/long': WEIGHTS + b'more', '/wrong': WEIGHTS[::-1]}.get(self.path, WEIGHTS)
            if self.path == '/none':
                self.send_error(404)
                return
            if self.path == '/moved':
                self.send_response(302)
                self.send_header('Location', '/right')
                self.end_headers()
                return
            self.send_response(200)
            if self.path == '/chunks':
                self.send_header('Transfer-Encoding', 'chunked')
                self.end_headers()
                self.wfile.write(b'1000\r\nends in the middle')
            else:
                self.send_header('Content-Length', str(len(body)))
                self.end_headers()
                self.wfile.write(body[:1000] if self.path == '/short' else body)
            self.close_connection = True

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(('127.0.0.1', 0), Answers)
    server.asked = []
    thread = threading.Thread(target=server.serve_forever, kwargs={'poll_interval': 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def published(server, path):
    return PublishedFile(
        'network', f'http://127.0.0.1:{server.server_port}/{path}', len(WEIGHTS), SHA
    )


def test_a_fetched_file_is_the_right_one(server, cache):
    steps = []
    kept = store.fetch(published(server, 'right'), lambda done, total: steps.append((done, total)))
    assert kept.read_bytes() == WEIGHTS
    assert kept.is_relative_to(cache)
    assert steps[-1] == (len(WEIGHTS), len(WEIGHTS))
    assert steps == sorted(steps)


def test_a_file_that_is_here_is_not_fetched_again(server):
    assert store.fetch(published(server, 'right')) == store.fetch(published(server, 'right'))
    assert server.asked == ['/right']


def test_a_file_that_was_damaged_is_fetched_again(server):
    kept = store.fetch(published(server, 'right'))
    kept.write_bytes(b'damaged')
    assert store.fetch(published(server, 'right')).read_bytes() == WEIGHTS


def test_a_redirection_is_followed(server):
    assert store.fetch(published(server, 'moved')).read_bytes() == WEIGHTS


@pytest.mark.parametrize(
    ('path', 'words'),
    [
        ('wrong', r'/wrong gave a file with sha256 [0-9a-f]{64}, expected .*nothing was kept'),
        ('long', f'/long is larger than the {len(WEIGHTS)} bytes expected'),
        ('short', f'/short ended after 1000 of {len(WEIGHTS)} bytes'),
        ('chunks', r'cannot download .*/chunks: .*tracker_ros models import chunks'),
        ('none', r'cannot download .*/none: .*404.*tracker_ros models import none'),
    ],
)
def test_a_failed_download_says_why_and_leaves_nothing(server, cache, path, words):
    with pytest.raises(PackageError, match=words):
        store.fetch(published(server, path))
    assert files_below(cache) == []


def test_a_server_that_is_not_there_is_named(server, cache):
    file = published(server, 'right')
    server.shutdown()
    server.server_close()
    with pytest.raises(PackageError, match=r'cannot download http://127\.0\.0\.1:.*[Rr]efused'):
        store.fetch(file)
    assert files_below(cache) == []


def test_a_cache_in_the_place_of_a_file_is_named(server, cache):
    cache.write_text('not a folder')
    with pytest.raises(PackageError, match='cannot download'):
        store.fetch(published(server, 'right'))
