"""Registering an entry changes the entry, and not a byte of anything else in the file."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support import tiny
from support.installation import install
from zoo.errors import IntegrityError, OutputError, UsageError
from zoo.publishing.register import check_registry, register, registered, with_older_sources
from zoo.registry import parse_registry

COMMIT = "0123456789abcdef0123456789abcdef01234567"
KEPT = """\
# The checkpoints of the laboratory.
format = 1  # version of the file

# --- day
[checkpoint.day]
summary = "for [daylight] # not a comment"   # keep this
architecture = "unet"
recipe = 'stage-prune(drop=1)'
fingerprint = "sha256:{d}"
sources = [
    "https://host/day/",  # slow
    "file:/srv/day",
]

[checkpoint.day.files]
"zoo.json" = {{ sha256 = "{d}", size = 1 }}

# --- night
""".format(d="a1" * 32)
NIGHT = """\
[checkpoint.night]
# why it is here
summary = "old"  # said by me
architecture = "unet"
recipe = ""
fingerprint = "sha256:{d}"
sources = [
    "https://host/night/",  # where
]

[checkpoint.night.figures]
psnr_db = 20.0  # on the old set
gone = 1  # dropped

[checkpoint.night.files]
# the manifest
"zoo.json" = {{ sha256 = "{d}", size = 2 }}
"old.bin" = {{ sha256 = "{d}", size = 2 }}
""".format(d="b2" * 32)
AFTER = """
# --- dusk
[checkpoint.dusk]
summary = "between"
architecture = "unet"
recipe = ""
fingerprint = "sha256:{d}"
sources = ["file:/srv/dusk"]
figures = {{ psnr_db = 1 }}
files = {{ "zoo.json" = {{ sha256 = "{d}", size = 3 }} }}
# the end
""".format(d="c3" * 32)


FIRST, _, REST = NIGHT.partition("[checkpoint.night.files]")


def entry(name: str = "night", digest: str = "d4" * 32) -> str:
    return (
        f'[checkpoint.{name}]\nsummary = "new"\narchitecture = "unet"\nrecipe = ""\n'
        f'fingerprint = "sha256:{digest}"\nsources = ["hf:me/night@{COMMIT}"]\n\n'
        f"[checkpoint.{name}.figures]\npsnr_db = 25.0\n\n"
        f'[checkpoint.{name}.files]\n"zoo.json" = {{ sha256 = "{digest}", size = 9 }}\n'
    )


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "registry.toml"
    path.write_text(KEPT + NIGHT + AFTER)
    return path


def test_an_entry_takes_the_place_of_the_old_one_and_its_comments_stay(file: Path) -> None:
    assert register(file, "night", entry()).summary == "new"
    text = file.read_text()
    assert text.startswith(KEPT)
    assert text.endswith(AFTER)
    new = text[len(KEPT) : -len(AFTER)]
    assert '[checkpoint.night]\n# why it is here\nsummary = "new"  # said by me\n' in new
    assert "psnr_db = 25.0  # on the old set\n" in new
    assert '# the manifest\n"zoo.json" = {' in new
    for comment in ("# where", "# dropped"):
        assert new.count(comment) == 1
    assert "old.bin" not in new
    assert list(registered(file)) == ["day", "night", "dusk"]
    once = file.read_bytes()
    register(file, "night", entry())
    assert file.read_bytes() == once


def test_a_new_entry_goes_to_the_end(file: Path) -> None:
    register(file, "dawn", entry("dawn"))
    assert file.read_text() == KEPT + NIGHT + AFTER + "\n" + entry("dawn")


def test_a_new_file_is_made(tmp_path: Path) -> None:
    register(tmp_path / "new.toml", "dawn", entry("dawn"))
    assert (tmp_path / "new.toml").read_text() == "format = 1\n\n" + entry("dawn")


def test_line_ends_and_a_missing_last_one_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "registry.toml"
    path.write_bytes((KEPT + NIGHT + AFTER).rstrip().replace("\n", "\r\n").encode())
    register(path, "dawn", entry("dawn"))
    content = path.read_bytes()
    assert content.replace(b"\r\n", b"").count(b"\n") == 0
    assert list(registered(path)) == ["day", "night", "dusk", "dawn"]


def test_a_link_stays_a_link(file: Path, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    link = tmp_path / "sub" / "link.toml"
    link.symlink_to(file)
    register(link, "dawn", entry("dawn"))
    assert link.is_symlink()
    assert "dawn" in registered(file)


def dotted(prefix: str) -> str:
    """The entry "night" as keys with dots."""
    lines = (
        "summary = 'x'",
        "architecture = 'unet' # theirs",
        "recipe = ''",
        f"fingerprint = 'sha256:{'b2' * 32}'",
        "sources = ['package']",
        f"files = {{ 'zoo.json' = {{ sha256 = '{'b2' * 32}', size = 1 }} }}",
    )
    return "".join(f"{prefix}night.{line}\n" for line in lines)


@pytest.mark.parametrize(
    "text",
    [
        # tables of the entry on both sides of another one
        FIRST + AFTER + "\n[checkpoint.night.files]" + REST,
        # the files first
        "[checkpoint.night.files]" + REST + "\n" + FIRST,
        # an entry that is not a table of its own
        "[checkpoint]\n" + dotted(""),
        dotted("checkpoint."),
        "[checkpoint]\n" + dotted("") + AFTER,
        # all in one line
        "checkpoint = { " + dotted("").replace("\n", ", ").replace(" # theirs", "").rstrip(", ") + " }\n",
        # a table that the new entry lacks
        FIRST.replace(
            "[checkpoint.night.figures]",
            "[checkpoint.night.devices] # boards\nhost = 'x'  # mine\n\n[checkpoint.night.figures]",
        )
        + "[checkpoint.night.files]"
        + REST,
    ],
)
@pytest.mark.parametrize("chosen", ["night", "dawn"])
def test_an_entry_is_registered_however_the_file_is_written(tmp_path: Path, text: str, chosen: str) -> None:
    path = tmp_path / "registry.toml"
    path.write_text(f"format = 1\n{text}")
    before = registered(path)
    assert "night" in before
    wanted = parse_registry(f"format = 1\n{entry(chosen)}".encode(), str(path.resolve()))
    assert register(path, chosen, entry(chosen)) == wanted[chosen]
    after = registered(path)
    assert {name: each for name, each in after.items() if name != chosen} == {
        name: each for name, each in before.items() if name != chosen
    }
    for comment in (
        "# why it is here",
        "# where",
        "# the manifest",
        "# --- dusk",
        "# the end",
        "# theirs",
        "# boards",
        "# mine",
    ):
        assert path.read_text().count(comment) == text.count(comment)


def test_text_that_looks_like_a_table_inside_a_string_does_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "registry.toml"
    tricky = KEPT.replace("'stage-prune(drop=1)'", '"""\\\n[checkpoint.night] # \\\n"""')
    path.write_text(tricky)
    register(path, "night", entry())
    assert path.read_text() == tricky + "\n" + entry()


def test_a_damaged_or_unwritable_registry_is_refused_before_anything_is_published(tmp_path: Path) -> None:
    path = tmp_path / "registry.toml"
    path.write_text("format = 1\nsurplus = 2\n")
    with pytest.raises(IntegrityError, match="surplus"):
        check_registry(path, "night")
    with pytest.raises(OutputError, match="does not exist"):
        check_registry(tmp_path / "none" / "registry.toml", "night")
    check_registry(tmp_path / "new.toml", "night")
    assert not (tmp_path / "new.toml").exists()


def test_the_id_of_a_shipped_checkpoint_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = install(monkeypatch, tmp_path, tiny.bayer_artifact(tmp_path / "small"))
    with pytest.raises(UsageError, match="belongs to a checkpoint of this installation") as caught:
        check_registry(tmp_path / "own.toml", "small")
    assert "--id NAME" in str(caught.value)
    check_registry(package / "registry.toml", "small")


def test_sources_of_the_same_bytes_are_kept(tmp_path: Path) -> None:
    def parsed(text: str) -> object:
        return parse_registry(f"format = 1\n{text}".encode(), "x")["night"]

    new = parsed(entry())
    mirrored = parsed(entry().replace("sources = [", 'sources = ["https://mirror/night/", '))
    other = parsed(entry(digest="e5" * 32))
    assert with_older_sources(mirrored, new) == (f"hf:me/night@{COMMIT}", "https://mirror/night/")  # type: ignore[arg-type]
    assert with_older_sources(other, new) == with_older_sources(None, new) == (f"hf:me/night@{COMMIT}",)  # type: ignore[arg-type]


def test_two_at_once_both_register(file: Path) -> None:
    threads = [
        threading.Thread(target=register, args=(file, f"net-{number}", entry(f"net-{number}")))
        for number in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert registered(file).keys() == {"day", "night", "dusk", *(f"net-{number}" for number in range(8))}


_COMMENTS = st.lists(st.sampled_from(["", "# a", "   # [checkpoint.b]", "# x = 1", "#"]), max_size=3)


@given(
    names=st.lists(st.sampled_from("abcd"), unique=True, min_size=1),
    comments=st.lists(_COMMENTS, min_size=5, max_size=5),
    chosen=st.sampled_from("abcde"),
)
def test_nothing_else_ever_changes(
    tmp_path_factory: pytest.TempPathFactory, names: list[str], comments: list[list[str]], chosen: str
) -> None:
    path = tmp_path_factory.mktemp("registry") / "registry.toml"
    blocks = ["format = 1\n"]
    for name, lines in zip(names, comments, strict=False):
        blocks += ["".join(f"{line}\n" for line in lines), entry(f"net-{name}", digest="b2" * 32)]
    path.write_text("".join(blocks) + "# the end\n")
    register(path, f"net-{chosen}", entry(f"net-{chosen}"))
    if chosen in names:
        blocks[2 + 2 * names.index(chosen)] = entry(f"net-{chosen}")
        assert path.read_text() == "".join(blocks) + "# the end\n"
    else:
        assert path.read_text() == "".join(blocks) + "# the end\n\n" + entry(f"net-{chosen}")
