"""Files and folders appear whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from zoo.errors import InputError, OutputError
from zoo.storage.atomic import atomic_folder, atomic_write, read_bytes, sha256_of, write_bytes_atomic


def killed_while(code: str, cwd: Path) -> None:
    """Run Python code that prints a line half-way and waits; kill it there with SIGKILL."""
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], cwd=cwd, stdout=subprocess.PIPE, stdin=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"half\n"
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    process.stdout.close()
    assert process.stdin is not None
    process.stdin.close()


HALF_A_FILE = """
    from pathlib import Path
    from zoo.storage.atomic import atomic_write
    with atomic_write(Path("f")) as stream:
        stream.write(b"new" * 1000)
        stream.flush()
        print("half", flush=True)
        input()
"""
HALF_A_FOLDER = """
    from pathlib import Path
    from zoo.storage.atomic import atomic_folder
    with atomic_folder(Path("f"), replace=True) as folder:
        (folder / "a").write_bytes(b"new")
        print("half", flush=True)
        input()
"""


def test_a_written_file_has_exactly_its_content(tmp_path: Path) -> None:
    write_bytes_atomic(tmp_path / "f", b"one")
    write_bytes_atomic(tmp_path / "f", b"two")
    assert (tmp_path / "f").read_bytes() == b"two"
    assert os.listdir(tmp_path) == ["f"]


def test_a_file_killed_half_way_stays_as_it_was_and_the_next_write_cleans_up(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"old")
    killed_while(HALF_A_FILE, tmp_path)
    assert (tmp_path / "f").read_bytes() == b"old"
    assert len(os.listdir(tmp_path)) == 2
    write_bytes_atomic(tmp_path / "f", b"next")
    assert os.listdir(tmp_path) == ["f"]
    assert (tmp_path / "f").read_bytes() == b"next"


def test_a_folder_killed_half_way_stays_as_it_was_and_the_next_one_cleans_up(tmp_path: Path) -> None:
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "a").write_bytes(b"old")
    killed_while(HALF_A_FOLDER, tmp_path)
    assert (tmp_path / "f" / "a").read_bytes() == b"old"
    assert len(os.listdir(tmp_path)) == 2
    with atomic_folder(tmp_path / "f", replace=True) as folder:
        (folder / "a").write_bytes(b"next")
    assert os.listdir(tmp_path) == ["f"]
    assert (tmp_path / "f" / "a").read_bytes() == b"next"


def test_what_another_writer_is_writing_is_not_cleaned_up(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "f") as outer:
        outer.write(b"outer")
        write_bytes_atomic(tmp_path / "f", b"inner")
        assert (tmp_path / "f").read_bytes() == b"inner"
    assert (tmp_path / "f").read_bytes() == b"outer"
    assert os.listdir(tmp_path) == ["f"]


def write_and_raise(path: Path, error: BaseException) -> None:
    with atomic_write(path) as stream:
        stream.write(b"half")
        raise error


def fill(target: Path, content: bytes = b"x", *, then: Callable[[], object] = lambda: None) -> None:
    with atomic_folder(target) as folder:
        (folder / "a").write_bytes(content)
        then()


def throw(error: BaseException) -> None:
    raise error


@pytest.mark.parametrize("interruption", [KeyboardInterrupt(), SystemExit(), ValueError()])
def test_an_interrupted_write_leaves_nothing(tmp_path: Path, interruption: BaseException) -> None:
    with pytest.raises(type(interruption)):
        write_and_raise(tmp_path / "f", interruption)
    with pytest.raises(type(interruption)):
        fill(tmp_path / "d", then=lambda: throw(interruption))
    assert os.listdir(tmp_path) == []


def test_an_existing_folder_is_refused_unless_it_is_to_be_replaced(tmp_path: Path) -> None:
    target = tmp_path / "d"
    target.mkdir()
    with atomic_folder(target) as folder:  # an empty folder holds nothing to lose
        (folder / "a").write_bytes(b"1")
    with pytest.raises(OutputError, match="already exists"):
        fill(target)
    with atomic_folder(target, replace=True) as folder:
        (folder / "b").write_bytes(b"2")
    assert os.listdir(target) == ["b"]
    assert os.listdir(tmp_path) == ["d"]


def test_a_folder_that_appears_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    target = tmp_path / "d"
    with pytest.raises(OutputError, match="was created by another process"):
        fill(target, b"mine", then=lambda: fill(target, b"theirs"))
    assert (target / "a").read_bytes() == b"theirs"
    assert os.listdir(tmp_path) == ["d"]


def test_one_of_many_processes_installs_a_folder_and_none_leaves_anything(tmp_path: Path) -> None:
    code = textwrap.dedent("""
        from pathlib import Path
        from zoo.errors import OutputError
        from zoo.storage.atomic import atomic_folder
        try:
            with atomic_folder(Path("d")) as folder:
                (folder / "a").write_bytes(b"content")
        except OutputError:
            raise SystemExit(8)
    """)
    processes = [subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path) for _ in range(8)]
    assert sorted(process.wait() for process in processes) == [0] + [8] * 7
    assert os.listdir(tmp_path) == ["d"]
    assert os.listdir(tmp_path / "d") == ["a"]


def test_where_folders_cannot_be_exchanged_a_replacement_killed_half_way_is_undone(tmp_path: Path) -> None:
    (tmp_path / ".d.previous").mkdir()
    (tmp_path / ".d.previous" / "a").write_bytes(b"old")
    with pytest.raises(OutputError, match="already exists"):
        fill(tmp_path / "d")
    assert (tmp_path / "d" / "a").read_bytes() == b"old"


def test_a_full_disk_is_reported_and_the_old_file_kept(small_disk: Path) -> None:
    write_bytes_atomic(small_disk / "f", b"old")
    with pytest.raises(OutputError, match=r"Cannot write .*small/f: no space is left") as caught:
        write_bytes_atomic(small_disk / "f", b"x" * 1_000_000)
    assert caught.value.hint
    assert (small_disk / "f").read_bytes() == b"old"
    with pytest.raises(OutputError, match="no space"):
        fill(small_disk / "d", b"x" * 1_000_000)
    assert os.listdir(small_disk) == ["f"]


def test_a_read_only_file_system_is_reported(small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(OutputError, match="read-only"):
        write_bytes_atomic(small_disk / "f", b"x")
    with pytest.raises(OutputError, match="read-only"):
        fill(small_disk / "deep" / "d")


def test_a_folder_without_permission_is_reported(tmp_path: Path) -> None:
    code = """
        import os, sys
        from pathlib import Path
        from zoo.errors import OutputError
        from zoo.storage.atomic import write_bytes_atomic
        if os.geteuid() == 0:
            os.setuid(65534)  # root may write anywhere
        try:
            write_bytes_atomic(Path(sys.argv[1]), b"x")
        except OutputError as error:
            print(error)
    """
    tmp_path.chmod(0o500)
    command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "f")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"Cannot write {tmp_path / 'f'}: permission denied.\n")


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC, errno.EDQUOT])
def test_an_error_of_the_device_names_the_path(tmp_path: Path, code: int) -> None:
    with pytest.raises(OutputError, match=r"Cannot write .*f: "):
        write_and_raise(tmp_path / "f", OSError(code, os.strerror(code)))
    assert os.listdir(tmp_path) == []


def test_folders_devices_and_missing_folders_are_not_written_over(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="it is a directory"):
        write_bytes_atomic(tmp_path, b"x")
    with pytest.raises(OutputError, match="not a regular file"):
        write_bytes_atomic(Path("/dev/full"), b"x")
    with pytest.raises(OutputError, match="its folder does not exist"):
        write_bytes_atomic(tmp_path / "none" / "f", b"x")
    (tmp_path / "f").write_bytes(b"")
    with pytest.raises(OutputError, match="is not a folder"):
        fill(tmp_path / "f")
    with pytest.raises(OutputError, match="in the way"):
        fill(tmp_path / "f" / "d")


def test_sha256_is_that_of_the_content(tmp_path: Path) -> None:
    content = os.urandom(3_000_001)
    (tmp_path / "f").write_bytes(content)
    assert sha256_of(tmp_path / "f") == hashlib.sha256(content).hexdigest()


def test_only_regular_files_of_bounded_size_are_read(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"12345")
    (tmp_path / "link").symlink_to("f")
    os.mkfifo(tmp_path / "pipe")
    assert read_bytes(tmp_path / "f", 5) == b"12345"
    for name in ("link", "pipe", "none", "."):
        with pytest.raises(InputError, match="Cannot read"):
            read_bytes(tmp_path / name, 5)
    with pytest.raises(InputError, match="larger than the 4 bytes"):
        read_bytes(tmp_path / "f", 4)
