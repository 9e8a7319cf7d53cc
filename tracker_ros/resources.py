# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Where the files that come with the package lie, and where the user's own files go."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def share_path(*parts: str) -> Path:
    """A file or folder that is shipped with the package, such as ``config/track.yaml``.

    Looks beside the sources first (a checkout, an editable or symlinked install), then in the
    share folder of the ROS workspace or Python environment it was installed to.

    Raises FileNotFoundError naming every place that was tried.
    """
    tried = []
    for root in _share_roots():
        path = root.joinpath(*parts)
        if path.exists():
            return path
        tried.append(str(path))
    raise FileNotFoundError(
        f'{"/".join(parts)} is not installed; looked for {", ".join(tried)}. '
        'Install the package again (colcon build, or make setup).'
    )


def cache_path(*parts: str) -> Path:
    """A path below the user's cache folder; nothing is created.

    TRACKER_ROS_CACHE names the folder itself, otherwise it is ``tracker_ros`` in
    XDG_CACHE_HOME or ``~/.cache``.
    """
    own = os.environ.get('TRACKER_ROS_CACHE')
    if own:
        return Path(own).joinpath(*parts)
    base = os.environ.get('XDG_CACHE_HOME') or str(Path.home() / '.cache')
    return Path(base).joinpath('tracker_ros', *parts)


def _share_roots() -> list[Path]:
    checkout = Path(__file__).resolve().parent.parent
    roots = [checkout] if (checkout / 'package.xml').is_file() else []
    prefixes = os.environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep)
    for prefix in [*filter(None, prefixes), sys.prefix]:
        roots.append(Path(prefix) / 'share' / 'tracker_ros')
    return roots
