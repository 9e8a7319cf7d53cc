# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A call whose answer gets lost is made again."""

from __future__ import annotations

import pytest
from std_srvs.srv import Trigger

from tracker_ros.ros.calls import call


@pytest.fixture
def asked():
    return []


@pytest.fixture
def service(graph, asked):
    def answer(request, response):
        asked.append(request)
        response.message = f'request {len(asked)}'
        return response

    return graph.node('server').create_service(Trigger, 'ready', answer)


@pytest.fixture
def client(graph):
    return graph.node('client').create_client(Trigger, 'ready')


def spinning(graph):
    return lambda _future: graph.executor.spin_once(timeout_sec=0.02)


def test_an_answer_comes_once(graph, service, client, asked):
    answer = call(client, Trigger.Request(), spinning(graph), 60.0, again_after_s=60.0)
    assert answer.message == 'request 1'
    assert len(asked) == 1


def test_what_is_lost_is_asked_again(graph, service, client, asked):
    def lose_the_first(future):
        if not asked:
            client.remove_pending_request(future)
        graph.executor.spin_once(timeout_sec=0.02)

    answer = call(client, Trigger.Request(), lose_the_first, 60.0, again_after_s=0.1)
    assert len(asked) > 1
    assert answer.message != 'request 1'


def test_without_an_answer_nothing_is_left_behind(graph, client):
    assert call(client, Trigger.Request(), spinning(graph), 0.3, again_after_s=0.1) is None
    assert not client._pending_requests
