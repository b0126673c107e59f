"""Small volumes that end with their process, and their free bytes as node_exporter shows them."""

import ctypes
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

_MNT_DETACH = 2
_LIBC = ctypes.CDLL(None, use_errno=True)

OWN_MOUNTS = ("unshare", "--mount", *(() if os.geteuid() == 0 else ("--user", "--map-current-user", "--keep-caps")))
"""In front of a command: its mounts are seen by its own processes alone, and end with the last of them."""


def mount_volume(folder: Path, mebibytes: int) -> None:
    """Mount an empty volume of this size; only below OWN_MOUNTS. Raises OSError."""
    folder.mkdir()
    options = f"size={mebibytes}m,mode=0777"
    if _LIBC.mount(b"tmpfs", os.fsencode(folder), b"tmpfs", 0, options.encode()) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"mount: {os.strerror(number)}", str(folder))


def unmount_volume(folder: Path) -> None:
    """Take the volume away, even while a process still has files there, so that the folder can be removed."""
    _LIBC.umount2(os.fsencode(folder), _MNT_DETACH)


def free_bytes(folder: Path) -> int:
    """Return what is free for a process without privileges, as node_filesystem_avail_bytes does."""
    volume = os.statvfs(folder)
    return volume.f_bavail * volume.f_frsize


@contextmanager
def node_exporter(volumes: Mapping[str, Path]) -> Iterator[str]:
    """Serve node_filesystem_avail_bytes for these mount points, from the volumes themselves; yield the address."""

    class Metrics(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            lines = [
                f'node_filesystem_avail_bytes{{mountpoint="{name}",fstype="tmpfs"}} {free_bytes(folder)}\n'
                for name, folder in volumes.items()
            ]
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write("".join(lines).encode())

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Metrics)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
