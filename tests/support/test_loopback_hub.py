"""The loopback Hub does for the real huggingface_hub client what the Hub does, and each fault is what it says."""

from __future__ import annotations

import gzip
import hashlib
import http.client
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, constants, hf_hub_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import disable_progress_bars

from support.loopback_faults import ANSWER_FAULTS, CONTENT_FAULTS
from support.loopback_hub import LoopbackHub

CONTENT = os.urandom(40_000)
FILES = {
    "README.md": b"---\nlicense: mit\n---\n# net\n",
    "model.onnx": CONTENT,
    "sub/notes.json": b"{}",
    "empty.txt": b"",
}


@pytest.fixture(autouse=True)
def client_without_xet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    disable_progress_bars()


@pytest.fixture
def hub() -> Iterator[LoopbackHub]:
    with LoopbackHub() as hub:
        yield hub


def api_of(hub: LoopbackHub, token: str | None = None) -> HfApi:
    return HfApi(endpoint=hub.url, token=token or hub.token)


def upload(api: HfApi, parent: str | None = None, **files: bytes) -> str:
    named = {name.replace("_", "."): content for name, content in files.items()} or FILES
    adds = [CommitOperationAdd(name, content) for name, content in named.items()]
    return api.create_commit("tester/net", adds, commit_message="add", parent_commit=parent).oid


# ------------------------------------------------------------------------------------------- the real client


@pytest.mark.parametrize("resolve_cache", [False, True])
@pytest.mark.parametrize("multipart", [None, 15_000])
def test_what_the_client_uploads_it_downloads_again(
    multipart: int | None, resolve_cache: bool, tmp_path: Path
) -> None:
    with LoopbackHub(multipart=multipart, resolve_cache=resolve_cache) as hub:
        api = api_of(hub)
        api.create_repo("tester/net", private=True)
        empty = api.repo_info("tester/net").sha
        sha = upload(api, empty)
        api.create_tag("tester/net", tag="v1", revision=sha)
        for revision in ("main", "v1", sha):
            folder = Path(
                api.snapshot_download("tester/net", revision=revision, cache_dir=tmp_path / revision)
            )
            assert folder.name == sha
            for name, content in FILES.items():
                assert (folder / name).read_bytes() == content
        assert hub.files("tester/net", "v1") == hub.files("tester/net", empty) | FILES
        assert hub.leaks() == []


def test_listings_show_what_is_there(hub: LoopbackHub) -> None:
    hub.page = 2
    sha = hub.add_repo("tester/net", FILES, tag="v1")
    api = api_of(hub)
    assert api.whoami()["name"] == "tester"
    listed = {entry.path: entry for entry in api.list_repo_tree("tester/net", recursive=True)}
    assert set(listed) == {*FILES, ".gitattributes", "sub"}
    assert listed["model.onnx"].lfs.sha256 == hashlib.sha256(CONTENT).hexdigest()  # type: ignore[union-attr]
    assert [entry.path for entry in api.list_repo_tree("tester/net", "sub")] == ["sub/notes.json"]
    assert [tag.target_commit for tag in api.list_repo_refs("tester/net").tags] == [sha]
    assert next(iter(api.list_repo_commits("tester/net"))).commit_id == sha
    siblings = api.repo_info("tester/net", files_metadata=True).siblings or []
    assert {each.rfilename: each.size for each in siblings}["model.onnx"] == len(CONTENT)
    assert [each.path for each in api.get_paths_info("tester/net", ["empty.txt", "none"])] == ["empty.txt"]


def test_unchanged_files_are_not_committed_again_and_deleted_ones_go(hub: LoopbackHub) -> None:
    api = api_of(hub)
    hub.add_repo("tester/net", FILES)
    head = hub.repos["tester/net"].head
    assert upload(api) == head
    sha = api.create_commit(
        "tester/net", [CommitOperationDelete("empty.txt")], commit_message="remove", parent_commit=head
    ).oid
    assert "empty.txt" not in hub.files("tester/net", sha)
    assert "empty.txt" in hub.files("tester/net", head)


def test_a_commit_on_another_parent_and_a_second_tag_are_refused(hub: LoopbackHub) -> None:
    api = api_of(hub)
    hub.add_repo("tester/net", FILES, tag="v1")
    head = hub.repos["tester/net"].head
    hub.fault("race")
    with pytest.raises(HfHubHTTPError) as caught:
        upload(api, head, a_txt=b"1")
    assert caught.value.response.status_code == 412
    with pytest.raises(HfHubHTTPError) as caught:
        api.create_tag("tester/net", tag="v1")
    assert caught.value.response.status_code == 409
    api.delete_tag("tester/net", tag="v1")
    assert hub.repos["tester/net"].tags == {}


def test_a_card_with_wrong_metadata_is_refused(hub: LoopbackHub) -> None:
    hub.add_repo("tester/net", {})
    with pytest.raises(ValueError, match='"license" must be a string'):
        upload(api_of(hub), README_md=b"---\nlicense: [1]\n---\n")
    with pytest.raises(ValueError, match="needs a type and a name"):
        upload(api_of(hub), README_md=b"---\nmodel-index:\n- results:\n  - task: {type: x}\n---\n")


def test_an_object_that_was_not_uploaded_cannot_be_committed(hub: LoopbackHub) -> None:
    hub.add_repo("tester/net", {})
    line = {"key": "lfsFile", "value": {"path": "model.onnx", "oid": "0" * 64, "size": 1, "algo": "sha256"}}
    body = "\n".join(json.dumps(each) for each in ({"key": "header", "value": {"summary": "x"}}, line))
    status, _, _ = ask(hub, "POST", "/api/models/tester/net/commit/main", body=body.encode())
    assert status == 400


def test_who_may_see_and_change_what(hub: LoopbackHub) -> None:
    hub.add_repo("tester/secret", FILES, private=True)
    hub.add_repo("tester/gated", FILES, gated=True)
    hub.add_repo("org/net", FILES)
    other, reader = hub.add_token("other"), hub.add_token("tester", write=False)
    member = hub.add_token("member", orgs=("org",))
    for token in (other, "hf_unknown"):
        with pytest.raises(RepositoryNotFoundError if token == other else HfHubHTTPError):
            api_of(hub, token).repo_info("tester/secret")
    with pytest.raises(RepositoryNotFoundError):
        HfApi(endpoint=hub.url, token=False).repo_info("tester/secret")
    assert api_of(hub, reader).repo_info("tester/secret").private
    with pytest.raises(HfHubHTTPError, match="don't have the rights"):
        api_of(hub, reader).create_repo("tester/new")
    with pytest.raises(HfHubHTTPError, match="don't have the rights"):
        api_of(hub, other).create_tag("tester/gated", tag="v1")
    api_of(hub, member).create_tag("org/net", tag="v1")
    with pytest.raises(GatedRepoError):
        hf_hub_download("tester/gated", "README.md", endpoint=hub.url, token=other)


def test_what_is_missing_is_named_by_its_error(hub: LoopbackHub, tmp_path: Path) -> None:
    hub.add_repo("tester/net", FILES)
    for wrong, error in (
        ({"repo_id": "tester/none"}, RepositoryNotFoundError),
        ({"revision": "v9"}, RevisionNotFoundError),
        ({"filename": "none"}, EntryNotFoundError),
    ):
        where = {"repo_id": "tester/net", "filename": "README.md", "revision": "main", **wrong}
        with pytest.raises(error):
            hf_hub_download(**where, endpoint=hub.url, token=hub.token, cache_dir=tmp_path)


def test_a_moved_tag_and_a_swapped_repository_are_what_they_are(hub: LoopbackHub) -> None:
    first = hub.add_repo("tester/net", FILES, tag="v1")
    second = hub.commit("tester/net", {"README.md": b"other"}, tag="v1")
    api = api_of(hub)
    assert api.repo_info("tester/net", revision="v1").sha == second != first
    hub.swap("tester/net", {"README.md": b"somebody else's"})
    with pytest.raises(RevisionNotFoundError):
        api.repo_info("tester/net", revision=first)
    assert api.repo_info("tester/net", revision="v1").sha == hub.repos["tester/net"].head


# ------------------------------------------------------------------------------------------------- the faults


def ask(
    hub: LoopbackHub, method: str, target: str, *, body: bytes = b"", **headers: str
) -> tuple[int, dict[str, str], bytes]:
    """One request without any help; status, headers and body, which may be short."""
    parts = urlsplit(target)
    connection = http.client.HTTPConnection(parts.netloc or urlsplit(hub.url).netloc, timeout=60)
    sent = {"Authorization": f"Bearer {hub.token}"} if not parts.netloc else {}
    sent |= {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        connection.request(method, f"{parts.path}?{parts.query}", body=body or None, headers=sent)
        answer = connection.getresponse()
        try:
            content = answer.read()
        except http.client.IncompleteRead as short:
            content = short.partial
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, content
    finally:
        connection.close()


def small(hub: LoopbackHub, **headers: str) -> tuple[int, dict[str, str], bytes]:
    """The file data.txt, which comes from the Hub itself."""
    return ask(hub, "GET", "/tester/net/resolve/main/data.txt", **headers)


@pytest.fixture
def filled(hub: LoopbackHub) -> LoopbackHub:
    hub.add_repo("tester/net", {"data.txt": b"0123456789" * 10, "model.onnx": CONTENT})
    return hub


TEXT = b"0123456789" * 10


def test_ranges_are_answered_as_asked(filled: LoopbackHub) -> None:
    assert small(filled)[::2] == (200, TEXT)
    status, headers, body = small(filled, Range="bytes=10-19")
    assert (status, headers["content-range"], body) == (206, "bytes 10-19/100", TEXT[10:20])
    assert small(filled, Range="bytes=95-")[2] == TEXT[95:]
    assert small(filled, Range="bytes=-3")[2] == TEXT[-3:]
    assert small(filled, Range="bytes=100-")[0] == 416
    etag = headers["etag"]
    assert small(filled, Range="bytes=10-19", If_Range=etag)[0] == 206
    assert small(filled, Range="bytes=10-19", If_Range='"other"')[0] == 200
    status, headers, body = ask(filled, "HEAD", "/tester/net/resolve/main/data.txt")
    assert (status, headers["content-length"], body) == (200, "100", b"")


def test_large_files_come_from_another_origin_by_signed_links_without_a_token(filled: LoopbackHub) -> None:
    status, headers, _ = ask(filled, "GET", "/tester/net/resolve/main/model.onnx")
    assert (status, headers["x-linked-size"]) == (302, str(len(CONTENT)))
    link = headers["location"]
    assert link.startswith(filled.storage_url)
    assert ask(filled, "GET", link)[2] == CONTENT
    assert ask(filled, "GET", link.partition("?")[0])[0] == 403
    assert filled.leaks() == []
    assert ask(filled, "GET", link, Authorization=f"Bearer {filled.token}")[0] == 400
    assert len(filled.leaks()) == 1


@pytest.mark.parametrize(
    ("kind", "options", "headers", "expected"),
    [
        ("flip", {"at": 3, "bit": 1}, {}, (200, 100, TEXT[:3] + b"1" + TEXT[4:])),
        ("truncate", {"at": 30}, {}, (200, 100, TEXT[:30])),
        ("shorten", {"at": 30}, {}, (200, 30, TEXT[:30])),
        ("lengthen", {"by": 2}, {}, (200, 102, TEXT + b"++")),
        ("content-length", {"by": 5}, {}, (200, 105, TEXT)),
        ("content-length", {"by": -5}, {}, (200, 95, TEXT[:95])),
        ("no-range", {}, {"Range": "bytes=10-"}, (200, 100, TEXT)),
        ("wrong-range", {"shift": 5}, {"Range": "bytes=10-19"}, (206, 10, TEXT[15:25])),
        ("lying-range", {"shift": 5}, {"Range": "bytes=10-"}, (206, 90, TEXT[5:95])),
        ("no-length", {}, {}, (200, None, TEXT)),
        ("trickle", {"chunk": 40, "seconds": 0.01}, {}, (200, 100, TEXT)),
        ("stall", {"at": 20, "seconds": 0.1}, {}, (200, 100, TEXT[:20])),
    ],
)
def test_a_content_fault_strikes_once_and_is_what_it_says(
    filled: LoopbackHub,
    kind: str,
    options: dict[str, float],
    headers: dict[str, str],
    expected: tuple[int, int | None, bytes],
) -> None:
    fault = filled.fault(kind, path="*data.txt", **options)
    status, answered, body = small(filled, **headers)
    length = int(answered["content-length"]) if "content-length" in answered else None
    assert (status, length, body) == expected
    if kind == "wrong-range":
        assert answered["content-range"] == "bytes 15-24/100"
    if kind == "lying-range":
        assert answered["content-range"] == "bytes 10-99/100"
    assert fault.hits == 1
    assert small(filled)[::2] == (200, TEXT)


def test_compressed_only_for_those_who_accept_it(filled: LoopbackHub) -> None:
    filled.fault("gzip", times=2)
    assert small(filled, Accept_Encoding="identity")[2] == TEXT
    status, headers, body = small(filled, Accept_Encoding="gzip")
    assert (status, headers["content-encoding"]) == (200, "gzip")
    assert gzip.decompress(body) == TEXT


def test_an_endless_answer_ends_with_the_client(filled: LoopbackHub) -> None:
    filled.fault("endless")
    host = urlsplit(filled.url)
    with socket.create_connection((host.hostname, host.port), timeout=60) as connection:
        connection.sendall(b"GET /tester/net/resolve/main/data.txt HTTP/1.1\r\nHost: x\r\n\r\n")
        got = 0
        while got < 1 << 20:
            got += len(connection.recv(65536))


@pytest.mark.parametrize(
    ("kind", "options", "status", "header"),
    [
        ("status", {"code": 503}, 503, ("content-length", "6")),
        ("retry-after", {"seconds": 7}, 429, ("retry-after", "7")),
        ("416", {}, 416, ("content-range", "bytes */*")),
        ("loop", {}, 302, ("location", "/tester/net/resolve/main/data.txt?")),
        ("delay", {"seconds": 0.01}, 200, ("content-length", "10")),
        ("bad-etag", {}, 200, ("etag", f'"{hashlib.sha256(b"").hexdigest()}"')),
    ],
)
def test_an_answer_fault_is_what_it_says(
    filled: LoopbackHub, kind: str, options: dict[str, float], status: int, header: tuple[str, str]
) -> None:
    filled.fault(kind, path="/tester/net/resolve/*", **options)
    answered, headers, _ = small(filled, Range="bytes=0-9")
    assert answered in (status, 206 if status == 200 else status)
    assert headers[header[0]] == header[1]
    assert small(filled)[::2] == (200, TEXT)


def test_a_redirect_leads_to_the_same_file_elsewhere_or_to_another(filled: LoopbackHub) -> None:
    for body, expected in ((None, TEXT), (b"evil", b"evil")):
        filled.fault("redirect", path="*data.txt", body=body)
        status, headers, _ = small(filled)
        assert status == 302
        assert headers["location"].startswith(filled.elsewhere_url)
        assert ask(filled, "GET", headers["location"])[2] == expected


@pytest.mark.parametrize("kind", ["reset", "lost-answer", "break"])
def test_a_connection_is_reset(filled: LoopbackHub, kind: str) -> None:
    filled.fault(kind, path="*data.txt")
    with pytest.raises(ConnectionError):
        small(filled)


def test_a_lost_answer_is_to_a_request_that_was_carried_out(filled: LoopbackHub) -> None:
    path = f"/api/models/tester/net/tag/{filled.repos['tester/net'].head}"
    for kind, done in (("reset", False), ("lost-answer", True)):
        filled.fault(kind, method="POST")
        with pytest.raises(ConnectionError):
            ask(filled, "POST", path, body=b'{"tag": "v1"}')
        assert ("v1" in filled.repos["tester/net"].tags) is done


def test_faults_can_be_spared_counted_and_limited_to_some_requests(filled: LoopbackHub) -> None:
    fault = filled.fault(
        "status", method="GET", host="hub", skip=1, times=2, when=lambda headers: "x" in headers
    )
    found = [small(filled, x="1")[0] for _ in range(4)]
    assert found == [200, 500, 500, 200]
    assert small(filled)[0] == 200
    assert fault.hits == 2
    filled.fault("status", times=None)
    filled.faults.clear()
    assert small(filled)[0] == 200


def test_every_fault_is_described_and_a_misspelt_one_refused(hub: LoopbackHub) -> None:
    assert not CONTENT_FAULTS.keys() & ANSWER_FAULTS.keys()
    with pytest.raises(ValueError, match="no fault 'flap'"):
        hub.fault("flap")


# ------------------------------------------------------------------------------------------- other processes


def test_it_runs_in_a_process_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.txt").write_text("abc")
    process = subprocess.Popen(
        [
            sys.executable,
            *("-m", "support.loopback_hub"),
            *("--repo", f"tester/net={tmp_path}", "--fault", "status:*a.txt:1"),
        ],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[1],
    )
    try:
        assert process.stdout is not None
        found = json.loads(process.stdout.readline())
        host = urlsplit(found["url"]).netloc
        path = f"/tester/net/resolve/{found['commits']['tester/net']}/sub/a.txt"
        for expected in (500, 200):
            connection = http.client.HTTPConnection(host, timeout=60)
            connection.request("GET", path)
            assert connection.getresponse().status == expected
            connection.close()
    finally:
        process.terminate()
        assert process.wait(10) == 0
        process.stdout.close()  # type: ignore[union-attr]


def test_many_clients_are_served_at_once(filled: LoopbackHub) -> None:
    found: list[bytes] = []
    threads = [threading.Thread(target=lambda: found.append(small(filled)[2])) for _ in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [TEXT] * 32
