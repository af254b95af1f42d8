"""Debian packages and wheels for aarch64, fetched into a folder; the system's own packages are left alone.

apt-get is given a folder for everything that it writes, in which no package counts as installed: it then fetches
what Python needs down to the C library, for an architecture that the system's dpkg need not know.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterable
from email import message_from_bytes
from pathlib import Path

from packaging.requirements import Requirement

from aarch64 import Unavailable

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
#: Debian 12's, whose versions the files of pins are for.
PYTHON = "python3.11"
_GUEST = (f"{PYTHON}-minimal", f"lib{PYTHON}-stdlib", "libgomp1", "libstdc++6")
_EMULATOR = "qemu-user-static:amd64"
EMULATOR = "usr/bin/qemu-aarch64-static"
#: What these boards can take: glibc 2.28 is older than every system that Python 3.11 is found on.
_PLATFORMS = (
    "manylinux_2_28_aarch64",
    "manylinux_2_27_aarch64",
    "manylinux_2_17_aarch64",
    "manylinux2014_aarch64",
)
_WHEELS = (
    "--only-binary=:all:", "--implementation", "cp", "--python-version", PYTHON.removeprefix("python"),
    "--abi", "cp311", "--abi", "abi3", "--abi", "none",
    *(word for platform in (*_PLATFORMS, "any") for word in ("--platform", platform)),
)  # fmt: skip
#: Nothing is left in the user's folders either.
_PIP = {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_ROOT_USER_ACTION": "ignore", "PIP_NO_CACHE_DIR": "1"}
#: Read after all that the system configures: no hook of the system's runs, and nothing is written elsewhere.
_APT = """\
{include}
#clear APT::Architectures;
#clear APT::Update;
#clear DPkg;
APT::Architecture "arm64";
APT::Architectures {{ "arm64"; "amd64"; }};
APT::Install-Recommends "false";
APT::Sandbox::User "";
Acquire::Languages "none";
Acquire::Retries "1";
Dir::State "{folder}/state";
Dir::State::status "{folder}/state/status";
Dir::Cache "{folder}/cache";
Dir::Log "{folder}/log";
{sources}
"""
_PERSONAL_SOURCES = 'Dir::Etc::sourcelist "{path}";\nDir::Etc::sourceparts "/dev/null";'


def debian(folder: Path, sources: Path | None = None) -> Path:
    """A folder with `guest`, the root of Debian's Python for aarch64, and `host` with the emulator; made once.

    sources: a list of apt sources that takes the place of the system's. Raises Unavailable.
    """
    return once(folder, "debian", (*_GUEST, _EMULATOR), lambda target: _unpack(target, sources))


def built_wheel(folder: Path) -> Path:
    """This project's wheel as it is now. Raises Unavailable if what builds it cannot be had."""
    tools = once(
        folder, "build", ("hatchling",), lambda to: _pip("install", "--target", str(to), "hatchling")
    )
    target = folder / "wheel"
    shutil.rmtree(target, ignore_errors=True)
    # With the tools at hand no registry is asked: what fails now is the project's own fault.
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", target, ROOT],
        check=True, env={**os.environ, **_PIP, "PYTHONPATH": str(tools)},
    )  # fmt: skip
    (wheel,) = target.glob("*.whl")
    return wheel


def base_install(folder: Path, wheel: Path) -> tuple[Path, ...]:
    """Folders for the module path: what the wheel holds, and what it requires with its extra `cpu`, pinned.

    Raises Unavailable.
    """
    ours = folder / "zoo"
    shutil.rmtree(ours, ignore_errors=True)
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(ours)
        name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        requires = message_from_bytes(archive.read(name)).get_all("Requires-Dist", [])
    # pip goes by this machine where a requirement is for some machines only.
    there = {"extra": "cpu", "platform_machine": "aarch64", "python_version": PYTHON.removeprefix("python")}
    parsed = [Requirement(each) for each in requires]
    wanted = [
        f"{each.name}{each.specifier}" for each in parsed if not each.marker or each.marker.evaluate(there)
    ]
    pins = HERE / "base.txt"
    theirs = once(
        folder,
        "base",
        (pins.read_text(), *wanted),
        lambda target: _pip(
            "install", *_WHEELS, "--target", str(target), "--constraint", str(pins),
            *wanted,
        ),
    )  # fmt: skip
    return ours, theirs


def onnxruntime(folder: Path, version: str) -> Path:
    """Another version of ONNX Runtime, to be put before the base install's. Raises Unavailable."""
    what = (f"onnxruntime=={version}",)
    return once(
        folder, f"onnxruntime-{version}", what,
        lambda to: _pip("install", *_WHEELS, "--no-deps", "--target", str(to), *what),
    )  # fmt: skip


def test_tools(folder: Path) -> Path:
    """What the tests need besides: no part of the base install. Raises Unavailable."""
    pins = HERE / "tools.txt"
    return once(
        folder,
        "tools",
        (pins.read_text(),),
        lambda to: _pip("install", *_WHEELS, "--no-deps", "--target", str(to), "--requirement", str(pins)),
    )


def once(folder: Path, name: str, what: Iterable[str], make: Callable[[Path], object]) -> Path:
    """The folder NAME-HASH, which `make` fills unless it is there; those of other contents are removed."""
    key = hashlib.sha256("\n".join((*what, *_WHEELS)).encode()).hexdigest()[:12]
    target = folder / f"{name}-{key}"
    if not target.is_dir():
        for old in folder.glob(f"{name}-*"):
            shutil.rmtree(old)
        unfinished = folder / f"{name}-unfinished"
        unfinished.mkdir(parents=True)  # what an interrupted run left is among the old ones
        make(unfinished)
        unfinished.rename(target)
    return target


def _unpack(target: Path, sources: Path | None) -> None:
    if platform.machine() != "x86_64":
        raise Unavailable(f"this is for x86-64, not {platform.machine()}")
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise Unavailable("there is no apt-get here; Debian's packages are what this is made of")
    apt = target / "apt"
    for part in ("state/lists/partial", "cache/archives/partial", "log"):
        (apt / part).mkdir(parents=True)
    (apt / "state" / "status").touch()
    system = Path("/etc/apt/apt.conf")
    (apt / "last.conf").write_text(
        _APT.format(
            folder=apt,
            include=f'#include "{system}"' if system.exists() else "",
            sources=_PERSONAL_SOURCES.format(path=sources.resolve()) if sources else "",
        )
    )
    (apt / "first.conf").write_text(f'Dir::Etc::main "{apt}/last.conf";\n')
    environment = {**os.environ, "APT_CONFIG": str(apt / "first.conf"), "LC_ALL": "C"}
    # A list that cannot be had is only warned of: it may be one of which nothing is needed.
    warnings = _fetch(["apt-get", "-q", "update"], environment)
    _fetch(["apt-get", "-q", "-y", "--download-only", "install", *_GUEST, _EMULATOR], environment, warnings)
    for name in ("guest", "host"):
        (target / name).mkdir()
    for package in sorted((apt / "cache" / "archives").glob("*.deb")):
        # The emulator's package holds dozens of others, of a gigabyte.
        host = package.name.startswith("qemu-")
        contents = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", package], stdout=subprocess.PIPE)
        what = [f"./{EMULATOR}"] if host else []
        subprocess.run(
            ["tar", "-x", "--no-same-owner", "-C", target / ("host" if host else "guest"), *what],
            stdin=contents.stdout, check=True,
        )  # fmt: skip
        if contents.wait():
            raise Unavailable(f"{package.name} is damaged")
    shutil.rmtree(apt)


def _pip(*arguments: str) -> None:
    _fetch([sys.executable, "-m", "pip", *arguments, "--quiet", "--retries", "1"], {**os.environ, **_PIP})


def _fetch(command: list[str], environment: dict[str, str], before: str = "") -> str:
    """Run a package client; what it complained of. Raises Unavailable with it, after `before`, if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        said = [line for line in (before + done.stderr).splitlines() if not line.startswith("WARNING")]
        raise Unavailable(
            f"{' '.join(command[:4])} ... failed: " + " / ".join(line for line in said[:4] if line)
        )
    return done.stderr
