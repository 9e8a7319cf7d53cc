# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Visual object tracking for ROS 2: a box on an image in, detections out."""

__version__ = '0.1.0'
