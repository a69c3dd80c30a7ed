"""What the log's topics are made with."""

from __future__ import annotations

import pytest

from infra.kafka.log import new_configs
from schemas.topics import REJECTED, TOPICS, Topic


@pytest.mark.parametrize("topic", TOPICS, ids=lambda topic: topic.name)
@pytest.mark.parametrize("replication", [1, 3])
def test_a_topic_forgets_nothing_and_is_dated_by_the_broker(topic: Topic, replication: int) -> None:
    configs = new_configs(topic, replication)
    assert configs["retention.ms"] == configs["retention.bytes"] == "-1"
    assert configs["cleanup.policy"] == "delete"
    assert configs["message.timestamp.type"] == "LogAppendTime"
    assert configs.get("min.insync.replicas") == ("2" if replication == 3 else None)
    assert ("max.message.bytes" in configs) == (topic.name == REJECTED)
