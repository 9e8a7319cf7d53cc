# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Model packages, where they are kept, and the inference libraries that run them."""
