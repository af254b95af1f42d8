"""Whatever a server does: the right bytes, or an error of the project and nothing installed."""

from __future__ import annotations

import random
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.loopback_hub import LoopbackHub
from support.pulling import QUICK, REPOSITORY, Notes, World, registry_text, world
from zoo.checkpoints.places import partial_path
from zoo.download.retry import RetryLimits
from zoo.errors import IntegrityError, NetworkError, UsageError
from zoo.registry import parse_registry

MODEL = "*model.safetensors"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with LoopbackHub() as hub:
        yield world(hub, tmp_path, monkeypatch)


def leave_partial(here: World, name: str, content: bytes) -> None:
    """What a killed pull leaves of a file."""
    path = partial_path(here.checkpoint.files[name].sha256)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def test_a_pull_gives_the_pinned_bytes_and_shows_the_token_to_the_hub_only(here: World) -> None:
    pulled = here.pull()
    assert pulled.fresh
    assert here.is_right(pulled.path)
    assert not here.hub.leaks()
    assert all("authorization" in each.headers for each in here.hub.asked(host="hub"))
    here.assert_no_orphans()


def test_files_that_the_hub_gives_by_way_of_its_own_cache_are_pulled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with LoopbackHub(resolve_cache=True) as hub:
        here = world(hub, tmp_path, monkeypatch)
        hub.repos[REPOSITORY].private = True
        assert here.is_right(here.pull().path)
        assert hub.asked("/api/resolve-cache/*")


PASSING = [
    "truncate",
    "break",
    "stall",
    "reset",
    "status",
    "no-length",
    "gzip",
    "delay",
    "lost-answer",
    "bad-etag",
]


@pytest.mark.parametrize("kind", PASSING)
def test_a_fault_that_passes_is_overcome(here: World, kind: str) -> None:
    options: dict[str, Any] = (
        {"seconds": 0.6 if kind == "stall" else 0.1} if kind in ("stall", "delay") else {}
    )
    fault = here.hub.fault(kind, path=MODEL, times=2, **options)
    notes = Notes()
    pulled = here.pull(reporter=notes)
    assert fault.hits
    assert here.is_right(pulled.path)
    assert notes.done == notes.total == sum(map(len, here.files.values()))
    here.assert_no_orphans()


LASTING = ["flip", "shorten", "lengthen", "content-length", "endless", "stall", "trickle", "reset", "status", "416",
           "retry-after", "loop"]  # fmt: skip


@pytest.mark.parametrize("kind", LASTING)
def test_a_fault_that_lasts_ends_with_an_error_after_few_attempts_and_nothing_is_installed(
    here: World, kind: str
) -> None:
    if kind == "416":
        leave_partial(here, "model.safetensors", here.files["model.safetensors"][:1000])
        here.hub.fault("status", path=MODEL, times=None, when=lambda headers: "range" not in headers)
    here.hub.fault(kind, path=MODEL, times=None, **({"chunk": 100} if kind == "trickle" else {}))
    started = time.monotonic()
    with pytest.raises((IntegrityError, NetworkError)) as caught:
        here.pull(out=here.root / "out")
    assert time.monotonic() - started < 300
    assert "model.safetensors" in caught.value.message
    assert here.hub.token not in str(caught.value)
    assert "Signature" not in str(caught.value)
    assert 1 <= len(here.hub.asked(MODEL)) <= 2 * QUICK.most + 10
    here.assert_nothing_installed(here.root / "out")
    assert not here.hub.leaks()
    here.hub.faults.clear()
    assert here.is_right(here.pull(out=here.root / "out").path)
    here.assert_no_orphans()


@pytest.mark.parametrize("kind", ["wrong-range", "lying-range", "no-range", "416"])
@pytest.mark.parametrize("times", [1, None])
def test_a_server_that_is_wrong_about_ranges_costs_one_more_attempt(
    here: World, kind: str, times: int | None
) -> None:
    leave_partial(here, "model.safetensors", here.files["model.safetensors"][:12_345])
    fault = here.hub.fault(kind, path=MODEL, times=times)
    pulled = here.pull()
    assert fault.hits == 1
    assert here.is_right(pulled.path)
    assert len(here.hub.asked(MODEL, host="hub")) <= 2


def test_a_download_goes_on_where_it_ended_and_what_is_there_is_not_fetched_again(here: World) -> None:
    content = here.files["model.safetensors"]
    leave_partial(here, "model.safetensors", content[:20_000])
    leave_partial(here, "model.onnx", here.files["model.onnx"])
    notes = Notes()
    assert here.is_right(here.pull(reporter=notes).path)
    assert [each.headers["range"] for each in here.hub.asked(MODEL, host="storage")] == ["bytes=20000-"]
    assert here.asked("model.onnx") == 0
    assert notes.done == notes.total
    here.assert_no_orphans()


@pytest.mark.parametrize("damage", ["altered", "longer", "unrelated"])
def test_a_damaged_partial_file_is_fetched_once_more_from_its_beginning(here: World, damage: str) -> None:
    content = here.files["model.safetensors"]
    left = {
        "altered": content[:500] + bytes([content[500] ^ 1]) + content[501:9000],
        "longer": content + b"x",
        "unrelated": random.Random(1).randbytes(len(content)),
    }[damage]
    leave_partial(here, "model.safetensors", left)
    notes = Notes()
    assert here.is_right(here.pull(reporter=notes).path)
    assert notes.done == notes.total
    here.assert_no_orphans()


def test_content_that_changes_between_two_pieces_is_refused(here: World) -> None:
    leave_partial(here, "model.safetensors", here.files["model.safetensors"][:9000])
    here.hub.fault("flip", path=MODEL, times=None, at=10_000)
    with pytest.raises(IntegrityError, match="it is altered"):
        here.pull()
    here.assert_nothing_installed()


def test_a_redirect_to_another_host_gets_no_token_and_what_comes_from_there_is_verified(here: World) -> None:
    here.hub.fault("redirect", path=MODEL, times=None, host="hub")
    assert here.is_right(here.pull().path)
    assert here.hub.asked(host="elsewhere")
    assert not here.hub.leaks()
    here.hub.fault("redirect", path="*model.onnx", times=None, host="hub", body=b"evil")
    with pytest.raises(IntegrityError, match=r"model\.onnx"):
        here.pull(out=here.root / "out", name=f"{REPOSITORY}@{here.commit}", known={})
    assert not (here.root / "out").exists()


@pytest.mark.parametrize("seconds", [0, 0.7, 3600])
def test_a_servers_retry_after_is_honoured_up_to_a_limit(here: World, seconds: float) -> None:
    asks = int(seconds + 0.5) if seconds else 0
    here.hub.fault("retry-after", path=MODEL, times=1, seconds=asks)
    started = time.monotonic()
    if seconds == 3600:
        with pytest.raises(NetworkError, match="asks to wait for 3600 s"):
            here.pull()
        assert time.monotonic() - started < 300
    else:
        assert here.is_right(here.pull().path)
        assert time.monotonic() - started >= asks


def test_a_refusal_is_not_repeated_and_says_what_to_do(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    here.hub.repos[REPOSITORY].private = True
    monkeypatch.setenv("HF_TOKEN", "hf_" + "wrong" * 6)
    with pytest.raises(NetworkError, match=r"401 Unauthorized|404 Not Found"):
        here.pull()
    assert len(here.hub.asked()) == 1
    monkeypatch.setenv("HF_TOKEN", here.hub.token)
    assert here.is_right(here.pull().path)


def test_a_server_that_is_not_there_is_named(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
    monkeypatch.setenv("HF_ENDPOINT", address)
    with pytest.raises(NetworkError, match=address):
        here.pull()


def test_a_commit_is_what_it_was_whatever_becomes_of_tags_and_branches(here: World) -> None:
    newer = here.hub.commit(REPOSITORY, {**here.files, "model.onnx": b"newer"}, tag="v1")
    assert here.is_right(here.pull("small@v1").path)
    for moved in (newer, newer[:12], "v2", "main", ""):
        with pytest.raises(UsageError, match=f"pins 'small' at tag 'v1', commit {here.commit}"):
            here.pull(f"small@{moved}")


def test_another_repository_in_the_place_of_the_old_one_is_refused(here: World) -> None:
    here.hub.swap(REPOSITORY, {**here.files, "model.onnx": b"evil"})
    with pytest.raises(NetworkError, match="404"):
        here.pull()
    here.assert_nothing_installed()


def test_a_hub_that_answers_with_another_commit_is_refused(here: World) -> None:
    other = here.hub.commit(REPOSITORY, {**here.files, "README.md": b"other"})
    with here.hub.lock:
        here.hub.repos[REPOSITORY].tags[here.commit] = other
        here.hub.repos[REPOSITORY].find = lambda revision, find=here.hub.repos[REPOSITORY].find: find(other)
    with pytest.raises(IntegrityError, match=f"returned commit {other}"):
        here.pull()
    here.assert_nothing_installed()


def test_a_branch_or_tag_is_refused_with_the_command_that_pulls_its_commit(
    here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    newer = here.hub.commit(REPOSITORY, {"README.md": b"newer"})
    for name, commit in (
        (REPOSITORY, newer),
        (f"{REPOSITORY}@main", newer),
        (f"{REPOSITORY}@v1", here.commit),
    ):
        with pytest.raises(UsageError, match="can move") as caught:
            here.pull(name)
        assert caught.value.hint == f"Pull that commit:  zoo pull {REPOSITORY}@{commit}"
    with pytest.raises(NetworkError, match="404"):
        here.pull("tester/none")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    before = len(here.hub.seen)
    with pytest.raises(UsageError, match="is not a commit"):
        here.pull(REPOSITORY)
    assert len(here.hub.seen) == before


def test_what_no_registry_lists_is_pulled_by_its_commit_and_called_unpinned(here: World) -> None:
    notes = Notes()
    pulled = here.pull(f"{REPOSITORY}@{here.commit}", known={}, reporter=notes)
    assert not pulled.checkpoint.pinned
    assert "unpinned" in notes.notes[0]
    assert here.is_right(pulled.path)
    asked = len(here.hub.seen)
    assert not here.pull(f"{REPOSITORY}@{here.commit}", known={}).fresh
    assert len(here.hub.seen) == asked
    # A registry that lists this commit pins it.
    assert here.pull(f"{REPOSITORY}@{here.commit}").checkpoint.pinned


@pytest.mark.parametrize("name", ["zoo.json", "model.onnx", "README.md"])
def test_an_unpinned_pull_checks_the_manifest_of_its_commit(here: World, name: str) -> None:
    commit = here.hub.commit(REPOSITORY, {name: here.files[name] + b" "})
    if name == "zoo.json":  # still the same manifest, and the one that counts
        assert here.pull(f"{REPOSITORY}@{commit}", known={}).fresh
        return
    with pytest.raises(IntegrityError, match=f"{name} on the Hub is not the file"):
        here.pull(f"{REPOSITORY}@{commit}", known={})


def test_an_unpinned_repository_without_a_manifest_is_refused(here: World) -> None:
    commit = here.hub.add_repo("tester/other", {"model.onnx": b"x", "pytorch_model.bin": b"y"})
    with pytest.raises(NetworkError, match=r"zoo\.json.*404"):
        here.pull(f"tester/other@{commit}", known={})
    commit = here.hub.add_repo("tester/bomb", {"zoo.json": b"[" * 1_500_000})
    with pytest.raises(IntegrityError, match="larger than the 1,048,576 bytes"):
        here.pull(f"tester/bomb@{commit}", known={})


def test_the_next_source_is_tried_and_all_failures_are_told(here: World) -> None:
    folder = f"file:{here.root}/made"
    gone = f"hf:tester/gone@{'0' * 40}"
    text = registry_text(here.root, gone, f"{here.hub.url}/nothing/", folder)
    notes = Notes()
    pulled = here.pull(known=parse_registry(text.encode(), "r.toml"), reporter=notes)
    assert here.is_right(pulled.path)
    assert sum("Trying the next source" in note for note in notes.notes) == 2
    shutil.rmtree(here.cache)
    text = registry_text(here.root, gone, f"file:{here.root}/none")
    shown = r"None of the 2 sources of small provides zoo.json:\n.*404.*\n.*none"
    with pytest.raises(NetworkError, match=shown) as caught:
        here.pull(out=here.root / "out", known=parse_registry(text.encode(), "r.toml"))
    assert caught.value.exit_code == 9


def test_a_mirror_with_altered_files_is_passed_over(here: World) -> None:
    mirror = here.root / "mirror"
    mirror.mkdir()
    for name, content in here.files.items():
        (mirror / name).write_bytes(bytes([content[0] ^ 1]) + content[1:])
    text = registry_text(here.root, f"file:{mirror}", f"hf:{REPOSITORY}@{here.commit}")
    assert here.is_right(here.pull(known=parse_registry(text.encode(), "r.toml")).path)


def test_a_plain_web_folder_is_a_source_and_gets_no_token(here: World) -> None:
    address = f"{here.hub.url}/{REPOSITORY}/resolve/{here.commit}/"
    text = registry_text(here.root, address)
    assert here.is_right(here.pull(known=parse_registry(text.encode(), "r.toml")).path)
    assert not [each for each in here.hub.seen if "authorization" in each.headers]


def test_offline_nothing_is_asked_and_what_is_there_is_found(
    here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(NetworkError, match="HF_HUB_OFFLINE forbids"):
        here.pull()
    assert not here.hub.seen
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    here.pull()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert not here.pull().fresh


def test_the_timeout_of_huggingface_hub_is_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    for given, expected in (("3.5", 3.5), ("", 10.0), ("soon", 10.0), ("-1", 10.0), ("nan", 10.0)):
        monkeypatch.setenv("HF_HUB_DOWNLOAD_TIMEOUT", given)
        assert RetryLimits.of_environment().timeout == expected


def test_a_proxy_is_used_unless_the_server_is_exempt(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The storage server stands for a proxy: it sees the whole address, and the password for it."""
    monkeypatch.setenv("HTTP_PROXY", here.hub.storage_url.replace("://", "://me:secret@"))
    monkeypatch.setenv("NO_PROXY", "")
    with pytest.raises(NetworkError) as caught:
        here.pull()
    assert "secret" not in str(caught.value)
    asked = here.hub.asked(host="storage")
    assert asked
    assert "proxy-authorization" in asked[0].headers
    assert not here.hub.asked(host="hub")
    monkeypatch.setenv("HTTP_PROXY", "socks5://me:secret@127.0.0.1:1")
    with pytest.raises(UsageError, match="cannot be used") as refused:
        here.pull()
    assert "secret" not in str(refused.value)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    assert here.is_right(here.pull().path)
