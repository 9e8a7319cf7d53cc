# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Making model packages. Runs off the robot, or once on it; needs the `onnx` package."""

# ImageNet statistics of RGB in [0, 1], which most vision transformers were trained with.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
