"""Which Hub and which token, as huggingface_hub would choose them; and no secret in any text."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.fake_distributions import python
from zoo.download import endpoint
from zoo.download.endpoint import HIDDEN, contains_token, redact, token, token_path
from zoo.errors import UsageError

TOKEN = "hf_" + "Ab1" * 11


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith(("HF_", "HUGGING_FACE_", "TRANSFORMERS_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HF_HOME", str(tmp_path))


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("", "https://huggingface.co"),
        ("https://hub.example/", "https://hub.example"),
        ("http://127.0.0.1:8900//", "http://127.0.0.1:8900"),
        ("https://host/prefix/", "https://host/prefix"),
    ],
)
def test_the_endpoint_is_that_of_the_environment(
    given: str, found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", given)
    assert endpoint.endpoint() == found


@pytest.mark.parametrize(
    "given",
    [
        "hub.example",
        "ftp://x",
        "https://",
        "https://h:x",
        "https://h?a=1",
        "https://h#a",
        "file:///etc",
        "http://[::1",
    ],
)
def test_what_is_no_address_is_refused(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", given)
    with pytest.raises(UsageError, match="not the address of a Hub") as caught:
        endpoint.endpoint()
    assert "export HF_ENDPOINT=https://huggingface.co" in str(caught.value)


def test_a_password_in_the_endpoint_is_refused_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    for address in ("https://me:sesame@hub.example", "https://me:sesame@hub.example?x=1"):
        monkeypatch.setenv("HF_ENDPOINT", address)
        with pytest.raises(UsageError) as caught:
            endpoint.endpoint()
        assert "sesame" not in str(caught.value)


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("https://huggingface.co", True),
        ("https://hf.co", True),
        ("https://huggingface.co.evil.example", False),
    ],
)
def test_the_public_hub_is_known_by_its_name(address: str, public: bool) -> None:
    assert endpoint.is_public(address) is public


def test_the_token_is_found_where_the_client_finds_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert token() is None
    (tmp_path / "token").write_text(f"{TOKEN}1\n")
    (tmp_path / "other").write_text(f" {TOKEN}2 \r\n")
    for names, last in (
        ({}, "1"),
        ({"HF_TOKEN_PATH": str(tmp_path / "other")}, "2"),
        ({"HUGGING_FACE_HUB_TOKEN": f"{TOKEN}3"}, "3"),
        ({"HF_TOKEN": f"{TOKEN}4"}, "4"),
    ):
        for name, value in names.items():
            monkeypatch.setenv(name, value)
        assert token() == TOKEN + last
        theirs = python("-c", "import huggingface_hub; print(huggingface_hub.get_token())")
        assert theirs.out.strip() == token()


@pytest.mark.parametrize(
    "names",
    [{"HF_HOME": "~/x"}, {"XDG_CACHE_HOME": "/c"}, {"HF_HOME": "$HOME/y"}, {"HF_TOKEN_PATH": "~/t"}, {}],
)
def test_the_file_of_the_token_is_that_of_the_client(
    names: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_HOME")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    for name, value in names.items():
        monkeypatch.setenv(name, value)
    theirs = python("-c", "from huggingface_hub import constants; print(constants.HF_TOKEN_PATH)")
    assert theirs.out.strip() == str(token_path())


@pytest.mark.parametrize("value", ["two words", "line\nbreak", "smörgås", "a\x00b", "a\x7f"])
def test_what_cannot_be_a_token_is_refused_and_not_shown(value: str, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(f"sesame-{value}")
    with pytest.raises(UsageError, match="does not hold a token") as caught:
        token()
    assert "sesame" not in str(caught.value)
    assert "sesame" not in redact(f"it was sesame-{value}!")


@pytest.mark.parametrize(
    ("value", "off"), [("1", True), ("true", True), ("ON", True), ("0", False), ("", False)]
)
def test_offline_is_read_as_the_client_reads_it(
    value: str, off: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.setenv(name, value)
        assert endpoint.offline() is off
        monkeypatch.delenv(name)


# -------------------------------------------------------------------------------------------------- redaction


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("token hf_abcdefghijklmnopqrstuvwxyz012345 used", "abcdefghijklmnopqrstuvwxyz012345"),
        ("Authorization: Bearer sesame-open-1", "sesame"),
        ("{'authorization': 'Bearer sesame-open-1'}", "sesame"),
        ("-H 'authorization: Basic c2VzYW1l'", "c2VzYW1l"),
        ("bearer sesame.open", "sesame"),
        ("https://me:sesame@hub.example/x", "sesame"),
        ("https://sesame@hub.example/x", "sesame"),
        ("https://s3/x?X-Amz-Expires=1&X-Amz-Signature=5e5a&y=1", "5e5a"),
        ("https://s3/x?X-Amz-Credential=AKIA%2F5e5a%2Fs3", "5e5a"),
        ("https://cdn/x?Policy=5e5a&Signature=5e5b~__&Key-Pair-Id=K", "5e5"),
        ("https://h/x?token=sesame&a=1", "sesame"),
        ("https://h/x?access_token=sesame", "sesame"),
        ("https://h/x?a=1&api_key=sesame)", "sesame"),
        ("https://blob/x?sv=1&sig=5e5a", "5e5a"),
    ],
)  # fmt: skip
def test_secrets_are_hidden_and_the_rest_is_not(text: str, secret: str) -> None:
    shown = redact(text)
    assert secret not in shown
    assert HIDDEN in shown
    assert redact(shown) == shown


@pytest.mark.parametrize(
    "text",
    [
        "hf_hub_download failed", "the token is wrong", "https://huggingface.co/a/b?x=1&revision=main",
        "sha256 5d7ad71beec40b51ffd62c25ae75400322d459a7d742cad0d5e9873cb34b6c71", "me@example.org", "",
    ],
)  # fmt: skip
def test_what_is_no_secret_stays(text: str) -> None:
    assert redact(text) == text
    assert not contains_token(text)


def test_the_users_own_tokens_are_hidden_whatever_they_look_like(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_TOKEN", "open-sesame")
    (tmp_path / "token").write_text("the-other-one\n")
    endpoint.add_secret("given-at-run-time")
    for secret in ("open-sesame", "the-other-one", "given-at-run-time"):
        assert redact(f"<{secret}>") == f"<{HIDDEN}>"
        assert contains_token(f"x{secret}y")
    assert redact(ValueError("open-sesame")) == HIDDEN


@given(before=st.text(max_size=50), after=st.text(max_size=50))
def test_a_token_is_hidden_wherever_it_stands(before: str, after: str) -> None:
    os.environ["HF_TOKEN"] = "open-sesame-0123"
    try:
        assert "open-sesame-0123" not in redact(f"{before}open-sesame-0123{after}")
    finally:
        del os.environ["HF_TOKEN"]


def test_asking_for_the_endpoint_imports_no_client() -> None:
    done = python(
        "-c", "import sys, zoo.download.endpoint as e; e.token(); print('huggingface_hub' in sys.modules)"
    )
    assert done.out.strip() == "False"
