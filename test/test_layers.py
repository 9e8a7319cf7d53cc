# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A module imports only from its own layer and the layers below it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

PACKAGE = 'tracker_ros'
ROOT = Path(__file__).resolve().parent.parent
MODULES = sorted((ROOT / PACKAGE).rglob('*.py'))

# From the bottom to the top; the parts of one layer do not import each other.
LAYERS = (
    {'footage', 'geometry', 'lookahead', 'resources'},
    {'arguments', 'runtime'},
    {'trackers'},
    {'tracking'},
    {'evaluation'},
    {'ros'},
    {'console'},
    {'cli'},
)
# Work that is done off the robot. It imports what it likes from the layers; of the layers only the
# command imports it, and only when a verb is run that needs it.
OFF_ROBOT = {'export', 'networks', 'training'}

ROS_LAYERS = {'ros', 'console'}
ROS_PACKAGES = {
    'ament_index_python',
    'builtin_interfaces',
    'cv_bridge',
    'diagnostic_msgs',
    'geometry_msgs',
    'launch',
    'launch_ros',
    'lifecycle_msgs',
    'rcl_interfaces',
    'rclpy',
    'rosgraph_msgs',
    'sensor_msgs',
    'std_msgs',
    'std_srvs',
    'tracker_ros_interfaces',
    'vision_msgs',
}
TORCH_ENGINES = 'runtime/torch_*.py'
TORCH_PACKAGES = {'timm', 'torch', 'torchvision', 'transformers'}


@dataclass(frozen=True)
class Import:
    """One import: the full name of the module, and whether it happens when the file is loaded."""

    name: str
    line: int
    at_load: bool

    @property
    def package(self) -> str:
        return self.name.partition('.')[0]


@pytest.mark.parametrize('path', MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_of(path: Path) -> None:
    """One test a module, so that the report names it."""
    wrong = [
        f'{path.relative_to(ROOT)}:{found.line} imports {found.name}: {objection}'
        for found in imports_of(path)
        if (objection := objection_to(path, found)) is not None
    ]
    assert not wrong, '\n'.join(wrong)


@pytest.mark.parametrize(
    ('file', 'line'),
    [
        ('geometry.py', 'import rclpy'),
        ('geometry.py', 'from tracker_ros.runtime import store'),
        ('runtime/store.py', 'from ..trackers import create'),
        ('runtime/store.py', 'import torch.nn'),
        ('trackers/csrt.py', 'def f():\n    from sensor_msgs.msg import Image'),
        ('tracking/target.py', 'from tracker_ros import export'),
        ('evaluation/metrics.py', 'import tracker_ros.ros.node'),
        ('ros/node.py', 'from tracker_ros.cli import main'),
        ('cli/track.py', 'import rclpy'),
        ('cli/models.py', 'from tracker_ros.export import published'),
        ('cli/models.py', 'def f():\n    import torch'),
    ],
)
def test_a_wrong_import_is_noticed(file: str, line: str) -> None:
    path = ROOT / PACKAGE / file
    assert any(objection_to(path, found) for found in imports_in(ast.parse(line), path))


@pytest.mark.parametrize(
    ('file', 'line'),
    [
        ('trackers/csrt.py', 'from tracker_ros.geometry import Box'),
        ('trackers/csrt.py', 'from .contract import Tracker'),
        ('runtime/torch_engine.py', 'import torch'),
        ('runtime/torch_graph.py', 'import torch'),
        ('ros/node.py', 'import rclpy'),
        ('cli/init.py', 'def f():\n    import rclpy'),
        ('cli/models.py', 'def f():\n    from tracker_ros.export import published'),
        ('export/published.py', 'import torch'),
    ],
)
def test_a_right_import_is_accepted(file: str, line: str) -> None:
    path = ROOT / PACKAGE / file
    assert not any(objection_to(path, found) for found in imports_in(ast.parse(line), path))


def objection_to(path: Path, found: Import) -> str | None:
    """Return what is wrong with an import in the file `path`, or None."""
    importer = part_of(module_name(path))
    late_in_command = importer == 'cli' and not found.at_load
    if found.package in ROS_PACKAGES:
        if importer in ROS_LAYERS or late_in_command:
            return None
        return 'ROS belongs to the layer ros; the command may import it inside functions'
    if found.package in TORCH_PACKAGES:
        if importer in OFF_ROBOT or path.match(f'{PACKAGE}/{TORCH_ENGINES}'):
            return None
        return f'torch belongs to {", ".join(sorted(OFF_ROBOT))} and {TORCH_ENGINES}'
    if found.package != PACKAGE:
        return None

    imported = part_of(found.name)
    if imported in ('', importer) or importer in OFF_ROBOT:
        return None
    if imported in OFF_ROBOT:
        if late_in_command:
            return None
        return f'{imported} is for work off the robot; only the command may, inside functions'
    if level_of(imported) >= level_of(importer):
        return f'{imported} is not below {importer}'
    return None


def level_of(part: str) -> int:
    """Return the height of a part of the package; 0 is the bottom."""
    if part == '':
        return -1  # the package itself, which holds nothing but its version
    for level, parts in enumerate(LAYERS):
        if part in parts:
            return level
    raise AssertionError(
        f'{PACKAGE}.{part} has no layer yet: give it one in {Path(__file__).name}'
    )


def part_of(module: str) -> str:
    """Return the layer's name in the full name of a module: `tracker_ros.ros.node` gives `ros`."""
    part = [*module.split('.'), ''][1]
    return '' if part.startswith('__') else part


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix('').parts
    return '.'.join(parts[:-1] if parts[-1] == '__init__' else parts)


def imports_of(path: Path) -> list[Import]:
    return list(imports_in(ast.parse(path.read_text(encoding='utf-8')), path))


def imports_in(tree: ast.AST, path: Path, at_load: bool = True) -> Iterator[Import]:
    """Yield every import below `tree`, relative ones resolved."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, node.lineno, at_load)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ''
            if node.level:
                folder = path.relative_to(ROOT).parts[:-1]
                base = '.'.join([*folder[: len(folder) - node.level + 1], *filter(None, [base])])
            for alias in node.names:
                yield Import(f'{base}.{alias.name}', node.lineno, at_load)
        inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        yield from imports_in(node, path, at_load and not inside)
