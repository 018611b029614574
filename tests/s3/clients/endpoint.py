"""Where clients go, and what they bring: a URL, an authority, and a key."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

CALL_SECONDS = 240


@dataclass(frozen=True)
class Endpoint:
    url: str
    key: str
    secret: str
    ca: Path | None = None
    """The authority of an https endpoint."""
    region: str = "us-east-1"

    @property
    def host(self) -> str:
        """``host:port``."""
        return self.url.partition("://")[2]

    @property
    def is_secure(self) -> bool:
        return self.ca is not None

    def environment(self, home: Path) -> dict[str, str]:
        """The variables by which most clients find key, region and authority; nothing of the user's settings."""
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "RCLONE_", "RESTIC_"))
        }
        found = {
            **kept,
            "HOME": str(home),
            "AWS_ACCESS_KEY_ID": self.key,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_DEFAULT_REGION": self.region,
            "AWS_REGION": self.region,
            "AWS_ENDPOINT_URL": self.url,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_MAX_ATTEMPTS": "2",
        }
        if self.ca is not None:
            bundle = str(self.ca)
            found |= {"AWS_CA_BUNDLE": bundle, "SSL_CERT_FILE": bundle, "NODE_EXTRA_CA_CERTS": bundle}
        return found


@dataclass(frozen=True)
class Shell:
    """Runs programs for one client in a directory of its own."""

    endpoint: Endpoint
    directory: Path

    def run(self, *command: str | Path, code: int = 0, word: bytes = b"", **variables: str) -> str:
        """Run a program; return what it wrote to standard output. Fail with what it said on another exit code. An empty
        variable is one that the program does not get."""
        environment = {**self.endpoint.environment(self.directory), **variables}
        done = subprocess.run(
            [str(part) for part in command],
            cwd=self.directory,
            env={name: value for name, value in environment.items() if value},
            input=word,
            capture_output=True,
            timeout=CALL_SECONDS,
            check=False,
        )
        said = done.stdout.decode(errors="replace")
        assert done.returncode == code, (
            f"{' '.join(map(str, command))} ended with {done.returncode}\n{said[-3000:]}\n"
            f"{done.stderr.decode(errors='replace')[-3000:]}"
        )
        return said
