# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`tracker_ros doctor`: what is installed, what would run, and why not the rest."""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import os
import platform
import sys


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb."""
    parser = subparsers.add_parser(
        'doctor', help='versions of everything, what would run and why not the rest'
    )
    parser.set_defaults(run=run)


def run(_options: argparse.Namespace) -> int:
    """Print the report; 1 when not even the default model can run."""
    _versions()
    _ros()
    _cache()
    return _models()


def _versions() -> None:
    from tracker_ros import __version__

    print(f'tracker_ros     {__version__}')
    print(f'Python          {platform.python_version()}')
    print(f'system          {platform.machine()}, {platform.platform()}')
    print(f'CPU             {os.cpu_count()} cores')
    for name, module, remedy in (
        ('numpy', 'numpy', 'apt install python3-numpy'),
        ('OpenCV', 'cv2', 'apt install python3-opencv'),
        ('OpenVINO', 'openvino', 'pip install openvino'),
        ('ONNX Runtime', 'onnxruntime', 'pip install onnxruntime'),
        ('onnx', 'onnx', 'pip install onnx (only to fetch and import models)'),
    ):
        print(f'{name:15} {_version(module, remedy)}')
    for name, distributions, purpose in (
        ('TensorRT', ('tensorrt', 'tensorrt_rtx'), 'the fastest on NVIDIA GPUs'),
        ('PyTorch', ('torch',), 'to convert checkpoints, and one way to run models'),
    ):
        print(f'{name:15} {_installed(distributions, purpose)}')


def _version(module: str, remedy: str) -> str:
    try:
        return str(importlib.import_module(module).__version__)
    except ImportError as error:
        return f'missing: {error}. {remedy}'
    except Exception as error:  # a broken installation may raise anything while it loads
        return f'broken: {type(error).__name__}: {error}. {remedy}'


def _installed(distributions: tuple[str, ...], purpose: str) -> str:
    """Without importing it, which takes seconds or starts the GPU."""
    for name in distributions:
        try:
            return f'{importlib.metadata.version(name)} ({name})'
        except importlib.metadata.PackageNotFoundError:
            continue
    return f'not installed: {purpose}'


def _ros() -> None:
    try:
        import rclpy
        from rclpy.utilities import get_rmw_implementation_identifier

        from tracker_ros.ros.images import find_cv_bridge
    except ImportError as error:
        print(
            f'ROS             missing: {error}. Source ROS 2 (source /opt/ros/DISTRO/setup.bash)'
        )
        return
    distro = os.environ.get('ROS_DISTRO', 'distribution not named')
    print(f'ROS             rclpy from {os.path.dirname(rclpy.__file__)} ({distro})')
    print(f'DDS             {get_rmw_implementation_identifier()}')
    print(f'ROS domain      {os.environ.get("ROS_DOMAIN_ID", "0")}')
    print(f'DDS profile     {os.environ.get("FASTRTPS_DEFAULT_PROFILES_FILE", _NO_PROFILE)}')
    for package in ('vision_msgs.msg', 'tracker_ros_interfaces.srv'):
        try:
            importlib.import_module(package)
            print(f'{package.split(".")[0]:15} there')
        except ImportError as error:
            print(
                f'{package.split(".")[0]:15} missing: {error}. Build the workspace and source it'
            )
    print(f'cv_bridge       {find_cv_bridge().finding}')


_NO_PROFILE = 'none: large images may be lost between processes (docs/large_images.md)'


def _cache() -> None:
    from tracker_ros.resources import cache_path

    path = cache_path()
    parent = next(place for place in (path, *path.parents) if place.exists())
    writable = 'writable' if os.access(parent, os.W_OK) else 'NOT writable: set TRACKER_ROS_CACHE'
    print(f'cache           {path} ({writable})')


def _models() -> int:
    from tracker_ros.runtime import store
    from tracker_ros.runtime.engine import EngineError
    from tracker_ros.runtime.package import PackageError
    from tracker_ros.trackers import TrackerError, create

    runs = False
    print('models')
    for name in store.names():
        try:
            # An engine that would have to be built first must not be built to be told of.
            tracker = create(name, build='never')
            print(f'  {name:18} runs on {tracker.runtime}')
            runs = True
        except (PackageError, EngineError, TrackerError) as error:
            print(f'  {name:18} cannot run: {error}')
    if not runs:
        print('no model can run here', file=sys.stderr)
    return 0 if runs else 1
