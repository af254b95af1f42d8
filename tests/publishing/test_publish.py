"""Publishing: one commit with exactly the artifact's bytes, read back, tagged, registered; or nothing."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

import zoo
from support import published, tiny
from support.fake_distributions import Result
from support.installation import install
from support.loopback_hub import LoopbackHub
from support.loopback_store import GITATTRIBUTES
from support.published import HOME, expected, is_pinned
from zoo.artifacts import Artifact, open_artifact, write_artifact
from zoo.download import pull
from zoo.errors import IntegrityError, NetworkError, OutputError, UsageError, ZooError
from zoo.publishing.client import error_for
from zoo.publishing.destination import PublishRequest
from zoo.publishing.publisher import Published, publish
from zoo.registry import parse_registry
from zoo_cli.main import main


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[LoopbackHub]:
    """A Hub that the environment points to, and an installation with one checkpoint, `small`."""
    with LoopbackHub() as hub:
        for name in list(os.environ):
            if name.startswith(("HF_", "HUGGING_FACE_")):
                monkeypatch.delenv(name)
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_TOKEN", hub.token)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
        monkeypatch.setenv("ZOO_REGISTRY", "")
        install(monkeypatch, tmp_path, tiny.bayer_artifact(tmp_path / "small"))
        yield hub


@pytest.fixture
def made(tmp_path: Path, hub: LoopbackHub) -> Artifact:
    return published.artifact(tmp_path / "made")


def wanted(made: Artifact, **changes: object) -> PublishRequest:
    return dataclasses.replace(PublishRequest(made.path, HOME, tag="v1", license="mit"), **changes)  # type: ignore[arg-type]


def commits(hub: LoopbackHub) -> int:
    """How many there are after the one that a new repository has."""
    return len(hub.repos[HOME].history()) - 1


def assert_published(hub: LoopbackHub, made: Artifact, request: PublishRequest, done: Published) -> None:
    files = expected(made, request)
    assert {name: hub.files(HOME, done.commit).get(name) for name in files} == files
    assert not request.tag or hub.repos[HOME].tags[request.tag] == done.commit
    assert is_pinned(
        parse_registry(f"format = 1\n{done.entry}".encode(), "entry")[request.id], hub, done.commit
    )
    assert hub.leaks() == []


# ------------------------------------------------------------------------------------------------ what is done


def test_an_artifact_is_published_in_one_commit_and_pulled_as_an_artifact(
    hub: LoopbackHub, made: Artifact, tmp_path: Path
) -> None:
    request = wanted(made, message="First")
    done = publish(request)
    assert_published(hub, made, request, done)
    assert commits(hub) == 1
    commit = hub.repos[HOME].commits[done.commit]
    assert commit.title == "First"
    assert commit.files.keys() == expected(made, request).keys() | {".gitattributes"}
    assert done.created
    assert set(done.uploaded) == expected(made, request).keys()
    pulled = pull(f"{HOME}@{done.commit}", tmp_path / "pulled")
    back = open_artifact(pulled.path)
    back.verify()
    assert dataclasses.replace(back.manifest, files=made.manifest.files) == made.manifest
    kept = made.manifest.files.keys() - {"README.md"}
    assert {name: back.read(name) for name in kept} == {name: made.read(name) for name in kept}
    card = ModelCard(back.read("README.md").decode()).data
    assert (card.license, card.model_name) == ("mit", "tiny-net")
    assert ".eval_results/darkroom.yaml" in back.manifest.files


def test_a_loaded_network_is_published_from_python(hub: LoopbackHub, made: Artifact) -> None:
    with zoo.load(made.path) as net:
        done = zoo.publish(net, HOME, tag="v1", license="mit")
    assert_published(hub, made, wanted(made), done)


def test_a_pulled_artifact_is_published_again_with_the_same_bytes(
    hub: LoopbackHub, made: Artifact, tmp_path: Path
) -> None:
    done = publish(wanted(made))
    pulled = pull(f"{HOME}@{done.commit}", tmp_path / "pulled")
    again = publish(wanted(made, artifact=pulled.path))
    assert (again.commit, again.uploaded) == (done.commit, ())


def test_publishing_again_uploads_nothing_and_says_so(
    hub: LoopbackHub, made: Artifact, capfd: pytest.CaptureFixture[str]
) -> None:
    first = publish(wanted(made))
    hub.seen.clear()
    assert main(["publish", str(made.path), HOME, "--revision-tag", "v1", "--license", "mit"]) == 0
    assert capfd.readouterr().out.startswith(
        f"Nothing to upload: already at {hub.url}/{HOME} at {first.commit}"
    )
    assert hub.writes() == []
    assert publish(wanted(made)).entry == first.entry
    tagged = publish(wanted(made, tag="v2"))
    assert (tagged.commit, commits(hub)) == (first.commit, 1)
    assert hub.repos[HOME].tags == {"v1": first.commit, "v2": first.commit}


def test_a_new_version_replaces_the_old_ones_files_and_nobody_elses(
    hub: LoopbackHub, made: Artifact, tmp_path: Path
) -> None:
    first = publish(wanted(made))
    hub.commit(HOME, {"NOTES.md": b"of somebody else"})
    newer = published.artifact(tmp_path / "newer", psnr=28.0, without=("recipe.toml",))
    request = wanted(newer, tag="v2")
    done = publish(request)
    assert_published(hub, newer, request, done)
    assert done.removed == ("recipe.toml",)
    assert set(done.uploaded) == {"zoo.json", "README.md", "metrics.json", ".eval_results/darkroom.yaml"}
    assert hub.files(HOME).keys() - expected(newer, request).keys() == {".gitattributes", "NOTES.md"}
    assert hub.repos[HOME].tags == {"v1": first.commit, "v2": done.commit}
    # The old version can still be had, and its tag is where it was.
    assert publish(wanted(made)).commit == first.commit


def test_an_empty_repository_is_filled_and_a_private_one_stays_private(
    hub: LoopbackHub, made: Artifact
) -> None:
    hub.add_repo(HOME, {"README.md": b"soon"}, private=True)
    done = publish(wanted(made))
    assert not done.created
    assert hub.repos[HOME].private
    assert hub.files(HOME)[".gitattributes"] == GITATTRIBUTES


def test_a_new_repository_is_private_if_asked_for(hub: LoopbackHub, made: Artifact) -> None:
    publish(wanted(made, private=True))
    assert hub.repos[HOME].private
    assert publish(wanted(made, private=True)).uploaded == ()


def test_the_card_names_the_published_network_it_was_made_from(
    hub: LoopbackHub, made: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = publish(
        wanted(open_artifact(tmp_path / "zoo/checkpoints/small"), repository="tester/base", tag="")
    )
    registry = tmp_path / "own.toml"
    registry.write_text("format = 1\n" + done.entry.replace("checkpoint.base", "checkpoint.start"))
    monkeypatch.setenv("ZOO_REGISTRY", str(registry))
    from zoo.registry import checkpoints

    checkpoints.cache_clear()
    metrics = {**published.METRICS, "training": {"data": "darkroom", "starting_weights": "start"}}
    contents = {name: made.read(name) for name in made.manifest.files} | {
        "metrics.json": json.dumps(metrics).encode()
    }
    child = write_artifact(tmp_path / "child", made.manifest, contents)
    publish(wanted(child))
    assert ModelCard(hub.files(HOME)["README.md"].decode()).data.base_model == "tester/base"
    publish(wanted(child, base_model="other/base", datasets=("other/photos",), tag="v2"))
    card = ModelCard(hub.files(HOME)["README.md"].decode()).data
    assert (card.base_model, card.datasets) == ("other/base", ["other/photos"])


@pytest.mark.parametrize("exists", [False, True])
def test_a_dry_run_touches_nothing(
    hub: LoopbackHub, made: Artifact, tmp_path: Path, exists: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    if exists:
        publish(wanted(published.artifact(tmp_path / "older", psnr=20.0), tag="v0"))
    registry = tmp_path / "registry.toml"
    registry.write_text("format = 1\n")
    before = {
        path: path.stat().st_mtime_ns
        for path in tmp_path.rglob("*")
        if not {"home", "cache"} & set(path.relative_to(tmp_path).parts)
    }
    hub.seen.clear()
    arguments = ["publish", str(made.path), HOME, "--revision-tag", "v1", "--license", "mit", "--dry-run"]
    assert main([*arguments, "--register", str(registry)]) == 0
    shown = capfd.readouterr().out
    assert ("Would publish to" if exists else "Would create") in shown
    assert ("upload  model.onnx" not in shown) is exists
    assert hub.writes() == []
    assert {path: path.stat().st_mtime_ns for path in before} == before
    done = publish(wanted(made))  # and what it announced is what happens
    assert all(f"upload  {name}" in shown for name in done.uploaded)


@pytest.mark.parametrize("lacking", ["token", "network"])
def test_a_dry_run_needs_neither_token_nor_network_and_shows_the_card(
    hub: LoopbackHub,
    made: Artifact,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    lacking: str,
) -> None:
    if lacking == "token":
        monkeypatch.delenv("HF_TOKEN")
    else:
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert main(["publish", str(made.path), HOME, "--license", "mit", "--dry-run"]) == 0
    shown = capfd.readouterr()
    assert f"Would publish to {hub.url}/{HOME}" in shown.out
    assert "upload  model.onnx" in shown.out
    card = shown.out.partition("The card:\n\n")[2]
    assert card.startswith("---\n")
    assert "license: mit" in card
    assert f"zoo pull {HOME}@COMMIT" in card
    assert "Not compared with" in shown.err
    assert hub.asked() == []


def test_a_checkpoint_is_published_by_its_id(hub: LoopbackHub, tmp_path: Path) -> None:
    pull("small")
    done = publish(PublishRequest(Path("small"), HOME, license="mit"))
    assert "model.onnx" in done.uploaded


def test_the_document_says_what_was_done(
    hub: LoopbackHub, made: Artifact, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    registry = tmp_path / "own.toml"
    assert main(["publish", str(made.path), HOME, "--json", "--register", str(registry), "--id", "mine"]) == 0
    done = json.loads(capfd.readouterr().out)
    assert is_pinned(parse_registry(registry.read_bytes(), "own")["mine"], hub, done["commit"])
    assert (done["repository"], done["identifier"], done["dry_run"]) == (HOME, "mine", False)
    assert done["registered"] == str(registry)


def test_files_of_several_parts_and_pages_are_published(
    hub: LoopbackHub, made: Artifact, tmp_path: Path
) -> None:
    hub.multipart, hub.page, hub.resolve_cache = 2000, 2, True
    request = wanted(made)
    assert_published(hub, made, request, publish(request))
    assert len(hub.asked("/upload/*/*", method="PUT")) > 3


class Recorder:
    """A reporter that adds up."""

    def __init__(self) -> None:
        self.done: dict[str, float] = {}
        self.totals: dict[str, float | None] = {}
        self.notes: list[str] = []
        self._task = ""

    def note(self, message: str) -> None:
        self.notes.append(message)

    def start(self, task: str, total: float | None, unit: str = "steps") -> None:
        self._task = task
        self.totals[task], self.done[task] = total, 0.0

    def advance(self, amount: float = 1, **_: float | str) -> None:
        self.done[self._task] += amount

    def finish(self) -> None:
        self._task = ""


def test_progress_adds_up_to_all_bytes_even_if_some_are_sent_twice(hub: LoopbackHub, made: Artifact) -> None:
    hub.fault("status", code=503, path="/upload/*")
    report = Recorder()
    done = publish(wanted(made), report)
    assert report.totals == report.done == {"upload": done.bytes, "read back": done.bytes}


def card_there(hub: LoopbackHub, commit: str) -> Mapping[str, object]:
    data: Mapping[str, object] = ModelCard(hub.files(HOME, commit)["README.md"].decode()).data.to_dict()
    return {key: data.get(key) for key in ("license", "base_model", "datasets")}


def test_what_a_card_says_of_the_place_stays_until_something_else_is_said(
    hub: LoopbackHub, made: Artifact, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    said = {"license": "mit", "base_model": "tester/large", "datasets": ["tester/dark", "tester/bright"]}
    first = publish(wanted(made, base_model="tester/large", datasets=("tester/dark", "tester/bright")))
    assert card_there(hub, first.commit) == said
    newer = published.artifact(tmp_path / "newer", psnr=28.0)
    assert main(["publish", str(newer.path), HOME]) == 0
    assert "does not name a license" not in capfd.readouterr().err
    again = publish(PublishRequest(newer.path, HOME))
    assert again.uploaded == ()
    assert again.license == "mit"
    assert card_there(hub, again.commit) == said
    other = publish(PublishRequest(newer.path, HOME, license="apache-2.0", datasets=("tester/dim",)))
    assert card_there(hub, other.commit) == {
        "license": "apache-2.0", "base_model": "tester/large", "datasets": ["tester/dim"]
    }  # fmt: skip
    options = ["--license", "", "--base-model", "", "--dataset", "", "--json"]
    assert main(["publish", str(newer.path), HOME, *options]) == 0
    shown = capfd.readouterr()
    assert "does not name a license" in shown.err
    assert set(card_there(hub, json.loads(shown.out)["commit"]).values()) == {None}


def test_the_license_chosen_when_the_repository_was_made_is_kept(hub: LoopbackHub, made: Artifact) -> None:
    hub.add_repo(HOME, {"README.md": b"---\nlicense: mit\n---\n"})
    assert card_there(hub, publish(PublishRequest(made.path, HOME)).commit)["license"] == "mit"


@pytest.mark.parametrize(
    "card",
    [
        b"---\nlicense: [mit]\nbase_model: {a: b}\ndatasets: x\n---\n",
        b"---\nlicense: 'My license'\nbase_model: ../x\ndatasets: [1, 'a b', 'a/../b']\n---\n",
        b"---\nlicense: !!python/name:os.system\n---\n",
        b"---\n- 1\n---\n",
        b"---\n\xff\xfe\n---\n",
        b"---\nlicense: mit\nx: " + b"y" * 1_000_000 + b"\n---\n",
    ],
)
def test_a_card_that_says_something_else_says_nothing(hub: LoopbackHub, made: Artifact, card: bytes) -> None:
    hub.add_repo(HOME, {"README.md": card})
    done = publish(PublishRequest(made.path, HOME, tag="v1"))
    assert set(card_there(hub, done.commit).values()) == {None}


# --------------------------------------------------------------------------------------------- what is refused


def refused(error: type[ZooError], request: PublishRequest, *words: str) -> ZooError:
    with pytest.raises(error) as caught:
        publish(request)
    for word in words:
        assert word in str(caught.value)
    return caught.value


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"repository": "no-namespace"}, ("NAMESPACE/NAME",)),
        ({"repository": "a/../b"}, ("not a repository",)),
        ({"repository": "https://hf.co/a/b"}, ("not a repository",)),
        ({"repository": "a/b\n"}, ("not a repository",)),
        ({"base_model": "x"}, ("not a repository",)),
        ({"datasets": ("ok/ok", "x")}, ("not a repository",)),
        ({"tag": "v 1"}, ("--revision-tag",)),
        ({"tag": "-v"}, ("--revision-tag",)),
        ({"tag": "a" * 40}, ("commit or a branch",)),
        ({"tag": "main"}, ("commit or a branch",)),
        ({"identifier": "Small Net"}, ("--id",)),
        ({"repository": "tester/1net"}, ("--id",)),
        ({"license": "My License"}, ("apache-2.0",)),
        ({"message": "a\nb"}, ("commit message",)),
        ({"summary": "x" * 501}, ("summary",)),
    ],
)
def test_what_hub_or_registry_would_not_take_is_refused_at_once(
    hub: LoopbackHub, made: Artifact, changes: Mapping[str, object], words: tuple[str, ...]
) -> None:
    with pytest.raises(UsageError) as caught:
        wanted(made, **changes)
    assert all(word in str(caught.value) for word in words)


def test_a_damaged_artifact_is_refused_before_the_hub_hears_of_it(hub: LoopbackHub, made: Artifact) -> None:
    (made.path / "model.onnx").write_bytes(b"x" * (made.path / "model.onnx").stat().st_size)
    refused(IntegrityError, wanted(made), "model.onnx is not the file its manifest lists")
    assert hub.seen == []


def test_a_network_that_no_engine_would_load_is_not_published(
    hub: LoopbackHub, made: Artifact, tmp_path: Path
) -> None:
    contents = {name: made.read(name) for name in made.manifest.files} | {"model.onnx": b"garbage"}
    bad = write_artifact(tmp_path / "bad", made.manifest, contents)
    refused(IntegrityError, wanted(bad))
    assert hub.seen == []


def test_an_artifact_without_a_network_is_not_published(hub: LoopbackHub, made: Artifact) -> None:
    manifest = json.loads((made.path / "zoo.json").read_text())
    del manifest["files"]["model.onnx"]
    (made.path / "zoo.json").write_text(json.dumps(manifest))
    (made.path / "model.onnx").unlink()
    refused(IntegrityError, wanted(made), "no model.onnx")
    assert hub.seen == []


def test_a_folder_that_is_no_artifact_is_refused(hub: LoopbackHub, made: Artifact, tmp_path: Path) -> None:
    refused(UsageError, wanted(made, artifact=tmp_path), "is not an artifact")
    assert hub.seen == []


def test_a_repository_with_something_else_in_it_is_left_alone(hub: LoopbackHub, made: Artifact) -> None:
    hub.add_repo(HOME, {"pytorch_model.bin": b"1", "README.md": b"2"})
    refused(UsageError, wanted(made), "holds something other than an artifact", "Name another repository")
    assert hub.writes() == []


def test_a_public_repository_does_not_become_private(hub: LoopbackHub, made: Artifact) -> None:
    hub.add_repo(HOME, {})
    refused(UsageError, wanted(made, private=True), "is already public")
    assert hub.writes() == []


def test_a_tag_is_never_moved(hub: LoopbackHub, made: Artifact, tmp_path: Path) -> None:
    first = publish(wanted(made))
    hub.seen.clear()
    newer = published.artifact(tmp_path / "newer", psnr=28.0)
    refused(UsageError, wanted(newer), "v1", "names another version", first.commit[:12], "--revision-tag")
    assert hub.writes() == []


def test_a_tag_that_somebody_else_sets_meanwhile_is_reported(hub: LoopbackHub, made: Artifact) -> None:
    def set_it(_: Mapping[str, str]) -> bool:
        repo = hub.repos[HOME]
        repo.tags["v1"] = repo.history()[-1].sha
        return True

    hub.fault("delay", path="*/tag/*", seconds=0, when=set_it)
    refused(UsageError, wanted(made), "the tag v1 was set to something else in the meantime")


def test_a_tag_that_was_moved_is_refused(hub: LoopbackHub, made: Artifact) -> None:
    publish(wanted(made))
    hub.commit(HOME, {"model.onnx": b"other"}, tag="v1")
    refused(UsageError, wanted(made), "names another version")


def test_a_swapped_repository_is_not_published_over(hub: LoopbackHub, made: Artifact) -> None:
    publish(wanted(made))
    hub.swap(HOME, {"weights.bin": b"somebody else's"})
    refused(UsageError, wanted(made), "holds something other than an artifact")


def test_who_may_not_write_is_told_so(
    hub: LoopbackHub, made: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused(NetworkError, wanted(made, repository="other/net"), "don't have the rights", "hf auth")
    monkeypatch.setenv("HF_TOKEN", hub.add_token("tester", write=False))
    refused(NetworkError, wanted(made), "don't have the rights", "hf auth")
    monkeypatch.setenv("HF_TOKEN", "hf_" + "x" * 34)
    refused(NetworkError, wanted(made), "does not accept the token", "hf auth login")
    monkeypatch.delenv("HF_TOKEN")
    refused(UsageError, wanted(made), "needs a token", "hf auth login")
    assert HOME not in hub.repos


def test_a_token_in_a_file_will_do(
    hub: LoopbackHub, made: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    (tmp_path / "token").write_text(hub.token + "\n")
    monkeypatch.setenv("HF_TOKEN_PATH", str(tmp_path / "token"))
    assert publish(wanted(made)).commit


def test_offline_nothing_is_asked(hub: LoopbackHub, made: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    refused(NetworkError, wanted(made), "HF_HUB_OFFLINE", "unset HF_HUB_OFFLINE")
    assert hub.seen == []


def test_a_token_does_not_travel_unencrypted(
    hub: LoopbackHub, made: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://hub.example")
    refused(UsageError, wanted(made), "unencrypted")


def test_a_token_inside_the_artifact_is_not_published(
    hub: LoopbackHub, made: Artifact, tmp_path: Path
) -> None:
    for number, secret in enumerate((hub.token, "hf_" + "abcdefghij" * 3)):
        metrics = {**published.METRICS, "command": f"HF_TOKEN={secret} zoo apply qat x"}
        contents = {name: made.read(name) for name in made.manifest.files}
        contents["metrics.json"] = json.dumps(metrics).encode()
        leaky = write_artifact(tmp_path / f"leaky{number}", made.manifest, contents)
        error = refused(UsageError, wanted(leaky), "contains a Hub token")
        assert secret not in str(error)
    assert hub.seen == []


# ------------------------------------------------------------------------------------------------- what fails


def test_somebody_elses_commit_meanwhile_is_a_clear_error_and_nothing_is_committed(
    hub: LoopbackHub, made: Artifact
) -> None:
    hub.fault("race")
    refused(
        NetworkError,
        wanted(made),
        "Somebody else committed",
        "nothing of yours",
        "run the same command again",
    )
    assert commits(hub) == 1
    assert hub.files(HOME).keys() == {".gitattributes", "elsewhere.txt"}
    assert hub.repos[HOME].tags == {}


def test_after_a_lost_answer_the_commit_is_found(hub: LoopbackHub, made: Artifact) -> None:
    hub.fault("lost-answer", path="*/commit/*")
    request = wanted(made)
    assert_published(hub, made, request, publish(request))
    assert commits(hub) == 1


def test_cut_off_between_objects_and_commit_nothing_is_there_and_the_next_run_finishes(
    hub: LoopbackHub, made: Artifact
) -> None:
    hub.fault("reset", path="*/commit/*")
    refused(NetworkError, wanted(made), "failed while committing", "Run the same command again")
    assert commits(hub) == 0
    sent = len(hub.asked("/upload/*"))
    assert sent == 3  # the network, the golden outputs and the picture
    request = wanted(made)
    assert_published(hub, made, request, publish(request))
    assert len(hub.asked("/upload/*")) == sent


@pytest.mark.parametrize("path", ["*/preupload/*", "*/lfs/objects/batch", "/upload/*"])
def test_a_server_that_fails_once_is_asked_again(hub: LoopbackHub, made: Artifact, path: str) -> None:
    fault = hub.fault("status", path=path, code=502)
    request = wanted(made)
    assert_published(hub, made, request, publish(request))
    assert fault.hits == 1


@pytest.mark.parametrize(
    ("path", "code"),
    [("/api/repos/create", 500), ("*/commit/*", 500), ("*/tag/*", 500), ("/api/models/*", 500)],
)
def test_a_server_that_fails_is_an_error_with_its_words(
    hub: LoopbackHub, made: Artifact, path: str, code: int
) -> None:
    hub.fault("status", path=path, code=code, body=b"Out of order.", times=1)
    refused(NetworkError, wanted(made), f"answered {code}", "Out of order.", "Run the same command again")
    request = wanted(made)
    assert_published(hub, made, request, publish(request))


def test_a_server_that_falls_silent_is_given_up_and_what_it_did_is_found(
    hub: LoopbackHub, made: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zoo.publishing.client.PATIENCE", 0.3)
    hub.fault("delay", path="*/tag/*", seconds=1.5)
    refused(NetworkError, wanted(made), "failed while tagging", "timed out", "Run the same command again")
    hub.fault("delay", path="/api/validate-yaml", seconds=1.5)
    newer = published.artifact(made.path.parent / "newer", psnr=2.0)
    refused(NetworkError, wanted(newer, tag="v2"), "failed while committing")


def test_no_server_is_an_error(hub: LoopbackHub, made: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    refused(NetworkError, wanted(made), "127.0.0.1:9", "refused")


def test_a_bit_flipped_on_the_way_back_is_read_again(hub: LoopbackHub, made: Artifact) -> None:
    fault = hub.fault("flip", path="*model.onnx")
    request = wanted(made)
    assert_published(hub, made, request, publish(request))
    assert fault.hits == 1


@pytest.mark.parametrize("name", ["zoo.json", "README.md", "model.onnx", ".eval_results/darkroom.yaml"])
def test_what_comes_back_otherwise_is_neither_tagged_nor_registered(
    hub: LoopbackHub, made: Artifact, tmp_path: Path, name: str
) -> None:
    hub.fault("flip", path=f"*{name}", times=None)
    registry = tmp_path / "registry.toml"
    refused(IntegrityError, wanted(made, register=registry), f"{name} of {HOME}", "was read back")
    assert hub.repos[HOME].tags == {}
    assert not registry.exists()
    hub.faults.clear()
    request = wanted(made, register=registry)
    assert_published(hub, made, request, publish(request))


def test_a_file_that_the_repository_ignores_is_missed(hub: LoopbackHub, made: Artifact) -> None:
    publish(wanted(made, tag=""))
    hub.commit(HOME, {}, gone=["sample.png"])
    hub.fault("status", path="*sample.png", code=404, headers={"X-Error-Code": "EntryNotFound"}, times=None)
    refused(IntegrityError, wanted(made), "sample.png", "is not there", ".gitignore")


@pytest.mark.parametrize("path", ["/api/models/*", "*/resolve/*", "/tester/tiny-net/*/model.onnx"])
def test_a_redirect_to_another_host_takes_no_token_along(hub: LoopbackHub, made: Artifact, path: str) -> None:
    publish(wanted(published.artifact(made.path.parent / "older", psnr=1.0), tag="v0"))
    hub.fault("redirect", path=path, times=None, method="GET", body=b"{}")
    with contextlib.suppress(ZooError):
        publish(wanted(made))
    assert hub.asked(host="elsewhere")
    assert hub.leaks() == []


def test_a_disk_that_cannot_be_read_is_no_fault_of_the_network() -> None:
    try:
        raise RuntimeError("upload failed") from OSError(errno.EIO, "Input/output error")
    except RuntimeError as error:
        found = error_for(error, "committing to a/b")
    assert isinstance(found, OutputError)
    assert found.message == "Committing to a/b failed: the device reported an input/output error."


def test_a_full_disk_is_no_fault_of_the_network(
    hub: LoopbackHub, made: Artifact, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (small_disk / "filler").write_bytes(b"x" * 230_000)
    monkeypatch.setenv("ZOO_CACHE", str(small_disk / "cache"))
    refused(OutputError, wanted(made), str(small_disk), "ZOO_CACHE")


# -------------------------------------------------------------------------------------------------- secrets


def run_command(*arguments: str, **environment: str) -> Result:
    done = subprocess.run(
        [sys.executable, "-m", "zoo_cli", *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    return Result(done.returncode, done.stdout, done.stderr)


def test_secrets_appear_in_no_output_log_or_error(hub: LoopbackHub, made: Artifact) -> None:
    """With every log of the client switched on, in success and in failures at several places."""
    loud = {"HF_DEBUG": "1", "HF_HUB_VERBOSITY": "debug"}
    told = ""
    for fault in (
        None,
        {"path": "/upload/*", "kind": "status", "code": 403},
        {"path": "*/tag/*", "kind": "reset"},
    ):
        hub.repos.clear()
        hub.objects.clear()
        hub.faults.clear()
        if fault:
            hub.fault(**fault, times=None, body=f"denied to {hub.token}".encode())  # type: ignore[arg-type]
        done = run_command("--debug", "publish", str(made.path), HOME, "--revision-tag", "v1", **loud)
        assert done.code == (9 if fault else 0), done.err
        told += done.out + done.err
    assert "preupload" in told  # the log really was on
    assert "[hidden]" in told
    assert hub.token not in told
    signatures = {hub.signature(each.path) for each in hub.seen if each.host == "storage"}
    assert signatures
    assert not [each for each in signatures if each in told]


def test_the_client_is_left_as_it_was(hub: LoopbackHub, made: Artifact) -> None:
    from huggingface_hub import constants, get_session
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled

    def state() -> list[object]:
        return [
            constants.HF_HUB_DISABLE_XET,
            are_progress_bars_disabled(),
            logging.getLogRecordFactory(),
            get_session().timeout,
        ]

    before = state()
    publish(wanted(made))
    assert state() == before
    hub.fault("race")
    refused(NetworkError, wanted(published.artifact(made.path.parent / "n", psnr=1.0), tag="v9"))
    assert state() == before


def test_an_interrupt_ends_it_at_once_and_the_next_run_goes_on(hub: LoopbackHub, made: Artifact) -> None:
    def interrupt(_: Mapping[str, str]) -> bool:
        os.kill(os.getpid(), signal.SIGINT)
        return False

    hub.fault("delay", path="*/commit/*", when=interrupt)
    with pytest.raises(KeyboardInterrupt):
        publish(wanted(made))
    hub.faults.clear()
    request = wanted(made)
    assert_published(hub, made, request, publish(request))
    assert commits(hub) == 1


def test_a_server_without_lists_of_tags_and_sizes_will_do(hub: LoopbackHub, made: Artifact) -> None:
    hub.plain = True
    first = publish(wanted(made))
    assert (first.created, bool(first.uploaded)) == (True, True)
    assert hub.repos[HOME].tags == {"v1": first.commit}
    again = publish(wanted(made))
    assert (again.commit, again.uploaded) == (first.commit, ())
    other = published.artifact(made.path.with_name("other"), psnr=28.0)
    with pytest.raises(UsageError, match="tags are not moved"):
        publish(wanted(other))
