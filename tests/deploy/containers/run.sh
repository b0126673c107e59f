#!/usr/bin/env bash
# Builds the Dockerfile and runs docker-compose.yml, both unchanged, in a container engine of its own, without Grafana; has a
# slot stuck in there, and healed. No image is pulled: images under the same tags are made with debootstrap and from the
# programs that the tests run with. Needs root; takes some four minutes. Not a part of CI.
set -euo pipefail
cd "$(dirname "$0")/../../.."
repository=$PWD
[ "$(id -u)" -eq 0 ] || { echo "expected to be root: an engine is started" >&2; exit 1; }
SUITE=${SUITE:-forky}
export SUITE
bash tests/support/install/install.sh dev monitoring programs containers
PATH=$PWD/.venv/monitoring/$SUITE/bin:$PATH
# shellcheck source=tests/deploy/containers/engine.sh
. tests/deploy/containers/engine.sh

SERVICES=(primary standby exporter healer prometheus alertmanager)

started=$SECONDS
step() { printf '%4d s  %s\n' $((SECONDS - started)) "$*"; }
fail() {
  step "FAILED: $*"
  docker ps --all
  docker-compose logs --no-color --tail=6 2>/dev/null || true
  exit 1
}

# until_true SECONDS WHAT COMMAND...
until_true() {
  local end=$((SECONDS + $1)) what=$2
  shift 2
  until "$@" >/dev/null 2>&1; do
    [ "$SECONDS" -lt "$end" ] || fail "not in time: $what"
    sleep 0.5
  done
  step "$what"
}

healthy() { [ "$(docker inspect --format='{{.State.Health.Status}}' "$1")" = healthy ]; }

start_engine
step "engine $(docker version --format='{{.Server.Version}}'), storage $(docker info --format='{{.Driver}}')"
make_base
step "base image, by debootstrap"
python_image
postgres_image
monitoring_image prometheus prometheus /prometheus
monitoring_image alertmanager prometheus-alertmanager /alertmanager

# What git has, and nothing else: secrets are made beside it.
mkdir "$work/project"
git ls-files -z --cached --others --exclude-standard | xargs -0 cp --parents --target-directory="$work/project"
cd "$work/project"

build pg-slot-healer . --network=host
size() { docker image inspect --format='{{.Size}}' "$1"; }
base=$(size "$(tag_of python)") image=$(size pg-slot-healer)
step "Dockerfile built: $(((image - base) / 1000000)) MB over its base image"

# docs/how-to/containers.md: the base image by what cannot move, here the stand-in's own identifier.
by_id=$(docker image inspect --format='{{.Id}}' "$(tag_of python)")
build pg-slot-healer-by-id . --network=host --build-arg="PYTHON_IMAGE=$by_id"
[ "$(docker image inspect --format='{{index .RootFS.Layers 0}}' pg-slot-healer-by-id)" = \
  "$(docker image inspect --format='{{index .RootFS.Layers 0}}' "$by_id")" ] || fail "PYTHON_IMAGE"
step "Dockerfile built from a base image that PYTHON_IMAGE names"

# README, "Containers": the exporter alone, of a server that is not there.
echo 'clusters: {none: {nodes: {n: {conninfo: "host=127.0.0.1 port=1 user=x"}}}}' >pgslot.yml
alone=$(docker run --detach -p 127.0.0.1:9877:9877 -v "$PWD/pgslot.yml:/etc/pgslot/pgslot.yml:ro" \
  --read-only --cap-drop=ALL pg-slot-healer pg-slot-exporter --config.file=/etc/pgslot/pgslot.yml)
until_true 60 "the exporter alone is healthy by the image's own check" healthy "$alone"
docker exec "$alone" python -c 'import os; assert os.getuid() == os.getgid() == 65532'
curl --silent --fail http://127.0.0.1:9877/metrics | grep --quiet 'pgslot_up{cluster="none",node="n"} 0' || fail "/metrics"
docker rm --force "$alone" >/dev/null
step "it runs as 65532 and serves /metrics through the published port"

# As docker-compose builds it, without the engine's own network: a build that has been made is taken from the cache.
deploy/compose/make-secrets.sh >/dev/null
docker-compose up -d --build "${SERVICES[@]}" >"$work/up.log" 2>&1 || { tail -n 30 "$work/up.log" >&2; fail "docker-compose up"; }
for service in "${SERVICES[@]}"; do
  until_true 120 "$service is healthy" healthy "$(docker-compose ps --quiet "$service")"
done

deploy/compose/stuck-slot.sh | sed 's/^/        /'
step "stuck-slot.sh has ended"
curl --silent --fail http://127.0.0.1:9878/episodes >"$work/episodes"
python3 - "$work/episodes" <<'END' || fail "the newest episode is not healed"
import json, sys
[newest, *_] = json.load(open(sys.argv[1]))
print("        episode:", newest["outcome"], "after", newest["calls"], "calls;", newest["why"])
sys.exit(newest["outcome"] != "healed")
END
code=0
docker-compose exec -T healer pg-slot-healer doctor --config.file=/etc/pgslot/pgslot.yml --healer.url=http://healer:9878 \
  --prometheus.url=http://prometheus:9090 >"$work/doctor" || code=$?
grep -vE '^ok ' "$work/doctor" | sed 's/^/        /' || true
[ "$code" -eq 0 ] || [ "$code" -eq 3 ] || fail "doctor ends with $code"
step "doctor, in the healer's container, ends with $code"

# What takes most memory, under the limit that docker-compose.yml ships: the kernel would end the healer beyond it.
healer=$(docker-compose ps --quiet healer)
limit=$(docker inspect --format='{{.HostConfig.Memory}}' "$healer")
[ "$limit" -eq $((256 * 1024 * 1024)) ] || fail "the healer's limit of memory is $limit"
(cd "$repository" && .venv/bin/python -m tests.deploy.containers.webhook_memory \
  http://127.0.0.1:9878 "$work/project/deploy/compose/secrets/webhook-token" demo demo-2) || fail "large webhooks"
[ "$(docker inspect --format='{{.State.OOMKilled}} {{.RestartCount}}' "$healer")" = "false 0" ] || fail "the healer ran out of memory"
peak=$(docker exec "$healer" sh -c 'cat /sys/fs/cgroup/memory.peak 2>/dev/null || cat /sys/fs/cgroup/memory/memory.max_usage_in_bytes')
[ "$peak" -lt $((limit * 8 / 10)) ] || fail "the healer used $peak of $limit bytes"
step "large webhooks took the healer's cgroup to $((peak / 1048576)) of $((limit / 1048576)) MiB"

docker-compose restart primary standby >/dev/null 2>&1
for service in primary standby; do
  until_true 120 "$service is healthy after a restart" healthy "$(docker-compose ps --quiet "$service")"
done
streams() {
  docker-compose exec -T primary psql --username=postgres -Atc "SELECT state FROM pg_stat_replication" </dev/null | grep --quiet streaming
}
until_true 60 "the standby streams again" streams
docker-compose down --volumes >/dev/null 2>&1
step "all is well"
