# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A video in place of a camera: `ros2 launch tracker_ros demo.launch.py source:=clip.mp4`.

Then say what to follow: `tracker_ros init x,y,w,h`.
"""

from __future__ import annotations

import os

from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

SHARE = get_package_share_directory('tracker_ros')

ARGUMENTS = {
    'namespace': ('', 'namespace of all nodes'),
    'source': (None, 'video file, folder of images, camera index or mcap bag'),
    'rate': ('0.0', 'frames per second; 0: as recorded'),
    'loop': ('true', 'start again at the end'),
    'model': ('', 'a name of `tracker_ros models list`; empty: as in config/track.yaml'),
    'max_targets': ('', 'targets followed at once; empty: as in config/track.yaml'),
    'rviz': ('true', 'open RViz with the debug image'),
}


def generate_launch_description() -> LaunchDescription:
    arguments = {name: LaunchConfiguration(name) for name in ARGUMENTS}
    return LaunchDescription(
        [
            *(
                DeclareLaunchArgument(name, default_value=default, description=words)
                for name, (default, words) in ARGUMENTS.items()
            ),
            IncludeLaunchDescription(
                PythonLaunchDescriptionSource(os.path.join(SHARE, 'launch', 'track.launch.py')),
                launch_arguments={
                    name: arguments[name] for name in ('namespace', 'model', 'max_targets', 'rviz')
                }.items(),
            ),
            Node(
                package='tracker_ros',
                executable='video_source',
                name='video_source',
                namespace=arguments['namespace'],
                output='screen',
                parameters=[
                    {
                        'source': ParameterValue(arguments['source'], value_type=str),
                        'rate_hz': ParameterValue(arguments['rate'], value_type=float),
                        'loop': ParameterValue(arguments['loop'], value_type=bool),
                    }
                ],
            ),
        ]
    )
