"""Redis as production runs it, with what faults need: to kill, freeze, start again, and to know who is primary."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import redis
from redis.exceptions import RedisError

from tests.servers.ports import wait_until
from tests.servers.secured_redis import SecuredRedis

# Of the tests alone: faults are ordered by somebody who may do everything.
OPERATOR = "operator"
_MEGABYTES_OF_A_DISK = 160


class RedisNodes(SecuredRedis):
    """One primary, two replicas and three Sentinels with the shipped configuration and users.

    As root each server's folder is a small disk of its own (tmpfs), which can be filled.
    """

    def __init__(self) -> None:
        super().__init__(more_users=f"user {OPERATOR} on >{OPERATOR} +@all ~* &*\n")
        self.disks: dict[int, Path] = {}
        self._frozen: set[int] = set()

    # --- life --------------------------------------------------------------------------------------------------------
    def start(self) -> None:
        """As the parent; every server on a disk of its own where that is possible."""
        if os.geteuid() == 0:
            for port in self.ports:
                folder = self.folder / str(port)
                folder.mkdir()
                options = f"size={_MEGABYTES_OF_A_DISK}m,mode=700"
                subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=True)
                self.disks[port] = folder
        super().start()
        self.wait_whole()

    def stop(self) -> None:
        """Ends everything; folders go, disks too."""
        self._end()
        shutil.rmtree(self.folder, ignore_errors=True)

    def keep_logs(self, folder: Path) -> None:
        """Ends everything and leaves the servers' logs in ``folder``."""
        for port in [*self.ports, *self.sentinel_ports]:
            log = self.folder / str(port) / "log"
            if log.exists():
                kind = "redis" if port in self.ports else "sentinel"
                shutil.copyfile(log, folder / f"{kind}-{port}.log")
        self.stop()

    def _end(self) -> None:
        for port in list(self._processes):
            self.kill(port)
        for port in self.ports:
            self.join(port)
        for disk in self.disks.values():
            subprocess.run(["umount", "--lazy", str(disk)], check=False)
        self.disks.clear()

    # --- what faults do ----------------------------------------------------------------------------------------------
    def pid(self, port: int) -> int:
        """Process id of a running server or Sentinel."""
        return self._processes[port].pid

    def running(self, port: int) -> bool:
        """Whether it has not ended."""
        return port in self._processes and self._processes[port].poll() is None

    def freeze(self, port: int) -> None:
        """SIGSTOP: it keeps its connections and says nothing."""
        self._processes[port].send_signal(signal.SIGSTOP)
        self._frozen.add(port)

    def thaw(self, port: int) -> None:
        """SIGCONT."""
        if port in self._frozen:
            self._processes[port].send_signal(signal.SIGCONT)
            self._frozen.discard(port)

    def terminate(self, port: int) -> None:
        """SIGTERM, as a pod that is deleted."""
        process = self._processes.pop(port)
        process.terminate()
        process.wait(timeout=20)

    def restart(self, port: int, *, empty: bool = False, alone: bool = False) -> None:
        """Starts a server or Sentinel that was ended, with its files or ``empty``.

        A server joins the primary that the Sentinels name, as a pod does; ``alone``: it keeps the role it had.
        """
        folder = self.folder / str(port)
        if port in self.sentinel_ports:
            self._run(port, "--sentinel")
            return
        if empty:
            shutil.rmtree(folder / "appendonlydir", ignore_errors=True)
            (folder / "dump.rdb").unlink(missing_ok=True)
        if not alone:
            lines = (folder / "server.conf").read_text().splitlines()
            lines = [line for line in lines if not line.startswith(("replicaof ", "slaveof "))]
            primary = self.primary
            if primary != port:
                lines.append(f"replicaof localhost {primary}")
            (folder / "server.conf").write_text("\n".join(lines) + "\n")
        self._run(port)

    @contextlib.contextmanager
    def operator(self, port: int, db: int = 0, timeout: float = 5.0) -> Iterator[redis.Redis]:
        """A client of one server that may do everything; answers are texts."""
        with redis.Redis(
            host="localhost",
            port=port,
            db=db,
            username=OPERATOR,
            password=OPERATOR,
            socket_timeout=timeout,
            decode_responses=True,
        ) as client:
            yield client

    @contextlib.contextmanager
    def sentinel(self, port: int) -> Iterator[redis.Redis]:
        """A client of one Sentinel that may do everything."""
        with redis.Redis(
            host="localhost",
            port=port,
            username="sentinel",
            password=self.password("sentinel", "sentinels"),
            socket_timeout=3,
            decode_responses=True,
        ) as client:
            yield client

    def cut_off(self, port: int) -> None:
        """Nothing reaches a server and nothing it says gets through, on the wire: connections are not even closed."""
        for rule in self._rules(port):
            subprocess.run(["iptables", "-w", "-I", "INPUT", *rule], check=True, capture_output=True)

    def join(self, port: int) -> None:
        """Undoes ``cut_off``, however often it was done."""
        if os.geteuid() != 0 or shutil.which("iptables") is None:
            return
        for rule in self._rules(port):
            while (
                subprocess.run(["iptables", "-w", "-D", "INPUT", *rule], check=False, capture_output=True).returncode
                == 0
            ):
                pass

    @staticmethod
    def _rules(port: int) -> list[list[str]]:
        tail = ["-m", "comment", "--comment", f"sicargabox-faults-{port}", "-j", "DROP"]
        return [["-i", "lo", "-p", "tcp", side, str(port), *tail] for side in ("--dport", "--sport")]

    # --- what is -----------------------------------------------------------------------------------------------------
    @property
    def primary(self) -> int:
        """The port that most of the Sentinels that answer name. Raises ``AssertionError`` when none answers."""
        named = [int(told["port"]) for port in self.sentinel_ports if (told := self._ask(port))]
        assert named, "no Sentinel answers"
        return max(set(named), key=named.count)

    def wait_promoted(self, old: int, seconds: float = 60) -> int:
        """The port of the primary that followed ``old``, once it calls itself one."""

        def promoted() -> int | None:
            port = self.primary
            return port if port != old and self._replication(port).get("role") == "master" else None

        return wait_until(promoted, seconds=seconds, what="the Sentinels promote a replica", interval=0.1)

    def wait_whole(self, seconds: float = 60) -> None:
        """Until a primary has two connected replicas and every Sentinel knows it."""
        wait_until(self._whole, seconds=seconds, what="Redis is whole again: a primary, two replicas", interval=0.2)

    def _whole(self) -> bool:
        if not all(self.running(port) for port in [*self.ports, *self.sentinel_ports]):
            return False
        told = [self._ask(port) for port in self.sentinel_ports]
        if len({one.get("port") for one in told}) != 1 or any("down" in str(one.get("flags", "down")) for one in told):
            return False
        replication = self._replication(int(told[0]["port"]))
        replicas = [replication.get(f"slave{number}") for number in range(2)]
        return replication.get("role") == "master" and all(
            isinstance(one, dict) and one.get("state") == "online" for one in replicas
        )

    def _replication(self, port: int) -> dict[str, Any]:
        try:
            with self.operator(port, timeout=2) as client:
                told: dict[str, Any] = client.info("replication")
        except RedisError:
            return {}
        return told
