# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""How good a tracker is: annotated sequences, metrics and one-pass runs."""
