# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What the package says about itself in several places is the same in all of them."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

import tracker_ros

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted(
    path
    for pattern in ('*.py', '*/**/*.py')
    for path in ROOT.glob(pattern)
    if not path.relative_to(ROOT).parts[0].startswith('.')
    and path.relative_to(ROOT).parts[0] not in ('build', 'install', 'log', 'out')
)
HEADER = '# Copyright 2026 the tracker_ros authors\n# SPDX-License-Identifier: Apache-2.0\n'
COMMANDS = {
    'tracker_ros': 'tracker_ros.cli:main',
    'tracker_node': 'tracker_ros.ros.commands:tracker_node',
    'video_source': 'tracker_ros.ros.commands:video_source',
}

# Imported where it is installed; the error of its absence says what to install. ml_dtypes comes
# with onnx.
OPTIONAL = {
    'mcap',
    'ml_dtypes',
    'onnx',
    'onnxruntime',
    'openvino',
    'ray',
    'tensorrt',
    'tokenizers',
    'torch',
    'trax',
}
# Where the rosdep key is not the name that is imported.
ROSDEP_KEYS = {
    'cv2': 'python3-opencv',
    'numpy': 'python3-numpy',
    'tqdm': 'python3-tqdm',
    'yaml': 'python3-yaml',
}
# Come with rclpy, which depends on them.
WITH_RCLPY = {'builtin_interfaces', 'lifecycle_msgs', 'rcl_interfaces', 'rosgraph_msgs'}


@pytest.fixture(scope='module')
def described_by_setup() -> dict[str, str]:
    names = ('name', 'version', 'license', 'maintainer', 'maintainer-email')
    done = subprocess.run(
        [sys.executable, 'setup.py', '--quiet', *(f'--{name}' for name in names)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return dict(zip(names, done.stdout.splitlines()[-len(names) :], strict=True))


def test_setup_and_package_xml_agree(described_by_setup: dict[str, str]) -> None:
    manifest = package_xml(ROOT)
    maintainer = manifest.find('maintainer')
    assert described_by_setup == {
        'name': manifest.findtext('name'),
        'version': manifest.findtext('version'),
        'license': manifest.findtext('license'),
        'maintainer': maintainer.text,
        'maintainer-email': maintainer.get('email'),
    }


def test_version_is_everywhere_the_same() -> None:
    changelog = (ROOT / 'CHANGELOG.rst').read_text(encoding='utf-8')
    newest = re.search(r'^(\d+\.\d+\.\d+)( \(.*\))?\n-{5,}$', changelog, re.MULTILINE)
    assert newest is not None, 'CHANGELOG.rst has no heading like `0.1.0 (2026-01-31)`'
    assert {
        'package.xml': package_xml(ROOT).findtext('version'),
        'tracker_ros_interfaces': package_xml(ROOT / 'tracker_ros_interfaces').findtext('version'),
        'CHANGELOG.rst': newest.group(1),
    } == dict.fromkeys(
        ('package.xml', 'tracker_ros_interfaces', 'CHANGELOG.rst'), tracker_ros.__version__
    )


@pytest.mark.parametrize('path', SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_source_names_its_licence(path: Path) -> None:
    text = path.read_text(encoding='utf-8')
    assert re.sub(r'\A#!.*\n', '', text).startswith(HEADER)


def test_setup_declares_the_commands() -> None:
    setup = (ROOT / 'setup.py').read_text(encoding='utf-8')
    assert dict(re.findall(r"'(\w+) = ([\w.]+:\w+)'", setup)) == COMMANDS


@pytest.mark.parametrize('target', COMMANDS.values())
def test_command_can_be_called(target: str) -> None:
    module, function = target.split(':')
    assert callable(getattr(importlib.import_module(module), function))


def test_package_xml_declares_what_is_imported() -> None:
    declared = {entry.text for entry in package_xml(ROOT) if entry.tag.endswith('depend')}
    imported = {name for folder in ('tracker_ros', 'launch') for name in imported_from(folder)}
    known = OPTIONAL | WITH_RCLPY | {'tracker_ros'} | set(sys.stdlib_module_names)
    needed = {ROSDEP_KEYS.get(name, name) for name in imported - known}
    assert needed <= declared, f'package.xml does not declare {sorted(needed - declared)}'


def test_setup_installs_what_the_package_reads(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, 'setup.py', '--quiet', 'install_data', '--install-dir', str(tmp_path)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    share = tmp_path / 'share'
    expected = [
        path.relative_to(ROOT)
        for pattern in (
            'package.xml',
            'launch/*.*',
            'config/*.*',
            'models/*/*',
            'benchmarks/published.yaml',
        )
        for path in ROOT.glob(pattern)
    ]
    missing = [path for path in expected if not (share / 'tracker_ros' / path).is_file()]
    assert not missing
    assert (share / 'ament_index/resource_index/packages/tracker_ros').is_file()


def package_xml(folder: Path) -> ElementTree.Element:
    return ElementTree.parse(folder / 'package.xml').getroot()


def imported_from(folder: str) -> set[str]:
    """Return the top-level packages that the Python files below a folder import."""
    names: set[str] = set()
    for path in (ROOT / folder).rglob('*.py'):
        for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
            if isinstance(node, ast.Import):
                names.update(alias.name.partition('.')[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module.partition('.')[0])
    return names


def test_every_folder_of_modules_is_a_package() -> None:
    """A folder without __init__.py works from a checkout and is left out by an installation."""
    folders = {path.parent for path in (ROOT / 'tracker_ros').rglob('*.py')}
    assert [folder for folder in sorted(folders) if not (folder / '__init__.py').is_file()] == []
