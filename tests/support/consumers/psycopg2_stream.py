"""Creates a slot with psycopg2 and prints what it receives; arguments: conninfo, slot, publication."""

import sys

import psycopg2
import psycopg2.extras

conninfo, slot, publication = sys.argv[1:]
connection = psycopg2.connect(conninfo, connection_factory=psycopg2.extras.LogicalReplicationConnection)
cursor = connection.cursor()
cursor.create_replication_slot(slot, output_plugin="pgoutput")
options = {"proto_version": "1", "publication_names": publication}
cursor.start_replication(slot_name=slot, options=options, decode=False)


def take(message: psycopg2.extras.ReplicationMessage) -> None:
    print(message.payload, flush=True)
    message.cursor.send_feedback(flush_lsn=message.data_start)


cursor.consume_stream(take)
