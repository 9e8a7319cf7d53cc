# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The tracker for one camera: `ros2 launch tracker_ros track.launch.py image:=/camera/image_raw`.

Tuning stays in the parameter file; the arguments here only say where things are.
"""

from __future__ import annotations

import os

from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable
from launch.conditions import IfCondition
from launch.substitutions import EnvironmentVariable, LaunchConfiguration
from launch_ros.actions import Node

from tracker_ros.ros.processes import MALLOC_SETTINGS

SHARE = get_package_share_directory('tracker_ros')

ARGUMENTS = {
    'namespace': ('', 'namespace of all nodes; one per camera'),
    'image': ('image_raw', 'image topic of the camera, without /compressed'),
    'camera_info': ('camera_info', 'camera info topic of the camera'),
    'candidates': (
        '',
        "topic of a detector's Detection2DArray, for hand-over; empty: tracker/candidates",
    ),
    'image_transport': ('', 'raw or compressed; empty: as in params_file'),
    'model': (
        '',
        'a name of `tracker_ros models list`, or the path of a package folder; empty: as in '
        'params_file',
    ),
    'max_targets': ('', 'targets followed at once; empty: as in params_file'),
    'runtime': ('', 'auto or one of config/track.yaml; empty: as in params_file'),
    'params_file': (os.path.join(SHARE, 'config', 'track.yaml'), 'parameters of the node'),
    'use_sim_time': ('false', 'take the time from /clock'),
    'log_level': ('info', 'debug, info, warn or error'),
    'rviz': ('false', 'open RViz with the debug image'),
}

# Without them Fast DDS loses images above 512 KB, and glibc gives every frame back to the
# kernel; see docs/large_images.md. What the user has set already stays.
ENVIRONMENT = {
    'FASTRTPS_DEFAULT_PROFILES_FILE': os.path.join(SHARE, 'config', 'fastdds.xml'),
    **MALLOC_SETTINGS,
}


def _tracker(context: LaunchContext) -> list[Node]:
    """The node; only arguments that were given come before the parameter file."""
    given = {name: context.perform_substitution(LaunchConfiguration(name)) for name in ARGUMENTS}
    overrides: dict[str, object] = {'use_sim_time': given['use_sim_time'].lower() == 'true'}
    for name in ('model', 'runtime', 'image_transport'):
        if given[name]:
            overrides[name] = given[name]
    if given['max_targets']:
        overrides['max_targets'] = int(given['max_targets'])
    remappings = [
        ('image_raw', given['image']),
        ('image_raw/compressed', f'{given["image"]}/compressed'),
        ('camera_info', given['camera_info']),
    ]
    if given['candidates']:
        remappings.append(('~/candidates', given['candidates']))
    return [
        Node(
            package='tracker_ros',
            executable='tracker_node',
            name='tracker',
            namespace=given['namespace'],
            output='screen',
            parameters=[given['params_file'], overrides],
            remappings=remappings,
            ros_arguments=['--log-level', given['log_level']],
        )
    ]


def generate_launch_description() -> LaunchDescription:
    arguments = {name: LaunchConfiguration(name) for name in ARGUMENTS}
    return LaunchDescription(
        [
            *(
                DeclareLaunchArgument(name, default_value=default, description=words)
                for name, (default, words) in ARGUMENTS.items()
            ),
            *(
                SetEnvironmentVariable(name, EnvironmentVariable(name, default_value=value))
                for name, value in ENVIRONMENT.items()
            ),
            OpaqueFunction(function=_tracker),
            Node(
                condition=IfCondition(arguments['rviz']),
                package='rviz2',
                executable='rviz2',
                name='rviz2',
                namespace=arguments['namespace'],
                arguments=['-d', os.path.join(SHARE, 'config', 'track.rviz')],
                # The file names the topics of an un-namespaced tracker.
                remappings=[
                    ('/tracker/debug_image', 'tracker/debug_image'),
                    ('/tracker/detections', 'tracker/detections'),
                ],
            ),
        ]
    )
