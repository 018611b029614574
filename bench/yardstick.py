"""nginx, one worker, serving files of the same disk: what every figure is compared with."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Self

from tests.support.daemons import free_ports

CONFIGURATION = """
worker_processes 1; daemon off; pid {root}/nginx.pid; error_log {root}/error.log; {user}
events {{ worker_connections 1024; }}
http {{
  access_log off; sendfile on; tcp_nopush on; keepalive_requests 100000000; keepalive_timeout 300s;
  client_body_temp_path {root}/tmp; proxy_temp_path {root}/tmp/p; fastcgi_temp_path {root}/tmp/f;
  uwsgi_temp_path {root}/tmp/u; scgi_temp_path {root}/tmp/s;
  server {{ listen 127.0.0.1:{port}; root {root}/files; }}
}}
"""


def find_nginx() -> str:
    path = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if path is None:
        raise SystemExit("the benchmark needs nginx as its yardstick: apt-get install nginx-light")
    return path


class Yardstick:
    """nginx below ``root``; put files below ``files``. Use as a context."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.files = root / "files"
        self.port = free_ports(1)[0]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.files.mkdir(parents=True)
        (self._root / "tmp").mkdir()
        user = "user root;" if os.geteuid() == 0 else ""
        configuration = self._root / "nginx.conf"
        configuration.write_text(CONFIGURATION.format(root=self._root, port=self.port, user=user))
        self._process = subprocess.Popen([find_nginx(), "-c", str(configuration), "-p", str(self._root)])
        end = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
            except OSError:
                if time.monotonic() > end or self._process.poll() is not None:
                    raise SystemExit(f"nginx does not start, see {self._root}/error.log") from None
                time.sleep(0.05)
            else:
                return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.terminate()
        self._process.wait()
