"""Two certificates for localhost and 127.0.0.1 that sign themselves, with their keys; good for a hundred years. And a
cluster's own authority, which makes one for each node."""

from __future__ import annotations

import ssl
import time
from typing import TYPE_CHECKING

from flared.access.certificates import Authority, make_authority, make_key, make_request, sign_request

if TYPE_CHECKING:
    from pathlib import Path

SECRET = b"only-for-tests-0123456789abcdef-0123456789abcdef"
"""The secret of ``tests.support.daemons`` clusters."""
HERE = ("localhost", "127.0.0.1")

CERTIFICATE = """-----BEGIN CERTIFICATE-----
MIIBmzCCAUGgAwIBAgIUHE08YgDpKgdr2UOx4DxLIDQl4AYwCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTIwMTAyMDAzM1oYDzIxMjYxMTA3
MDIwMDMzWjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAASa2QUc2h5FXUorMBFzgka1oxueUqXynjIDzpRzKxLHOl/t/QgmBRvz
Bcc3lKOyfUys2ZTWzyCf+LRDqG8MjgDLo28wbTAdBgNVHQ4EFgQUhRaZxTGAxVS1
aKJiZcEAVS2Pir0wHwYDVR0jBBgwFoAUhRaZxTGAxVS1aKJiZcEAVS2Pir0wDwYD
VR0TAQH/BAUwAwEB/zAaBgNVHREEEzARgglsb2NhbGhvc3SHBH8AAAEwCgYIKoZI
zj0EAwIDSAAwRQIgGwIFIMZvFkBPuxNIUyo1B1aVNQfQc8L30trYffH5F4gCIQDp
TNxOHHK+Jy0D0Nv8JtiJJLfVq1DzgwB0Ak5aEvOlGw==
-----END CERTIFICATE-----
"""

KEY = """-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgh2KIXF5k4VWE+f7h
RPwlNvOwROsvPBe9n0QBVT+yyzihRANCAASa2QUc2h5FXUorMBFzgka1oxueUqXy
njIDzpRzKxLHOl/t/QgmBRvzBcc3lKOyfUys2ZTWzyCf+LRDqG8MjgDL
-----END PRIVATE KEY-----
"""

OTHER_CERTIFICATE = """-----BEGIN CERTIFICATE-----
MIIBnDCCAUGgAwIBAgIUYwFVCM1dNhZGQkxHbkKvYL3P14owCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTIwMTAyMDAzM1oYDzIxMjYxMTA3
MDIwMDMzWjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAAQxS05+LloavDOrFGZM/KIQ0ZVdftsrcRHiWYBbvJ5tvw8TWgiTiRt0
XDYsFmpXURJnl7RRpMSUTGxwoD0cIxXzo28wbTAdBgNVHQ4EFgQUEvWObe3rgG+L
zUvOzcbMx0pw3ZIwHwYDVR0jBBgwFoAUEvWObe3rgG+LzUvOzcbMx0pw3ZIwDwYD
VR0TAQH/BAUwAwEB/zAaBgNVHREEEzARgglsb2NhbGhvc3SHBH8AAAEwCgYIKoZI
zj0EAwIDSQAwRgIhALMfw7SrD/Sc2yDJmbicz6dXW3BNpaonV+ige9WK55GHAiEA
4iSkznQTsScm/JblZi+Dqs+NxfZA0l786HFwGVklrfo=
-----END CERTIFICATE-----
"""

OTHER_KEY = """-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgP8CqL0PRO5oIWsgi
hLB0AXBhy4e/mpZ1cML+d2S1PRChRANCAAQxS05+LloavDOrFGZM/KIQ0ZVdftsr
cRHiWYBbvJ5tvw8TWgiTiRt0XDYsFmpXURJnl7RRpMSUTGxwoD0cIxXz
-----END PRIVATE KEY-----
"""


def write_certificate(directory: Path, certificate: str = CERTIFICATE, key: str = KEY) -> tuple[Path, Path]:
    """Write both; the key is for its owner only. Returns their paths."""
    paths = directory / "certificate.pem", directory / "key.pem"
    paths[0].write_text(certificate)
    paths[1].write_text(key)
    paths[1].chmod(0o600)
    return paths


def trusting(certificate: str = CERTIFICATE) -> ssl.SSLContext:
    """A client that believes this certificate, and no other."""
    return ssl.create_default_context(cadata=certificate)


class OwnAuthority:
    """The authority of a cluster, with files in ``directory``: ``ca.pem``, ``NODE.pem`` and ``NODE.key``."""

    def __init__(self, directory: Path, title: str = "Flare of a test", now: float | None = None) -> None:
        directory.mkdir(exist_ok=True)
        self._directory = directory
        self._now = time.time() if now is None else now
        self.authority: Authority = make_authority(title, SECRET, self._now)
        self.ca = directory / "ca.pem"
        self.ca.write_bytes(self.authority.certificate)

    def write(self, node: str, names: tuple[str, ...] = HERE) -> dict[str, str]:
        """Make the files of a node; return what [tls] says of them."""
        key = make_key()
        request = make_request(node, names, key)
        paths = self._directory / f"{node}.pem", self._directory / f"{node}.key"
        paths[0].write_bytes(sign_request(self.authority, [SECRET], node, request, self._now))
        paths[1].write_bytes(key)
        paths[1].chmod(0o600)
        return {"certificate": str(paths[0]), "key": str(paths[1]), "ca": str(self.ca)}

    def trusting(self) -> ssl.SSLContext:
        """A client that believes this authority, and shows nothing."""
        return ssl.create_default_context(cafile=self.ca)
