"""Addresses of the Kafka brokers, and the settings for a connection to them."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from aurora_sync.errors import ConfigError
from aurora_sync.source.debezium.topic import Quiet, Topic, open_topic, open_topics

# Time limit of a request. A broker answers at once, but one that does not know the request may never answer.
POLICY_SECONDS = 10.0


@dataclass(frozen=True)
class Kafka:
    """The Kafka brokers. ``properties`` is a file of librdkafka's settings. Creating a Kafka does no I/O."""

    servers: str = ""
    properties: Path | None = None

    def topic(self, name: str) -> AbstractContextManager[Topic]:
        """Open the topic as it is now. Raises ConfigError if the brokers are not named or their settings cannot be
        read, and the errors of :func:`open_topic`."""
        return open_topic(self._settings(), name)

    def ends(self, names: Sequence[str]) -> dict[str, dict[int, int]]:
        """Return the next offset, by topic and partition. Raises as :meth:`topic`."""
        with open_topics(self._settings(), names) as topics:
            return {
                name: {number: extent.high for number, extent in topic.extents.items()}
                for name, topic in zip(names, topics, strict=True)
            }

    def cleanup_policies(self, names: Sequence[str]) -> dict[str, str]:
        """Return ``cleanup.policy`` by topic, without topics that do not exist or whose configuration this user may not
        see. Raises ConfigError as :meth:`topic`."""
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import (  # type: ignore[attr-defined,unused-ignore]
            AdminClient,
            ConfigResource,
            ResourceType,
        )

        admin = AdminClient({**self._settings()}, logger=Quiet())
        resources = [ConfigResource(ResourceType.TOPIC, name) for name in names]
        found = {}
        for resource, answer in admin.describe_configs(resources, request_timeout=POLICY_SECONDS).items():
            with contextlib.suppress(KafkaException):
                found[resource.name] = str(answer.result()["cleanup.policy"].value)
        return found

    def _settings(self) -> dict[str, str]:
        if not self.servers:
            raise ConfigError(
                "KAFKA_BOOTSTRAP_SERVERS is not set", hint="set it to the brokers that have Debezium's topics"
            )
        return self._from_file() | {"bootstrap.servers": self.servers}

    def _from_file(self) -> dict[str, str]:
        if self.properties is None:
            return {}
        try:
            lines = self.properties.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"the file cannot be read: {error}", where=f"KAFKA_PROPERTIES, {self.properties}"
            ) from error
        stripped = [(number, line.strip()) for number, line in enumerate(lines, 1)]
        pairs = [(number, line.partition("=")) for number, line in stripped if line and not line.startswith("#")]
        wrong = [number for number, (name, equals, _) in pairs if not (name.strip() and equals)]
        if wrong:  # the line is not shown: it may hold a password
            raise ConfigError(
                f"line {wrong[0]} does not have the form name=value", where=f"KAFKA_PROPERTIES, {self.properties}"
            )
        return {name.strip(): value.strip() for _, (name, _, value) in pairs}
