# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`python -m tracker_ros.cli`, for who knows the Python but not where its commands are."""

import sys

from tracker_ros.cli import main

sys.exit(main())
