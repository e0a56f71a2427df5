"""Redis behind TLS, with a certificate of our own."""

import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from streaming.errors import LogUnavailable
from streaming.hub.hub import Hub
from streaming.logs.redis import RedisLog
from tests.redis_server import free_port, redis_server
from tests.witness import seen_by, watching


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The URL of a server, and the certificate to trust."""
    folder = tmp_path_factory.mktemp("tls")
    certificate, key, port = folder / "cert.pem", folder / "key.pem", free_port()
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-keyout", str(key), "-out", str(certificate), "-subj", "/CN=redis"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(command, check=True, capture_output=True)
    options = {
        "tls_port": str(port),
        "tls_cert_file": str(certificate),
        "tls_key_file": str(key),
        "tls_auth_clients": "no",
    }
    with redis_server(folder, **options):
        yield f"rediss://127.0.0.1:{port}/0?prefix=p:", certificate


def test_messages_and_announcements_come_through_tls(secure: tuple[str, Path]) -> None:
    url, certificate = secure
    with (
        closing(RedisLog(f"{url}&ssl_ca_certs={certificate}")) as log,
        watching(Hub(log)) as witness,
    ):
        for n in range(300):
            witness.hub.publish("a", f"{n} " + "x" * 20_000)
        witness.hub.publish("a", "last")
        seen_by(witness, "last")
        assert len(witness.texts) == 301
        log.check()


def test_a_certificate_that_nobody_vouches_for_is_refused_unless_asked_for(
    secure: tuple[str, Path],
) -> None:
    url, _ = secure
    with closing(RedisLog(url)) as log, pytest.raises(LogUnavailable, match=r"(?i)certificate"):
        log.check()
    with closing(RedisLog(f"{url}&ssl_cert_reqs=none")) as log:
        log.check()
