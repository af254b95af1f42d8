"""Bytes from outside, random ones and good ones with damage: nothing but ZooError escapes from what reads them."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent / "fuzz"))

from targets import TARGETS, ZooError

#: Pieces that mean something to one of the readers.
TOKENS = (
    b"{", b"}", b"[", b"]", b'"', b"'", b"\\", b"\0", b"\n", b"=", b".", b",", b"+", b"(", b")", b"../", b"/", b"@",
    b"-1", b"1e999", b"NaN", b"null", b"true", b"99999999999999999999", b"\xff", b"\xed\xa0\x80", "\u202e".encode(),
    b"\\ud800", b"---\n", b"[[stage]]\n", b"!!python/object:os.system", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
)  # fmt: skip


def survives(name: str, data: bytes) -> None:
    with contextlib.suppress(ZooError):
        TARGETS[name].run(data)


@st.composite
def damaged(draw: st.DrawFn, seeds: tuple[bytes, ...]) -> bytes:
    """A good file with bytes changed, pieces put in, taken out, repeated or moved."""
    content = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(content)))
        length = draw(st.integers(0, 40))
        kind = draw(st.sampled_from(["set", "insert", "delete", "repeat", "token", "cut"]))
        if kind == "set" and place < len(content):
            content[place] = draw(st.integers(0, 255))
        elif kind == "insert":
            content[place:place] = draw(st.binary(max_size=20))
        elif kind == "delete":
            del content[place : place + length]
        elif kind == "repeat":
            content[place:place] = content[place : place + length] * draw(st.integers(1, 3))
        elif kind == "token":
            content[place : place + draw(st.integers(0, 5))] = draw(st.sampled_from(TOKENS))
        elif kind == "cut":
            del content[place:]
    return bytes(content)


@pytest.mark.parametrize("name", TARGETS)
def test_good_bytes_are_read(name: str) -> None:
    for seed in TARGETS[name].seeds:
        if (name, seed[:3]) not in (("names", b"../"), ("names", b"C:x")) and name != "request":
            TARGETS[name].run(seed)


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_random_bytes_raise_nothing_but_zoo_errors(name: str, data: st.DataObject) -> None:
    survives(name, data.draw(st.binary(max_size=300)))


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_damaged_files_raise_nothing_but_zoo_errors(name: str, data: st.DataObject) -> None:
    survives(name, data.draw(damaged(TARGETS[name].seeds)))
