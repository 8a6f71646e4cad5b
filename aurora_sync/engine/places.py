"""The places that rows come from, pass through and go to."""

from __future__ import annotations

from dataclasses import dataclass, replace

from aurora_sync.config.settings import Settings
from aurora_sync.objects.store import Store
from aurora_sync.source.database import Source, exporters
from aurora_sync.source.debezium.kafka import Kafka
from aurora_sync.stage.writer import Stage
from aurora_sync.warehouse.base import Warehouse
from aurora_sync.warehouse.connect import warehouse_from


@dataclass(frozen=True)
class Places:
    """Source, stage and warehouse of one environment. Creating one does no I/O."""

    source: Source
    stage: Stage
    warehouse: Warehouse
    log_schema: str = "_AURORA_SYNC"

    def __post_init__(self) -> None:
        """Give the source the size limit of this warehouse's values, above which it refuses or cuts a value."""
        source = replace(self.source, longest_value=self.warehouse.dialect.longest_value)
        object.__setattr__(self, "source", source)

    @classmethod
    def from_settings(cls, settings: Settings) -> Places:
        warehouse = warehouse_from(settings)
        return cls(
            source=Source(
                settings.dsn,
                Kafka(settings.brokers, settings.broker_properties),
                exporters(settings.export_kms_key),
            ),
            stage=Stage(Store.from_url(settings.stage), target=warehouse.describe()),
            warehouse=warehouse,
            log_schema=settings.log_schema,
        )
