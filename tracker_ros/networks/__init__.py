# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The papers' networks in PyTorch, one file each, with the official tensor names.

Runs off the robot only: a robot needs the model packages that `tracker_ros.export` makes.
"""
