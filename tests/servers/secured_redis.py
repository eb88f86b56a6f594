"""A replicated installation as production runs it: redis-server with the shipped configuration, users and Sentinels.

One primary, two replicas and three Sentinels of the machine's own ``redis-server`` (the wheel's server is tested
elsewhere), each user with a password of its own, in plain text or over TLS with certificates made for the occasion.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import redis

from sicargabox_core.redis_server import RedisError, connect, sentinel_options
from sicargabox_core.settings import Settings, load_settings
from tests.servers.ports import free_port, wait_until
from tests.settings import REPOSITORY, absent

SHIPPED = REPOSITORY / "redis"
USERS = ("api", "scheduler", "worker", "flower", "exporter", "replication", "sentinel", "hand-over")
SENTINEL_USERS = ("reader", "hand-over", "exporter", "sentinel")
# The name in the certificates; Redis and its Sentinels announce it too.
_HOST = "localhost"
# A user of the tests alone, who sees what the others were refused; his password is his name.
_ONLOOKER = "onlooker"


def program() -> str:
    """The machine's redis-server; the test is skipped, or fails where servers are required, when there is none."""
    found = shutil.which("redis-server")
    if found is None:
        absent("redis-server", "install redis-server (only its program is used, no service)")
    return found


class SecuredRedis:
    """Started by ``start``; ``settings(user)`` are a process's, with its user and password files."""

    def __init__(self, *, tls: bool = False, more_users: str = "") -> None:
        """Writes passwords and certificates and starts nothing yet. ``more_users``: lines for the servers' users."""
        self._program = program()
        self._more_users = more_users
        self.folder = Path(tempfile.mkdtemp(prefix="sicargabox-secured-redis-"))
        self._tls = tls
        self.ports = [free_port() for _ in range(3)]
        self.sentinel_ports = [free_port() for _ in range(3)]
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        for kind, users in (("redis", USERS), ("sentinels", SENTINEL_USERS)):
            folder = self.folder / "passwords" / kind
            folder.mkdir(parents=True)
            for user in users:
                (folder / user).write_text(f"{kind}' {user} pässword\n" if tls else f"{kind}-{user}-password\n")
        (self.folder / "passwords" / "redis" / _ONLOOKER).write_text(_ONLOOKER)
        if tls:
            self._make_certificates()

    # --- what tests ask ----------------------------------------------------------------------------------------------
    @property
    def url(self) -> str:
        """The address as the settings take it."""
        return ";".join(f"sentinel://{_HOST}:{port}" for port in self.sentinel_ports)

    def password(self, user: str, kind: str = "redis") -> str:
        """The password of a user of the servers, or of the ``sentinels``."""
        return (self.folder / "passwords" / kind / user).read_text().rstrip("\n")

    def options(self, user: str) -> dict[str, Any]:
        """The settings of a process that signs in as ``user``."""
        passwords = self.folder / "passwords"
        options: dict[str, Any] = {
            "redis_url": self.url,
            "redis_username": user,
            "redis_password_file": str(passwords / "redis" / user),
            "redis_sentinel_username": "reader",
            "redis_sentinel_password_file": str(passwords / "sentinels" / "reader"),
        }
        if self._tls:
            options |= {
                "redis_tls": True,
                "redis_tls_ca_file": str(self.folder / "ca.crt"),
                "redis_tls_cert_file": str(self.folder / "server.crt"),
                "redis_tls_key_file": str(self.folder / "server.key"),
            }
        return options

    def settings(self, user: str) -> Settings:
        """The same, read."""
        return load_settings(**self.options(user))

    def environment(self, user: str) -> dict[str, str]:
        """The same, as variables."""
        return {f"SICARGABOX_{name.upper()}": str(value) for name, value in self.options(user).items()}

    @contextlib.contextmanager
    def server(self, port: int, user: str, db: int = 0) -> Iterator[redis.Redis]:
        """A client of one server, past the Sentinels."""
        options = self.options(user)
        scheme = "rediss" if self._tls else "redis"
        with connect(load_settings(**options | {"redis_url": f"{scheme}://{_HOST}:{port}"}), db, timeout=2) as client:
            yield client

    @property
    def primary(self) -> int:
        """The port that the first Sentinel names."""
        return int(self._ask(self.sentinel_ports[0])["port"])

    @property
    def replicas(self) -> list[int]:
        """The ports of the other servers."""
        return [port for port in self.ports if port != self.primary]

    def kill(self, port: int) -> None:
        """SIGKILL, as a crash would."""
        process = self._processes.pop(port)
        process.kill()
        process.wait()

    def denied(self) -> list[str]:
        """What the servers refused so far, as ``user: command or key``."""
        found = []
        for port in self.ports:
            if port in self._processes:
                with self.server(port, _ONLOOKER) as client:
                    found += [f"{one['username']}: {one['reason']} {one['object']}" for one in client.acl_log()]
        return found

    # --- life --------------------------------------------------------------------------------------------------------
    def start(self) -> None:
        """Starts everything and returns when all Sentinels know the primary, both replicas and each other."""
        users = self._render("users.acl", "redis")
        users += f"user {_ONLOOKER} on >{_ONLOOKER} +ping +acl|log +client|setname +select\n"
        users += self._more_users
        sentinel_users = self._render("sentinel-users.acl", "sentinels")
        for port in self.ports:
            self._start(port, self._server_configuration(port), users)
        for port in self.sentinel_ports:
            self._start(port, self._sentinel_configuration(port), sentinel_users, "--sentinel")
        wait_until(
            lambda: all(self._complete(port) for port in self.sentinel_ports),
            seconds=60,
            what="the Sentinels know the primary, its replicas and each other",
        )

    def stop(self) -> None:
        """Ends everything and removes its folder."""
        for port in list(self._processes):
            self.kill(port)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _render(self, template: str, kind: str) -> str:
        script = [str(SHIPPED / "render-users.sh"), str(SHIPPED / template), str(self.folder / "passwords" / kind)]
        return subprocess.run(script, check=True, capture_output=True, text=True).stdout

    def _server_configuration(self, port: int) -> str:
        lines = [
            (SHIPPED / "redis.conf").read_text(),
            (SHIPPED / "replicated.conf").read_text(),
            f'masterauth "{self.password("replication")}"',
            f"replica-announce-ip {_HOST}",
            f"replica-announce-port {port}",
        ]
        if self._tls:
            lines.append("tls-replication yes")
        if port != self.ports[0]:
            lines.append(f"replicaof {_HOST} {self.ports[0]}")
        return "\n".join([*lines, *self._listening(port)])

    def _sentinel_configuration(self, port: int) -> str:
        lines = [
            (SHIPPED / "sentinel.conf").read_text(),
            f"sentinel monitor mymaster {_HOST} {self.ports[0]} 2",
            "sentinel auth-user mymaster sentinel",
            f'sentinel auth-pass mymaster "{self.password("sentinel")}"',
            "sentinel sentinel-user sentinel",
            f'sentinel sentinel-pass "{self.password("sentinel", "sentinels")}"',
            f"sentinel announce-ip {_HOST}",
            f"sentinel announce-port {port}",
        ]
        if self._tls:
            lines.append("tls-replication yes")
        return "\n".join([*lines, *self._listening(port)])

    def _listening(self, port: int) -> list[str]:
        folder = self.folder / str(port)
        lines = ["bind 127.0.0.1", f"dir {folder}", f"aclfile {folder}/users.acl"]
        if not self._tls:
            return [*lines, f"port {port}", ""]
        files = {"ca-cert-file": "ca.crt", "cert-file": "server.crt", "key-file": "server.key"}
        return [
            *lines,
            "port 0",
            f"tls-port {port}",
            "tls-auth-clients yes",
            *(f"tls-{name} {self.folder / file}" for name, file in files.items()),
            "",
        ]

    def _start(self, port: int, configuration: str, users: str, *options: str) -> None:
        folder = self.folder / str(port)
        folder.mkdir(exist_ok=True)
        (folder / "users.acl").write_text(users)
        (folder / "server.conf").write_text(configuration)
        self._run(port, *options)

    def _run(self, port: int, *options: str) -> None:
        """Starts a server with what is in its folder, and returns when it says that it is ready."""
        folder = self.folder / str(port)
        log_file = folder / "log"
        said_before = log_file.stat().st_size if log_file.exists() else 0
        with log_file.open("ab") as log:
            process = subprocess.Popen(
                [self._program, str(folder / "server.conf"), *options], stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
        self._processes[port] = process

        def told() -> bool:
            said = log_file.read_bytes()[said_before:]
            return any(word in said for word in (b"Ready to accept", b"+monitor"))

        wait_until(lambda: process.poll() is not None or told(), seconds=20, what="redis-server is ready")
        if process.poll() is not None:
            raise AssertionError("redis-server ended: " + (folder / "log").read_text()[-2000:])

    def _make_certificates(self) -> None:
        def openssl(*arguments: str) -> None:
            subprocess.run(["openssl", *arguments], check=True, capture_output=True, cwd=self.folder)

        key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
        openssl(
            "req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.crt", "-days", "2", "-subj", "/CN=Test authority"
        )
        openssl("req", *key, "-keyout", "server.key", "-out", "server.csr", "-subj", f"/CN={_HOST}")
        (self.folder / "names").write_text(f"subjectAltName=DNS:{_HOST}\n")
        signing = ("-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "names")
        openssl("x509", "-req", "-in", "server.csr", *signing, "-out", "server.crt", "-days", "2")

    # --- the Sentinels -----------------------------------------------------------------------------------------------
    def _ask(self, port: int) -> dict[str, Any]:
        options = sentinel_options(self.settings("api"), 2)
        try:
            with redis.Redis(host=_HOST, port=port, decode_responses=True, **options) as client:
                told: Any = client.execute_command("SENTINEL", "MASTER", "mymaster")
        except RedisError:
            return {}
        return told if isinstance(told, dict) else dict(zip(told[::2], told[1::2], strict=True))

    def _complete(self, port: int) -> bool:
        told = self._ask(port)
        return (
            str(told.get("num-slaves")) == "2"
            and str(told.get("num-other-sentinels")) == "2"
            and "down" not in str(told.get("flags"))
        )
