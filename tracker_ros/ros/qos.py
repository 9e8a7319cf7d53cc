# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Subscriptions whose quality of service follows the publisher's, and words for when none comes.

A best-effort publisher feeds no reliable subscription, and no error says so: the subscriber just
waits. Here the subscription adapts instead.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from copy import copy
from enum import IntEnum
from typing import Any

from rcl_interfaces.msg import IntegerRange, ParameterDescriptor
from rclpy.callback_groups import CallbackGroup
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.topic_endpoint_info import TopicEndpointInfo

NEWEST_FRAME = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=1,
    reliability=ReliabilityPolicy.BEST_EFFORT,
    durability=DurabilityPolicy.VOLATILE,
)
"""What a camera's consumer wants: the newest frame, from any publisher, and none repeated."""

_MATCHED = 'best_available'
"""ROS's own word for a policy that is taken from the other side."""
_POLICIES: dict[str, type[IntEnum]] = {
    'reliability': ReliabilityPolicy,
    'durability': DurabilityPolicy,
    'history': HistoryPolicy,
}
_ALLOWED = {
    'reliability': ('reliable', 'best_effort', _MATCHED),
    'durability': ('volatile', 'transient_local', _MATCHED),
    'history': ('keep_last', 'keep_all'),
}
_IMAGE_TYPES = ('sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage')


class QosOverrideError(ValueError):
    """A `qos_overrides` parameter has a value that is not one of its policy's."""


def match_publishers(infos: Iterable[TopicEndpointInfo], default: QoSProfile) -> QoSProfile:
    """The best profile that receives from every one of the publishers.

    Reliable only if all of them are. Transient local only if all of them are both, so that a
    still image published before the subscription existed arrives as well; otherwise volatile.
    History and depth, which are the receiver's own matter, stay as in `default`.

    Returns:
        A new profile; a copy of `default` where there are no publishers.
    """
    offered = [info.qos_profile for info in infos]
    profile = copy(default)
    if not offered:
        return profile
    reliable = all(qos.reliability == ReliabilityPolicy.RELIABLE for qos in offered)
    latched = reliable and all(
        qos.durability == DurabilityPolicy.TRANSIENT_LOCAL for qos in offered
    )
    profile.reliability = ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT
    profile.durability = DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE
    return profile


def describe(info: TopicEndpointInfo) -> str:
    """A publisher or subscription in words: `/camera/driver (best effort, volatile)`."""
    if not info.node_name or info.node_name.startswith('_NODE_NAME_UNKNOWN_'):
        name = 'a program which is no ROS node'
    else:
        name = f'{info.node_namespace.rstrip("/")}/{info.node_name}'
    return f'{name} ({_in_words(info.qos_profile)})'


class MatchedSubscription:
    """A subscription that fits itself to whoever publishes its topic.

    It exists from the start, best effort, which every publisher can feed. A timer then compares
    it with the publishers in the graph, and it is made anew where another profile receives more.
    The parameters `qos_overrides.TOPIC.subscription.{reliability,durability,history,depth}` are
    declared (TOPIC: the resolved name); a policy they name is kept, `best_available` is matched.

    Attributes:
        topic: the resolved name.
        type_name: such as 'sensor_msgs/msg/Image'.
        qos: the profile in use.
        silent_after_s: after how long without a message `silence_warning` speaks.
    """

    def __init__(
        self,
        node: Node,
        message_type: type,
        topic: str,
        callback: Callable[[Any], None],
        callback_group: CallbackGroup | None = None,
        *,
        raw: bool = False,
        check_period_s: float = 0.5,
        silent_after_s: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Subscribes.

        Args:
            node: the node which gets the subscription, the timer and the parameters.
            message_type: the message's class.
            topic: as given to create_subscription, before it is resolved.
            callback: called with each message.
            callback_group: of the callback and of the check, which then never run together.
            raw: whether the callback gets the serialised bytes.
            check_period_s: how often the publishers are looked at.
            silent_after_s: after how long without a message `silence_warning` speaks.
            clock: seconds; the time base of `silence_warning`.

        Raises:
            QosOverrideError: a `qos_overrides` parameter has an impossible value.
        """
        self.topic = node.resolve_topic_name(topic)
        self.type_name = _name_of_type(message_type)
        self._node = node
        self._requested_topic = topic
        self._message_type = message_type
        self._callback = callback
        self._callback_group = callback_group
        self._raw = raw
        self._clock = clock
        self.silent_after_s = silent_after_s
        self._last_heard_s = clock()
        self._warned = False
        self._overrides = _declare_overrides(node, self.topic)
        self.qos = self._overridden(NEWEST_FRAME)
        self._subscription = self._subscribe()
        # Steady, because simulated time may stand still or not have begun.
        self._timer = node.create_timer(
            check_period_s,
            self.check,
            callback_group=callback_group,
            clock=Clock(clock_type=ClockType.STEADY_TIME),
        )

    def publishers(self) -> list[TopicEndpointInfo]:
        """Who publishes the topic with this message type now, as far as discovery knows."""
        return [info for info in self._endpoints() if info.topic_type == self.type_name]

    def check(self) -> bool:
        """Fits the subscription to the publishers; tells whether it was made anew."""
        publishers = self.publishers()
        if not publishers:
            return False
        wanted = self._overridden(match_publishers(publishers, NEWEST_FRAME))
        if wanted == self.qos:
            return False
        self._node.destroy_subscription(self._subscription)
        self.qos = wanted
        self._subscription = self._subscribe()
        return True

    def silence_warning(self, now: float | None = None) -> str | None:
        """What to tell the user when nothing came for too long; None when there is nothing to say.

        It speaks once, and again only after a message came in between.

        Args:
            now: seconds on the clock of the constructor; None reads it.
        """
        now = self._clock() if now is None else now
        silence_s = now - self._last_heard_s
        if self._warned or silence_s < self.silent_after_s:
            return None
        self._warned = True
        return f"nothing came on '{self.topic}' for {silence_s:.1f} s: {self._reason()}"

    def destroy(self) -> None:
        """Removes subscription and timer from the node; the parameters stay."""
        self._node.destroy_timer(self._timer)
        self._node.destroy_subscription(self._subscription)

    def _subscribe(self) -> Any:
        return self._node.create_subscription(
            self._message_type,
            self._requested_topic,
            self._heard,
            self.qos,
            callback_group=self._callback_group,
            # Incompatible publishers are matched by the next check or told by silence_warning.
            event_callbacks=SubscriptionEventCallbacks(use_default_callbacks=False),
            raw=self._raw,
        )

    def _heard(self, message: Any) -> None:
        self._last_heard_s = self._clock()
        self._warned = False
        self._callback(message)

    def _overridden(self, profile: QoSProfile) -> QoSProfile:
        profile = copy(profile)
        for policy, value in self._overrides.items():
            setattr(profile, policy, value)
        return profile

    def _endpoints(self) -> list[TopicEndpointInfo]:
        return list(self._node.get_publishers_info_by_topic(self.topic))

    def _reason(self) -> str:
        endpoints = self._endpoints()
        publishers = [info for info in endpoints if info.topic_type == self.type_name]
        others = [info for info in endpoints if info.topic_type != self.type_name]
        unheard = [info for info in publishers if not _compatible(info.qos_profile, self.qos)]
        if unheard:
            return (
                f'{_listed(unheard)} cannot feed this subscription, which parameters fix to '
                f'{_in_words(self.qos)}; remove qos_overrides.{self.topic}.subscription.*'
            )
        if publishers:
            return (
                f'{_listed(publishers)} fits this subscription ({_in_words(self.qos)}) but sends '
                'nothing that arrives; is the camera paused, or are its images too large for the '
                "middleware's shared memory (see the Fast DDS profile in config/)?"
            )
        if others:
            types = ', '.join(sorted({info.topic_type for info in others}))
            return (
                f'{_listed(others)} publishes {types} there, but {self.type_name} is expected; '
                'check the remapping and the parameter image_transport'
            )
        return f'nobody publishes it. {self._alternatives()}'

    def _alternatives(self) -> str:
        published = [
            f'{name} ({kind})'
            for name, kinds in sorted(self._node.get_topic_names_and_types())
            for kind in kinds
            if kind in _IMAGE_TYPES and self._node.count_publishers(name)
        ]
        if published:
            return f'Published image topics: {", ".join(published)}; remap to one of them'
        return (
            'No image topic is published at all: is the camera driver running, with the same '
            'ROS_DOMAIN_ID?'
        )


def _declare_overrides(node: Node, topic: str) -> dict[str, Any]:
    """Policies fixed by parameters, as attributes of QoSProfile; those to be matched are absent.

    rclpy's own QoSOverridingOptions would declare the first profile's policies as the values of
    the parameters, and so fix them for every later profile.
    """
    overrides: dict[str, Any] = {}
    for policy, policy_type in _POLICIES.items():
        allowed = _ALLOWED[policy]
        default = 'keep_last' if policy == 'history' else _MATCHED
        name, value = _declared(
            node, topic, policy, default, additional_constraints=f'one of {", ".join(allowed)}'
        )
        if value not in allowed:
            raise QosOverrideError(
                f"parameter {name} is '{value}': it must be one of {', '.join(allowed)}"
            )
        if value != _MATCHED:
            overrides[policy] = policy_type[value.upper()]
    depths = IntegerRange(from_value=1, to_value=1000, step=1)
    _, overrides['depth'] = _declared(
        node, topic, 'depth', NEWEST_FRAME.depth, integer_range=[depths]
    )
    return overrides


def _declared(
    node: Node, topic: str, policy: str, default: Any, **constraints: Any
) -> tuple[str, Any]:
    name = f'qos_overrides.{topic}.subscription.{policy}'
    if not node.has_parameter(name):
        description = f'{policy} of the subscription to {topic}'
        descriptor = ParameterDescriptor(description=description, read_only=True, **constraints)
        node.declare_parameter(name, default, descriptor)
    return name, node.get_parameter(name).value


def _compatible(offered: QoSProfile, requested: QoSProfile) -> bool:
    reliable = offered.reliability == ReliabilityPolicy.RELIABLE
    latched = offered.durability == DurabilityPolicy.TRANSIENT_LOCAL
    return (reliable or requested.reliability != ReliabilityPolicy.RELIABLE) and (
        latched or requested.durability != DurabilityPolicy.TRANSIENT_LOCAL
    )


def _in_words(profile: QoSProfile) -> str:
    known = [
        policy.name.lower().replace('_', ' ')
        for policy in (profile.reliability, profile.durability)
        if policy.name != 'UNKNOWN'
    ]
    # Discovery does not tell a remote endpoint's history.
    if profile.history == HistoryPolicy.KEEP_LAST:
        known.append(f'keep last {profile.depth}')
    elif profile.history == HistoryPolicy.KEEP_ALL:
        known.append('keep all')
    return ', '.join(known) or 'quality of service unknown'


def _listed(infos: list[TopicEndpointInfo]) -> str:
    return ' and '.join(sorted(describe(info) for info in infos))


def _name_of_type(message_type: type) -> str:
    package, kind = message_type.__module__.split('.')[:2]
    return f'{package}/{kind}/{message_type.__name__}'
