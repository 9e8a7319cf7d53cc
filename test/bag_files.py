# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Writes small bags, as a recorder would."""

from mcap.writer import Writer
from rclpy.serialization import serialize_message


def write_bag(path, messages, encoding='cdr'):
    """Writes an .mcap of (topic, time in s, message) in the given order."""
    with path.open('wb') as file:
        writer = Writer(file)
        writer.start()
        channels = {}
        for topic, time_s, message in messages:
            name = f'sensor_msgs/msg/{type(message).__name__}'
            if topic not in channels:
                schema = writer.register_schema(name, 'ros2msg', b'')
                channels[topic] = writer.register_channel(topic, encoding, schema)
            stamp = int(time_s * 1e9)
            writer.add_message(channels[topic], stamp, serialize_message(message), stamp)
        writer.finish()
    return path
