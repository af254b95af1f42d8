"""Damaged bytes are found wherever the damage happens, and a disk that fails leaves what was there."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

from support.loopback_hub import LoopbackHub
from support.pulling import REPOSITORY, World, contents, registry_text, world
from zoo.checkpoints.listing import leftovers
from zoo.checkpoints.places import cached_path
from zoo.checkpoints.pruning import remove, verify
from zoo.checkpoints.records import make_record, write_record
from zoo.checkpoints.resolver import locate_artifact
from zoo.download import fetch
from zoo.errors import IntegrityError, OutputError, ZooError
from zoo.registry import parse_registry
from zoo.runner.runner import open_runner

FILES = ["zoo.json", "README.md", "golden.safetensors", "metrics.json", "model.onnx", "model.safetensors",
         "recipe.toml", "sample.png"]  # fmt: skip


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with LoopbackHub() as hub:
        yield world(hub, tmp_path, monkeypatch)


def flipped(content: bytes, bit: int) -> bytes:
    altered = bytearray(content)
    altered[bit // 8] ^= 1 << bit % 8
    return bytes(altered)


def rot(here: World, folder: Path, name: str, content: bytes) -> None:
    """Put other content into a cached file as a failing disk does: it looks as it did when it was verified."""
    (folder / name).write_bytes(content)
    write_record(make_record(here.checkpoint, folder, frozenset(here.files), ""))


def bits(here: World, count: int) -> Iterator[tuple[str, int]]:
    """`count` bits, in each of the files in turn."""
    chance = random.Random(count)
    for number in range(count):
        name = FILES[number % len(FILES)]
        yield name, chance.randrange(8 * len(here.files[name]))


def flip_in_transit(here: World, count: int) -> int:
    """Pull while a bit is inverted on its way; how often that was found and nothing installed."""
    found = 0
    for name, bit in bits(here, count):
        shutil.rmtree(here.cache, ignore_errors=True)  # or what came whole before would not come again
        here.hub.fault("flip", path=f"*{name}", times=None, at=bit // 8)
        with pytest.raises(IntegrityError, match=name.replace(".", r"\.")):
            here.pull(out=here.root / "out")
        here.hub.faults.clear()
        found += not (here.root / "out").exists()
    return found


def flip_in_cache(here: World, count: int) -> int:
    """Invert a bit of a cached file; how often its use was refused."""
    folder = here.pull().path
    found = 0
    for name, bit in bits(here, count):
        (folder / name).write_bytes(flipped(here.files[name], bit))
        with pytest.raises(IntegrityError, match=name.replace(".", r"\.")):
            locate_artifact("small").verify()
        (folder / name).write_bytes(here.files[name])
        found += 1
    locate_artifact("small").verify()
    return found


def test_a_bit_that_flips_in_transit_is_found_in_each_kind_of_file(here: World) -> None:
    assert flip_in_transit(here, 2 * len(FILES)) == 2 * len(FILES)


def test_a_bit_that_flips_in_the_cache_is_found_in_each_kind_of_file_before_it_is_used(here: World) -> None:
    assert flip_in_cache(here, 5 * len(FILES)) == 5 * len(FILES)


def test_a_bit_that_flips_in_any_file_or_in_the_listing_of_what_no_registry_pins_alters_nothing(
    here: World,
) -> None:
    name, chance = f"{REPOSITORY}@{here.commit}", random.Random(3)
    for file, bit in bits(here, 2 * len(FILES)):
        shutil.rmtree(here.cache, ignore_errors=True)
        here.hub.fault("flip", path=f"*{file}", times=None, at=bit // 8)
        with pytest.raises(IntegrityError, match=file.replace(".", r"\.")):
            here.pull(name, known={}, out=here.root / "out")
        here.hub.faults.clear()
    path = f"/api/models/{REPOSITORY}/tree/{here.commit}"
    asked = Request(
        f"{here.hub.url}{path}?recursive=true", headers={"Authorization": f"Bearer {here.hub.token}"}
    )
    with urlopen(asked) as answer:
        listing = answer.read()
    for _ in range(20):
        shutil.rmtree(here.cache, ignore_errors=True)
        body = flipped(listing, chance.randrange(8 * len(listing)))
        here.hub.fault("status", path=path, times=None, code=200, body=body)
        with contextlib.suppress(ZooError):  # dates and the like are of no account
            assert here.is_right(here.pull(name, known={}).path)
        here.hub.faults.clear()
    assert not (here.root / "out").exists()


@pytest.mark.long
def test_every_bit_of_a_manifest_that_flips_on_its_way_is_found_without_a_registry(here: World) -> None:
    name = f"{REPOSITORY}@{here.commit}"
    for at in range(0, len(here.files["zoo.json"]), 7):
        here.hub.fault("flip", path="*zoo.json", times=None, at=at)
        with pytest.raises(IntegrityError, match=r"zoo\.json is not the file that the Hub states"):
            here.pull(name, known={}, out=here.root / "out")
        here.hub.faults.clear()
    assert not (here.root / "out").exists()


def test_of_a_thousand_bits_that_flip_in_transit_and_a_thousand_in_the_cache_all_are_found(
    here: World,
) -> None:
    assert flip_in_transit(here, 1000) == 1000
    assert flip_in_cache(here, 1000) == 1000


@pytest.mark.parametrize("name", FILES)
def test_a_cached_file_that_was_written_to_is_mended_by_the_next_pull(here: World, name: str) -> None:
    pulled = here.pull()
    (pulled.path / name).write_bytes(flipped(here.files[name], 7))
    asked = here.asked(name)
    others = {each: here.asked(each) for each in FILES if each != name}
    assert here.pull().fresh
    assert here.is_right(pulled.path)
    assert here.asked(name) == asked + 1
    # What is still whole is not fetched again.
    assert {each: here.asked(each) for each in others} == others
    assert not here.pull().fresh


def test_what_a_failing_disk_altered_is_refused_at_use_and_mended_by_the_next_pull(here: World) -> None:
    folder = here.pull().path
    rot(here, folder, "model.onnx", flipped(here.files["model.onnx"], 999))
    assert not here.pull().fresh  # it looks untouched
    with pytest.raises(IntegrityError, match=r"model\.onnx"):
        open_runner("small")
    assert here.pull().fresh
    assert here.is_right(folder)


def test_verifying_the_cache_finds_what_a_failing_disk_altered_and_sets_it_aside(here: World) -> None:
    folder = here.pull().path
    assert [each.problem for each in verify()] == [""]
    rot(here, folder, "sample.png", flipped(here.files["sample.png"], 99))
    (checked,) = verify()
    assert "sample.png" in checked.problem
    assert checked.moved is not None
    assert checked.moved.is_dir()
    assert not folder.exists()
    assert here.pull().fresh


def lengths(size: int) -> list[int]:
    """Every 4 kB, and each of the last 64 bytes."""
    return sorted({*range(0, size, 4096), *range(max(0, size - 64), size)})


def test_every_truncation_on_a_server_is_refused(here: World) -> None:
    size = len(here.files["model.safetensors"])
    cuts = [cut for cut in lengths(size) if cut % 4096 == 0 or size - cut in (1, 2, 64)]
    for cut in cuts:
        here.hub.fault("shorten", path="*model.safetensors", times=None, at=cut)
        with pytest.raises(IntegrityError, match=r"model\.safetensors is not the file that is pinned"):
            here.pull(out=here.root / "out")
        here.hub.faults.clear()
        assert not (here.root / "out").exists()
    assert len(cuts) > 10


@pytest.mark.parametrize("name", FILES)
def test_every_truncation_in_a_folder_is_refused(here: World, name: str) -> None:
    text = registry_text(here.root, f"file:{here.root}/made")
    known = parse_registry(text.encode(), "r.toml")
    for cut in lengths(len(here.files[name])):
        (here.root / "made" / name).write_bytes(here.files[name][:cut])
        with pytest.raises(IntegrityError, match="it is shorter"):
            here.pull(out=here.root / "out", known=known)
        assert not (here.root / "out").exists()


def test_every_truncation_in_the_cache_is_found_before_use(here: World) -> None:
    folder = here.pull().path
    for name in FILES:
        for cut in lengths(len(here.files[name])):
            (folder / name).write_bytes(here.files[name][:cut])
            with pytest.raises(IntegrityError, match=name.replace(".", r"\.")):
                locate_artifact("small").verify()
        (folder / name).write_bytes(here.files[name])


# ------------------------------------------------------------------------------------------ disks that fail


class FailingDisk:
    """Lets one call into the system fail, the `at`-th that would change something below `root`."""

    CALLS = ("open", "write", "fsync", "link", "rename", "replace", "mkdir", "unlink", "rmdir")

    def __init__(self, patch: pytest.MonkeyPatch, root: Path, at: int, code: int) -> None:
        self.root, self.at, self.code = str(root), at, code
        self.count = 0
        self.struck = ""
        self.descriptors: set[int] = set()
        for name in self.CALLS:
            patch.setattr(os, name, self._guard(name, getattr(os, name)))

    def _guard(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def guarded(*args: Any, **options: Any) -> Any:
            if self._concerns(name, args):
                self.count += 1
                if self.count == self.at:
                    self.struck = f"{name} {args[-1] if name in ('link', 'rename', 'replace') else args[0]}"
                    raise OSError(self.code, os.strerror(self.code))
            result = call(*args, **options)
            if name == "open" and self._concerns("open", args):
                self.descriptors.add(result)
            return result

        return guarded

    def _concerns(self, name: str, args: tuple[Any, ...]) -> bool:
        if name in ("write", "fsync"):
            return args[0] in self.descriptors
        if name == "open" and not args[1] & (os.O_WRONLY | os.O_RDWR):
            return False
        return any(str(each).startswith(self.root) for each in args[:2])


@pytest.mark.parametrize("placed", ["cache", "out"])
def test_whichever_write_fails_the_old_version_stays_and_the_error_names_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, placed: str
) -> None:
    with LoopbackHub() as hub:
        here = world(hub, tmp_path, monkeypatch, extras={})
    known = parse_registry(registry_text(here.root, f"file:{here.root}/made").encode(), "r.toml")
    out = here.root / "out" if placed == "out" else None
    target = out or cached_path(here.checkpoint)
    codes = (errno.ENOSPC, errno.EIO, errno.EACCES)
    struck = set()
    for at in range(1, 200):
        shutil.rmtree(here.cache, ignore_errors=True)
        shutil.rmtree(target, ignore_errors=True)
        before: dict[str, bytes] = {}
        if out is None:
            before["zoo.json"] = b"an old version"
            target.mkdir(parents=True)
            (target / "zoo.json").write_bytes(before["zoo.json"])
        error = None
        with monkeypatch.context() as patch:
            disk = FailingDisk(patch, here.root, at, codes[at % len(codes)])
            try:
                here.pull(out=out, known=known)
            except OutputError as caught:
                error = caught
        if not disk.struck:
            break
        struck.add(disk.struck.partition(" ")[0])
        assert error is None or str(here.root) in error.message
        # What fails after the installation, or is not needed for it, does not undo it.
        expected = here.files if error is None else before
        assert (contents(target) if target.exists() else {}) == expected, disk.struck
        assert here.pull(out=out, known=known).fresh == (error is not None)
        assert here.is_right(target)
        if disk.struck.startswith(("unlink", "rmdir")):  # what could not be removed is left to prune
            assert all(remove(each) for each in leftovers())
        here.assert_no_orphans()
    assert not disk.struck
    assert {"open", "write", "fsync", "mkdir", "link"} <= struck


def test_a_full_disk_is_reported_before_anything_is_fetched(
    here: World, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZOO_CACHE", str(small_disk / "cache"))
    with pytest.raises(OutputError, match=r"small needs 1\.\d MB, and 0\.\d MB are free") as caught:
        here.pull()
    assert "zoo cache prune" in (caught.value.hint or "")
    assert here.asked("model.onnx") == 0


def test_a_disk_that_fills_up_meanwhile_is_reported_and_the_pull_goes_on_later(
    here: World, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZOO_CACHE", str(small_disk / "cache"))
    monkeypatch.setattr(fetch, "_SPARE", -(10**9))
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(150_000))
    with pytest.raises(OutputError, match=rf"Cannot write {small_disk}.*no space is left"):
        here.pull()
    ballast.unlink()
    assert here.is_right(here.pull().path)
    assert any("range" in each.headers for each in here.hub.asked())


def test_another_file_system_gets_a_copy(
    here: World, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(OutputError, match="MB are free"):
        here.pull(out=small_disk / "out")
    monkeypatch.setattr(fetch, "_SPARE", 0)
    assert here.is_right(here.pull(out=small_disk / "out").path)
    here.assert_no_orphans()


def test_a_cache_that_may_not_be_written_to_is_named(here: World) -> None:
    """By a process without root's rights."""
    here.cache.mkdir()
    here.cache.chmod(0o500)
    here.root.chmod(0o711)
    code = """
import difflib, zoo.download.fetch  # while its modules can be read
if os.geteuid() == 0:
    os.setuid(65534)
try:
    pull("small", known=known)
except Exception as error:
    print(type(error).__name__, error)
"""
    process = here.start(code)
    out, err = process.communicate()
    assert out.startswith(f"OutputError Cannot write {here.cache}"), out + err
    assert "permission denied" in out
