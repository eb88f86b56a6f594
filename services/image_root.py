"""Makes what an image without a distribution stands on: Python, the libraries it links, and what says whose they are.

    python image_root.py fill ROOT             fills ROOT with the Python that runs this, in the places where it lies
    python image_root.py check ROOT FOLDER…    fails when a library or a link in the folders needs what ROOT lacks

Runs in a build stage, on Debian's libraries (dpkg, glibc), by the standard library alone. Where things lie is asked of
Python, the dynamic linker and dpkg: the official images keep Python in /usr/local, Debian keeps it in /usr. Takes no
part in what runs on top of it: that is install.sh's.
"""

from __future__ import annotations

import compileall
import os
import py_compile
import re
import shutil
import ssl
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

# Parts of the standard library that a service never runs: its tests, what draws, edits, converts, installs and
# compiles. About 40 MB of the official image's, 12 of Debian's.
NOT_SHIPPED = {
    "__pycache__",
    "curses",
    "dist-packages",
    "distutils",
    "ensurepip",
    "idlelib",
    "lib2to3",
    "pydoc_data",
    "site-packages",
    "test",
    "tests",
    "tkinter",
    "turtle.py",
    "turtledemo",
}
# config-…: what it takes to link Python into a program. Extensions: those of the parts above, and those whose library
# nothing else needs (a terminal's, databases of the eighties, NIS with Kerberos and an RPC library behind it).
NOT_SHIPPED_NAME = re.compile(
    r"config-.*|.*\.(a|o|pyc)"
    r"|(_curses|_curses_panel|_dbm|_gdbm|_tkinter|nis|ossaudiodev|readline|xxlimited|xxlimited_35)\..*\.so"
    r"|(_test\w*|_ctypes_test|_xxtestfuzz)\..*\.so"
)
# What a wheel may expect of a system beside what Python links (PEP 600's list without X and GLib), and what glibc loads
# by itself when a thread is cancelled (libgcc_s) or a name is looked up.
EXPECTED_BY_WHEELS = (
    *("libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1", "libutil.so.1", "libresolv.so.2"),
    *("libnss_dns.so.2", "libnss_files.so.2", "libgcc_s.so.1", "libstdc++.so.6", "libz.so.1"),
)
USERS = """\
root:x:0:0:root:/root:/usr/sbin/nologin
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
sicargabox:x:10001:10001::/nonexistent:/usr/sbin/nologin
"""
GROUPS = "root:x:0:\nnogroup:x:65534:\nsicargabox:x:10001:\n"
# glibc without this file asks DNS first, and /etc/hosts only if there is no DNS.
NSSWITCH = "passwd: files\ngroup: files\nhosts: files dns\nservices: files\n"
DPKG = Path("var/lib/dpkg")


class Missing(Exception):
    """What an image needs is not on the system it is made of."""


def ship(path: Path, root: Path, *, system: Path = Path("/")) -> Path:
    """Copies a file to where it lies, below `root`, with every link on the way to it; the file itself is returned.

    Raises:
        Missing: there is no such file.
    """
    rest = list(path.relative_to(system).parts)
    here = system
    for _ in range(1000):
        if not rest:
            break
        name = rest.pop(0)
        if name == "..":
            here = here.parent
            continue
        here /= name
        copy = root / here.relative_to(system)
        if here.is_symlink():
            target = here.readlink()
            if not copy.is_symlink():
                copy.parent.mkdir(parents=True, exist_ok=True)
                copy.symlink_to(target)
            rest = [*target.parts, *rest]
            if target.is_absolute():
                rest.pop(0)
                here = system
            else:
                here = here.parent
        elif rest:
            copy.mkdir(exist_ok=True, parents=True)
    if not here.is_file():
        raise Missing(f"{path} is not there")
    copy = root / here.relative_to(system)
    copy.parent.mkdir(parents=True, exist_ok=True)
    if not copy.exists():
        shutil.copy2(here, copy)
    return here


def natives(folder: Path) -> Iterator[Path]:
    """The programs and libraries in a folder, known by their first four bytes."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink():
            with path.open("rb") as handle:
                if handle.read(4) == b"\x7fELF":
                    yield path


def linked(program: Path) -> set[Path]:
    """The libraries that the dynamic linker would load for a program or a library, itself included.

    Raises:
        Missing: it would not find one.
    """
    done = subprocess.run(["ldd", str(program)], capture_output=True, text=True, check=False)
    if done.returncode and "not a dynamic executable" in done.stdout + done.stderr:
        return set()
    if done.returncode:
        raise Missing(f"ldd {program}: {done.stderr.strip()}")
    return read_ldd(program, done.stdout)


def read_ldd(program: Path, text: str) -> set[Path]:
    """The files in what `ldd` printed about a program.

    Raises:
        Missing: it says of one that it is not found.
    """
    found = set()
    for line in text.splitlines():
        name, _, where = line.strip().partition(" => ")
        if where.startswith("not found"):
            raise Missing(f"{program} wants {name}, which is not on this system")
        path = (where or name).partition(" (")[0]
        if path.startswith("/"):
            found.add(Path(path))
    return found


def fill(root: Path) -> None:
    """Python with its library, what they link, certificates, users, and dpkg's records of all that is Debian's."""
    interpreter = ship(Path(getattr(sys, "_base_executable", sys.executable)), root)
    # The name a virtual environment links to.
    ship(interpreter.parent / f"python{sys.version_info.major}.{sys.version_info.minor}", root)
    library = Path(sysconfig.get_path("stdlib", vars={"base": sys.base_prefix, "installed_base": sys.base_prefix}))
    for path in shipped_library(library):
        ship(path, root)

    cache = subprocess.run(["/sbin/ldconfig", "-p"], capture_output=True, text=True, check=True).stdout
    for path in expected_libraries(cache):
        ship(path, root)
    for program in [interpreter, *(Path("/") / path.relative_to(root) for path in natives(root))]:
        for path in linked(program):
            ship(path, root)
    # Where libraries lie beside the linker's own folders; a name in it without its file harms nobody.
    ship(Path("/etc/ld.so.cache"), root)

    _certificates(root)
    ship(Path("/etc/os-release"), root)
    ship(Path("/etc/debian_version"), root)
    _write(root / "etc/passwd", USERS)
    _write(root / "etc/group", GROUPS)
    _write(root / "etc/nsswitch.conf", NSSWITCH)
    # The hour of the processes; the zones themselves are in the package tzdata.
    _write(root / "etc/timezone", "Etc/UTC\n")
    for folder in ("run", "var/lib", "var/tmp", "proc", "sys", "dev"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    (root / "tmp").mkdir()
    (root / "tmp").chmod(0o1777)
    record_packages(root)

    # The official image ships its library without bytecode: each start would compile it anew on a read-only file
    # system. By content and not by date, since dates do not outlive every registry.
    if not compileall.compile_dir(
        root / library.relative_to("/"),
        stripdir=str(root),
        quiet=1,
        force=True,
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    ):
        raise Missing("a part of the standard library cannot be compiled")


def shipped_library(library: Path) -> Iterator[Path]:
    """The files of a standard library that a service may import."""
    for folder, folders, files in os.walk(library):
        folders[:] = sorted(name for name in folders if not _left_out(name))
        for name in sorted(files):
            if not _left_out(name):
                yield Path(folder) / name


def _left_out(name: str) -> bool:
    return name in NOT_SHIPPED or NOT_SHIPPED_NAME.fullmatch(name) is not None


def expected_libraries(cache: str) -> list[Path]:
    """Where `ldconfig -p` says that the libraries lie which wheels may expect.

    Raises:
        Missing: one of them is not there; only those of glibc's past may be absent.
    """
    known: dict[str, Path] = {}
    for line in cache.splitlines():
        name, _, where = line.strip().partition(" => ")
        known.setdefault(name.partition(" ")[0], Path(where))
    missing = [name for name in EXPECTED_BY_WHEELS if name not in known and not name.startswith("libnss_")]
    if missing:
        raise Missing(f"{', '.join(missing)}: wheels may expect it, and it is not on this system")
    return [known[name] for name in EXPECTED_BY_WHEELS if name in known]


def _certificates(root: Path) -> None:
    """The authorities as one file, where the TLS of this Python looks, and the settings Debian gives it."""
    where = ssl.get_default_verify_paths()
    bundle = Path(where.openssl_capath) / "ca-certificates.crt"
    ship(bundle, root)
    expected = Path(where.openssl_cafile)
    if not (root / expected.relative_to("/")).exists():
        copy = root / expected.relative_to("/")
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.symlink_to(bundle)
    settings = expected.parent / "openssl.cnf"
    if settings.exists():
        ship(settings, root)


def record_packages(root: Path, *, system: Path = Path("/")) -> None:
    """What dpkg says of the packages of which a file was shipped, and their licences, so that both can be found again.

    One file for each in `var/lib/dpkg/status.d`, which scanners read, and the list of the files that are here.
    """
    owners = _owners(system)
    shipped: dict[str, list[str]] = {}
    for path in sorted(root.rglob("*")):
        inside = f"/{path.relative_to(root)}"
        if not path.is_dir() and inside in owners:
            shipped.setdefault(owners[inside], []).append(inside)
    # The authorities' file is made when the package is installed, so that dpkg does not list it.
    if (root / "etc/ssl/certs/ca-certificates.crt").exists() and "ca-certificates" in owners.values():
        shipped["ca-certificates"] = ["/etc/ssl/certs/ca-certificates.crt"]
    if not shipped:
        raise Missing(f"{system / DPKG} knows none of the files: the base image has to be Debian's or made of it")
    stanzas = {
        f"{_field(stanza, 'Package')}:{_field(stanza, 'Architecture')}": stanza
        for stanza in (system / DPKG / "status").read_text(encoding="utf-8").split("\n\n")
        if stanza.strip()
    }
    for owner, files in shipped.items():
        name, _, architecture = owner.partition(":")
        # The list of a package that is there once only is named without the architecture.
        (stanza,) = [
            text
            for key, text in stanzas.items()
            if key.partition(":")[0] == name and architecture in {"", key.partition(":")[2]}
        ]
        _write(root / DPKG / "status.d" / name, stanza.strip() + "\n")
        _write(root / DPKG / "info" / f"{owner}.list", "".join(f"{path}\n" for path in files))
        ship(system / "usr/share/doc" / name / "copyright", root, system=system)


def _owners(system: Path) -> dict[str, str]:
    """The package of each file, by where it really lies: dpkg knows libraries in /lib, which is a link to /usr/lib."""
    folders: dict[str, str] = {}
    owners = {}
    for listing in (system / DPKG / "info").glob("*.list"):
        for line in listing.read_text(encoding="utf-8").splitlines():
            folder, _, name = line.rpartition("/")
            if folder not in folders:
                real = (system / folder.lstrip("/")).resolve()
                folders[folder] = f"/{real.relative_to(system.resolve())}".rstrip("/.")
            owners[f"{folders[folder]}/{name}"] = listing.stem
    return owners


def _field(stanza: str, name: str) -> str:
    found = re.search(rf"^{name}: (.*)$", stanza, re.MULTILINE)
    return found.group(1) if found else ""


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def check(
    root: Path, folders: Iterable[Path], *, libraries_of: Callable[[Path], set[Path]] = linked
) -> list[tuple[Path, Path]]:
    """What the folders lead to and neither holds: libraries of what is native, and where links end; empty is right."""
    own = [folder.resolve() for folder in folders]
    ways = [(program, library) for folder in own for program in natives(folder) for library in libraries_of(program)]
    ways += [(link, link) for folder in own for link in folder.rglob("*") if link.is_symlink()]
    return [
        (origin, end)
        for origin, end in sorted(ways)
        if not any(end.resolve().is_relative_to(one) for one in own)
        and not (root / end.resolve().relative_to("/")).is_file()
    ]


def main(arguments: list[str]) -> int:
    match arguments:
        case ["fill", root]:
            fill(Path(root))
        case ["check", root, _, *_]:
            missing = check(Path(root), [Path(folder) for folder in arguments[2:]])
            for program, library in missing:
                sys.stderr.write(f"{program} needs {library.resolve()}, which is not in {root}\n")
            return 1 if missing else 0
        case _:
            sys.stderr.write(__doc__ or "")
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
