# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The nodes: messages in, messages out. The only room that imports rclpy."""
