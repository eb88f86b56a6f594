"""What the images stand on is copied with nothing missing: `services/image_root.py`, tried on small trees."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from tests.settings import REPOSITORY


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("image_root", REPOSITORY / "services" / "image_root.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


image_root = _load()


@pytest.fixture
def system(tmp_path: Path) -> Path:
    """A Debian in small: /lib is a link, and so is a library's short name; two packages, one of them shipped."""
    system = tmp_path / "system"
    libraries = system / "usr/lib/x86_64-linux-gnu"
    libraries.mkdir(parents=True)
    (system / "lib").symlink_to("usr/lib")
    (libraries / "libz.so.1.2").write_bytes(b"\x7fELF z")
    (libraries / "libz.so.1").symlink_to("libz.so.1.2")
    (system / "bin").mkdir()
    (system / "bin/awk").symlink_to("/usr/lib/x86_64-linux-gnu/libz.so.1")
    info = system / "var/lib/dpkg/info"
    info.mkdir(parents=True)
    # As dpkg has it: by the folder the package was made for, not by where that leads today.
    (info / "zlib1g:amd64.list").write_text(
        "/lib\n/lib/x86_64-linux-gnu/libz.so.1\n/lib/x86_64-linux-gnu/libz.so.1.2\n"
    )
    (info / "dash.list").write_text("/bin/sh\n")
    (system / "var/lib/dpkg/status").write_text(
        "Package: dash\nArchitecture: amd64\nVersion: 1\n\n"
        "Package: zlib1g\nArchitecture: i386\nVersion: 8\n\n"
        "Package: zlib1g\nArchitecture: amd64\nVersion: 9\n"
    )
    for name in ("zlib1g", "dash"):
        (system / "usr/share/doc" / name).mkdir(parents=True)
        (system / "usr/share/doc" / name / "copyright").write_text(f"licence of {name}\n")
    return system


def _files(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_symlink() or path.is_file()}


def test_a_file_is_shipped_with_every_link_on_the_way_to_it(system: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    real = image_root.ship(system / "lib/x86_64-linux-gnu/libz.so.1", root, system=system)
    assert real == system / "usr/lib/x86_64-linux-gnu/libz.so.1.2"
    assert _files(root) == {"lib", "usr/lib/x86_64-linux-gnu/libz.so.1", "usr/lib/x86_64-linux-gnu/libz.so.1.2"}
    assert (root / "lib/x86_64-linux-gnu/libz.so.1").read_bytes() == b"\x7fELF z"


def test_an_absolute_link_leads_to_the_same_place_in_the_image(system: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    image_root.ship(system / "bin/awk", root, system=system)
    assert (root / "bin/awk").readlink() == Path("/usr/lib/x86_64-linux-gnu/libz.so.1")
    assert (root / "usr/lib/x86_64-linux-gnu/libz.so.1.2").is_file()


def test_what_is_not_there_is_said_and_not_left_out(system: Path, tmp_path: Path) -> None:
    (system / "usr/lib/gone.so").symlink_to("gone.so.1")
    for name in ("usr/lib/nothing.so", "usr/lib/gone.so"):
        with pytest.raises(image_root.Missing, match=name):
            image_root.ship(system / name, tmp_path / "root", system=system)


def test_each_shipped_file_keeps_its_package_and_licence_and_no_other_package_is_told(
    system: Path, tmp_path: Path
) -> None:
    root = tmp_path / "root"
    image_root.ship(system / "lib/x86_64-linux-gnu/libz.so.1", root, system=system)
    image_root.record_packages(root, system=system)
    records = root / "var/lib/dpkg"
    assert [path.name for path in (records / "status.d").iterdir()] == ["zlib1g"]
    assert "Architecture: amd64\nVersion: 9\n" in (records / "status.d/zlib1g").read_text()
    assert (records / "info/zlib1g:amd64.list").read_text().splitlines() == [
        "/usr/lib/x86_64-linux-gnu/libz.so.1",
        "/usr/lib/x86_64-linux-gnu/libz.so.1.2",
    ]
    assert (root / "usr/share/doc/zlib1g/copyright").read_text() == "licence of zlib1g\n"


def test_a_base_that_dpkg_does_not_know_is_refused(system: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "opt").mkdir(parents=True)
    (root / "opt/python").write_text("not Debian's")
    with pytest.raises(image_root.Missing, match="has to be Debian's"):
        image_root.record_packages(root, system=system)


def test_a_library_that_the_linker_does_not_find_fails_the_build() -> None:
    said = "\tlinux-vdso.so.1 (0x00007ffe)\n\tlibz.so.1 => /lib/libz.so.1 (0x00007f)\n\t/lib64/ld.so.2 (0x00007f)\n"
    assert image_root.read_ldd(Path("/x.so"), said) == {Path("/lib/libz.so.1"), Path("/lib64/ld.so.2")}
    with pytest.raises(image_root.Missing, match=r"/x\.so wants libtk\.so"):
        image_root.read_ldd(Path("/x.so"), said + "\tlibtk.so => not found\n")


def test_a_wheel_that_wants_more_than_the_image_has_fails_the_build(tmp_path: Path) -> None:
    """Or the first request that needs it would."""
    packages, root, elsewhere = tmp_path / "packages", tmp_path / "root", tmp_path / "elsewhere"
    for path in (packages / "fast.so", packages / "libs/libown.so", elsewhere / "libz.so", elsewhere / "libkrb5.so"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"\x7fELF")
    (packages / "notes.so").write_text("not native")
    (packages / "python").symlink_to(elsewhere / "libkrb5.so")
    shipped = root / elsewhere.relative_to("/") / "libz.so"
    shipped.parent.mkdir(parents=True)
    shipped.write_bytes(b"\x7fELF")

    def libraries_of(program: Path) -> set[Path]:
        assert program.name != "notes.so"
        return {packages / "libs/libown.so", elsewhere / "libz.so", elsewhere / "libkrb5.so"} - {program}

    found = image_root.check(root, [packages], libraries_of=libraries_of)
    assert found == [
        (packages / "fast.so", elsewhere / "libkrb5.so"),
        (packages / "libs/libown.so", elsewhere / "libkrb5.so"),
        (packages / "python", packages / "python"),
    ]


def test_only_what_a_service_may_import_is_shipped_of_the_standard_library(tmp_path: Path) -> None:
    kept = {"os.py", "json/decoder.py", "lib-dynload/_ssl.cpython-311-x86_64-linux-gnu.so", "LICENSE.txt"}
    left = {
        "test/test_os.py",
        "unittest/test/testmock/testmock.py",
        "config-3.11-x86_64-linux-gnu/libpython3.11.a",
        "ensurepip/_bundled/pip.whl",
        "site-packages/pip/__init__.py",
        "json/__pycache__/decoder.cpython-311.pyc",
        "lib-dynload/_testcapi.cpython-311-x86_64-linux-gnu.so",
        "lib-dynload/_tkinter.cpython-311-x86_64-linux-gnu.so",
    }
    for name in kept | left:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    assert {str(path.relative_to(tmp_path)) for path in image_root.shipped_library(tmp_path)} == kept


def test_a_library_that_wheels_may_expect_is_not_forgotten() -> None:
    cache = "".join(f"\t{name} (libc6,x86-64) => /lib/{name}\n" for name in image_root.EXPECTED_BY_WHEELS)
    assert image_root.expected_libraries(cache) == [Path("/lib") / name for name in image_root.EXPECTED_BY_WHEELS]
    with pytest.raises(image_root.Missing, match="libstdc"):
        image_root.expected_libraries(cache.replace("libstdc++", "libother"))
