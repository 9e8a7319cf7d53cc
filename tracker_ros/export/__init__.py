# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Making model packages. Runs off the robot, or once on it; needs the `onnx` package."""
