#!/bin/sh
# Makes the demo's secrets with random content, once: files that exist are kept. To start over, remove them and the volumes.
#
# docker-compose mounts each file into a container with the owner and mode that it has here, and the programs in there run
# as different users. So the files are readable for all, and the directory around them only for you.
set -eu

dir=${1:-$(dirname "$0")/secrets}
mkdir -p "$dir"
chmod 0700 "$dir"

random() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }

secret() { # name content
    [ -e "$dir/$1" ] && return
    printf '%s' "$2" >"$dir/$1"
    chmod 0644 "$dir/$1"
}

for name in postgres-password replication-password exporter-password healer-password grafana-password webhook-token; do
    secret "$name" "$(random)"
done

# Whole connection strings: libpq refuses a passfile that others may read, and file secrets cannot be given to one user.
exporter="dbname=postgres user=pgslot_exporter password=$(cat "$dir/exporter-password")"
healer="dbname=postgres user=pgslot_healer password=$(cat "$dir/healer-password")"
secret exporter-conninfo-demo-1 "host=primary $exporter"
secret exporter-conninfo-demo-2 "host=standby $exporter"
secret healer-conninfo "host=primary,standby target_session_attrs=read-write $healer"

echo "secrets are in $dir"
