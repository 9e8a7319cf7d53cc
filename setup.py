# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Build of the package, for colcon and for pip."""

import re
from pathlib import Path

from setuptools import find_packages, setup

PACKAGE = 'tracker_ros'
ROOT = Path(__file__).resolve().parent
SHARE = Path('share') / PACKAGE


def version() -> str:
    """Return the version, read without importing the package, whose imports may be absent here."""
    text = (ROOT / PACKAGE / '__init__.py').read_text(encoding='utf-8')
    found = re.search(r"^__version__ = '([^']+)'$", text, re.MULTILINE)
    if found is None:
        raise RuntimeError(f"{PACKAGE}/__init__.py has no line `__version__ = '...'`")
    return found.group(1)


def shared(*patterns: str) -> list[tuple[str, list[str]]]:
    """Return (install folder, files) for the files that match; their folders are kept."""
    folders: dict[str, list[str]] = {}
    for pattern in patterns:
        for path in sorted(ROOT.glob(pattern)):
            if path.is_file():
                source = path.relative_to(ROOT)
                folders.setdefault(str(SHARE / source.parent), []).append(str(source))
    return list(folders.items())


setup(
    name=PACKAGE,
    version=version(),
    description='Visual object tracking for ROS 2: a box on an image in, detections out.',
    author='the tracker_ros authors',
    maintainer='tracker_ros maintainers',
    maintainer_email='maintainers@example.com',
    license='Apache-2.0',
    python_requires='>=3.10',
    packages=find_packages(include=[PACKAGE, f'{PACKAGE}.*']),
    data_files=[
        ('share/ament_index/resource_index/packages', [f'resource/{PACKAGE}']),
        *shared('package.xml', 'launch/*', 'config/*', 'models/*/*'),
        *shared('benchmarks/published.yaml'),
    ],
    install_requires=['setuptools'],
    zip_safe=False,
    extras_require={'language': ['tokenizers'], 'test': ['pytest']},
    entry_points={
        'console_scripts': [
            'tracker_ros = tracker_ros.cli:main',
            'tracker_node = tracker_ros.ros.commands:tracker_node',
            'video_source = tracker_ros.ros.commands:video_source',
        ],
    },
)
