# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Training networks. Runs off the robot; needs PyTorch."""
