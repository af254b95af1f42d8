"""Several registries are one catalogue, in which no id is taken over and none is guessed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from support import tiny
from support.fake_distributions import zoo
from support.installation import install
from support.loopback_hub import LoopbackHub
from support.pulling import Notes, contents
from zoo import registry
from zoo.checkpoints.resolver import locate_artifact
from zoo.download import pull
from zoo.download.named_registry import load_registries
from zoo.errors import InputError, IntegrityError, NetworkError, UnknownIdError, UsageError
from zoo.registry import checkpoints, merge, parse_registry
from zoo.registry.sources import check_source

COMMIT = "0123456789" * 4


def entry(name: str, *, digest: str = "a1" * 32, sources: str = '"file:/nowhere"', more: str = "") -> str:
    return f"""
[checkpoint.{name}]
summary = "the net {name}"
architecture = "unet"
recipe = ""
fingerprint = "sha256:{digest}"
sources = [{sources}]
{more}
[checkpoint.{name}.files]
"zoo.json" = {{ sha256 = "{digest}", size = 3 }}
"""


def registry_at(path: Path, *entries: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("format = 1\n" + "".join(entries))
    return path


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """An installation with the checkpoint "small-unet"; nothing else counts."""
    monkeypatch.setenv("ZOO_REGISTRY", "")
    yield install(monkeypatch, tmp_path, tiny.bayer_artifact(tmp_path / "small-unet"))
    registry.checkpoints.cache_clear()


def test_the_users_own_registry_counts_after_the_installed_one(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = registry_at(tmp_path / "config" / "compression-zoo" / "registry.toml", entry("mine"))
    named = registry_at(tmp_path / "named.toml", entry("other"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for variable, expected in (("", []), (None, ["mine"]), (str(named), ["other"])):
        if variable is None:
            monkeypatch.delenv("ZOO_REGISTRY")
        else:
            monkeypatch.setenv("ZOO_REGISTRY", variable)
        registry.checkpoints.cache_clear()
        assert list(checkpoints()) == ["small-unet", *expected]
    monkeypatch.delenv("ZOO_REGISTRY")
    registry.checkpoints.cache_clear()
    assert checkpoints()["mine"].registry == str(own)
    monkeypatch.setenv("ZOO_REGISTRY", str(tmp_path / "none.toml"))
    registry.checkpoints.cache_clear()
    with pytest.raises(UsageError, match=r"ZOO_REGISTRY names .*none\.toml, which is not a file"):
        checkpoints()


def test_an_id_is_not_taken_over_by_another_registry(package: Path, tmp_path: Path) -> None:
    rival = registry_at(tmp_path / "rival.toml", entry("small-unet"))
    with pytest.raises(UsageError) as caught:
        load_registries(str(rival))
    assert str(package / "registry.toml") in caught.value.message
    assert str(rival) in caught.value.message
    assert "Give it another id" in (caught.value.hint or "")


def test_a_registry_with_the_same_pins_adds_its_sources(package: Path, tmp_path: Path) -> None:
    text = (package / "registry.toml").read_text().replace('"package"', '"package", "file:/mirror"')
    (tmp_path / "mirror.toml").write_text(text)
    known = load_registries(str(tmp_path / "mirror.toml"))
    assert known["small-unet"].sources == ("package", "file:/mirror")
    assert known["small-unet"].registry == str(package / "registry.toml")


def test_merging_changes_neither_registry(package: Path) -> None:
    more = parse_registry(("format = 1\n" + entry("mine")).encode(), "r.toml")
    assert list(merge(checkpoints(), more)) == ["small-unet", "mine"]
    assert list(checkpoints()) == ["small-unet"]


@pytest.mark.parametrize("name", ["small_unet", "smal-unet", "Small-Unet", "small-unett", "small--unet"])
def test_a_misspelling_of_a_built_in_id_is_never_chosen(package: Path, name: str) -> None:
    for ask in (pull, locate_artifact):
        with pytest.raises(UnknownIdError, match="did you mean 'small-unet'"):
            ask(name)


def test_an_id_like_a_built_in_one_is_announced_with_where_it_is_from(package: Path, tmp_path: Path) -> None:
    fork = registry_at(tmp_path / "fork.toml", entry("small-unets"))
    notes = Notes()
    with pytest.raises(InputError):
        pull("small-unets", known=load_registries(str(fork)), reporter=notes)
    assert notes.notes[0] == f"small-unets is from the registry {fork}; did you mean 'small-unet'?"


def test_a_fork_of_the_same_name_on_the_hub_is_told_from_the_built_in_one(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes = Notes()
    with LoopbackHub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        commit = hub.add_repo("evil/small-unet", contents(package / "checkpoints" / "small-unet"))
        with pytest.raises(UsageError, match="can move"):
            pull("evil/small-unet")
        pulled = pull(f"evil/small-unet@{commit}", reporter=notes)
    assert notes.notes[0].endswith("unpinned: no registry lists it; it is not the built-in 'small-unet'.")
    assert locate_artifact("small-unet").path == package / "checkpoints" / "small-unet"
    assert locate_artifact(f"evil/small-unet@{commit}").path == pulled.path


def test_what_was_pulled_from_a_registry_named_by_hand_is_found_without_it(
    package: Path, tmp_path: Path
) -> None:
    shipped = package / "checkpoints" / "small-unet"
    text = (package / "registry.toml").read_text().replace("small-unet", "elsewhere")
    registry_file = tmp_path / "elsewhere.toml"
    registry_file.write_text(text.replace('"package"', f'"file:{shipped}"'))
    with pytest.raises(UnknownIdError, match="elsewhere"):
        locate_artifact("elsewhere")
    pulled = pull("elsewhere", known=load_registries(str(registry_file)))
    assert locate_artifact("elsewhere").path == pulled.path


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("package", None),
        (f"hf:me/my_net.v2@{COMMIT}", None),
        ("https://example.com/nets/a/", None),
        ("https://example.com:8443/a/", None),
        ("http://127.0.0.1:8000/a/", None),
        ("http://[::1]:8000/a/", None),
        ("http://localhost/a/", None),
        ("file:/srv/nets/a", None),
        ("packages", "none of"),
        ("ftp://example.com/", "none of"),
        ("hf:me/net@main", "forty hexadecimal"),
        (f"hf:me/net@{COMMIT[:12]}", "forty hexadecimal"),
        (f"hf:me/net@{COMMIT.upper().replace('0', 'A')}", "forty hexadecimal"),
        (f"hf:net@{COMMIT}", "forty hexadecimal"),
        (f"hf:../net@{COMMIT}", "forty hexadecimal"),
        (f"hf:me/..@{COMMIT}", "forty hexadecimal"),
        (f"hf:me/a..b@{COMMIT}", "forty hexadecimal"),
        ("https://example.com/a", "does not end"),
        ("https://me:secret@example.com/a/", "password"),
        ("https://example.com/a/?token=x", "query"),
        ("https://example.com/a/#x", "fragment"),
        ("https://", "not an address"),
        ("https://example.com:port/a/", "not an address"),
        ("https://exämple.com/a/", "not an address"),
        ("http://example.com/a/", "not encrypted"),
        ("http://169.254.169.254/a/", "not encrypted"),
        ("http://127.0.0.1.example.com/a/", "not encrypted"),
        ("file:nets/a", "from the root"),
        ("file://host/a", "from the root"),
    ],
)
def test_sources_are_of_the_documented_forms_only(source: str, reason: str | None) -> None:
    found = check_source(source)
    assert found is None if reason is None else reason in str(found)
    text = f"format = 1\n{entry('net', sources=repr(source))}".encode()
    if reason is None:
        assert parse_registry(text, "r.toml")["net"].sources == (source,)
    else:
        with pytest.raises(IntegrityError, match="sources"):
            parse_registry(text, "r.toml")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ('devices = { "Jetson" = "x" }', "has a malformed key 'Jetson'"),
        ('devices = { "jetson" = 3 }', "must be text"),
        ('tag = "a b"', "malformed"),
        ('tag = "../x"', "malformed"),
        ('source = "package"', "unknown key"),
    ],
)
def test_devices_and_tags_are_checked(more: str, message: str) -> None:
    with pytest.raises(IntegrityError, match=message):
        parse_registry(f"format = 1\n{entry('net', more=more)}".encode(), "r.toml")


@pytest.mark.parametrize("sources", ["", ", ".join(['"package"'] * 21), "3", '""'])
def test_a_list_of_sources_is_short_and_of_text(sources: str) -> None:
    with pytest.raises(IntegrityError, match="sources"):
        parse_registry(f"format = 1\n{entry('net', sources=sources)}".encode(), "r.toml")


# ------------------------------------------------------------------------------------- from a web server


class Shelf(BaseHTTPRequestHandler):
    """Serves what `content` holds, by path."""

    content: ClassVar[dict[str, bytes]] = {}

    def do_GET(self) -> None:
        body = self.content.get(self.path)
        self.send_response(404 if body is None else 200)
        self.send_header("Content-Length", str(len(body or b"")))
        self.end_headers()
        self.wfile.write(body or b"")

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def shelf() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Shelf)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    Shelf.content = {}


def test_a_registry_comes_from_a_web_server_and_may_not_name_folders_of_this_machine(
    package: Path, shelf: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_" + "secret" * 6)
    good = entry("far", sources=f'"hf:me/net@{COMMIT}", "https://example.com/net/"')
    Shelf.content = {
        "/good.toml": b"format = 1\n" + good.encode(),
        "/local.toml": b"format = 1\n" + entry("far", sources='"file:/etc"').encode(),
        "/large.toml": b"#" * (1 << 20) + b"\n#",
        "/page.html": b"<!doctype html>",
    }
    assert load_registries(f"{shelf}/good.toml")["far"].registry == f"{shelf}/good.toml"
    with pytest.raises(IntegrityError, match="named by a registry that is not on it"):
        load_registries(f"{shelf}/local.toml")
    with pytest.raises(IntegrityError, match="larger than the 1,048,576 bytes"):
        load_registries(f"{shelf}/large.toml")
    with pytest.raises(IntegrityError, match="not valid TOML"):
        load_registries(f"{shelf}/page.html")
    with pytest.raises(NetworkError, match="404"):
        load_registries(f"{shelf}/none.toml")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(NetworkError, match="HF_HUB_OFFLINE"):
        load_registries(f"{shelf}/good.toml")


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("http://example.com/r.toml", "not encrypted"),
        ("ftp://example.com/r.toml", "not an address"),
        ("https://me:secret@example.com/r.toml", "password"),
        ("file:///etc/passwd", "not an address"),
    ],
)
def test_a_registry_is_not_fetched_from_anywhere(package: Path, address: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        load_registries(address)
    assert "secret" not in str(caught.value)


def test_a_registry_file_that_cannot_be_read_is_named(package: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.toml"):
        load_registries(str(tmp_path / "none.toml"))
    (tmp_path / "bad.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(IntegrityError, match="not valid TOML"):
        load_registries(str(tmp_path / "bad.toml"))


def test_the_list_is_filtered_by_device_size_and_architecture(tmp_path: Path) -> None:
    more = (
        entry(
            "on-nano", more='devices = { "jetson-nano" = "ONNX Runtime 1.18" }\nfigures = { psnr_db = 27.25 }'
        ),
        entry("mask", more="figures = { dice = 0.91, latency_ms = 12.34 }").replace(
            '"unet"', '"other:big"', 1
        ),
    )
    path = str(registry_at(tmp_path / "r.toml", *more))

    def ids(*options: str) -> list[str]:
        done = zoo("list", "checkpoints", "--registry", path, "--json", *options, ZOO_REGISTRY="")
        assert done.code == 0, done.err
        return [each["id"] for each in done.json["checkpoints"]]

    everything = ids()
    assert {"unet", "on-nano", "mask"} <= set(everything)
    assert ids("--device", "jetson-nano") == ["on-nano"]
    assert set(ids("--max-mb", "0.1")) == {"on-nano", "mask"}
    assert ids("--arch", "other") == ids("--arch", "other:big") == ["mask"]
    assert ids("--arch", "unet", "--max-mb", "0.1") == ["on-nano"]
    table = zoo("list", "checkpoints", "--registry", path, ZOO_REGISTRY="").out
    assert "27.25 dB" in table
    assert "Dice 0.91" in table
    assert "12.3 ms" in table
    assert "jetson-nano" in table
    refused = zoo("list", "devices", "--max-mb", "3")
    assert refused.code == 2
    assert "zoo list checkpoints" in refused.err
