// npm's pg-logical-replication prints what comes: port, slot, publication. As its README has it, the slot is made with SQL first.
const { Client } = require("pg");
const { LogicalReplicationService, PgoutputPlugin } = require("pg-logical-replication");

const [port, slot, publication] = process.argv.slice(2);
const server = { host: "127.0.0.1", port: Number(port), user: "postgres", database: "postgres" };

async function main() {
  const client = new Client(server);
  await client.connect();
  await client.query("SELECT * FROM pg_create_logical_replication_slot($1, 'pgoutput')", [slot]);
  await client.end();
  const service = new LogicalReplicationService(server, { acknowledge: { auto: true, timeoutSeconds: 1 } });
  service.on("data", (lsn, message) => console.log(lsn, message.tag, JSON.stringify(message.new ?? null)));
  await service.subscribe(new PgoutputPlugin({ protoVersion: 1, publicationNames: [publication] }), slot);
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
