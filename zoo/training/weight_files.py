"""Files of trained weights as training scripts write them: safetensors, and PyTorch's own format without its code.

A PyTorch file is a pickle, which may execute anything when it is read. It is only ever read by
``torch.load(weights_only=True)``, which builds tensors and containers and refuses everything else.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import pathlib
import pickle
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.artifacts.safetensors_check import checked_tensors
from zoo.errors import InputError, IntegrityError, UsageError
from zoo.storage.atomic import open_regular, read_bytes, sha256_of, without_links
from zoo.suggest import did_you_mean

if TYPE_CHECKING:
    from torch import Tensor

#: Ends of names that mean a file of weights, whether it exists or not.
SUFFIXES = (".safetensors", ".pt", ".pth", ".th", ".ckpt", ".bin", ".tar", ".pkl")
#: What a folder of the Hub's layout calls its weights.
_FOLDER_FILES = ("model.safetensors", "pytorch_model.bin")
_LARGEST = 1 << 36
_ZIP, _LFS = b"PK\x03\x04", b"version https://git-lfs"
_MOST_LEVELS = 4
_WANTED = "Name a safetensors file, or one from:  torch.save(model.state_dict(), FILE)"
#: What torch says of instructions that its own files do not have.
_OTHER_PICKLE = "Unsupported operand"
_EMA = re.compile(r"(^|[._])ema([._]|$)")
_REFUSED = re.compile(r"(?:GLOBAL|Unsupported class|class) ([A-Za-z_][\w.]*)")


@dataclass(frozen=True)
class WeightFile:
    """The sets of weights in a file.

    Attributes:
        path: The file.
        sha256: Of its bytes.
        entries: Tensors (...,) of any shape by name, for each place in the file that has some, such as "state_dict"
            or "ema.module"; "" is the top of the file.
    """

    path: Path
    sha256: str
    entries: Mapping[str, Mapping[str, Tensor]]


def find_weight_file(name: str) -> Path | None:
    """Return the file that `name` means, or the one of weights in the folder that it means; None for an artifact.

    Raises:
        UsageError: It ends as the name of such a file does, and does not exist.
    """
    path = Path(name).expanduser()
    if path.is_file():
        return path
    if path.is_dir() and not (path / "zoo.json").exists():
        found = [path / each for each in _FOLDER_FILES if (path / each).is_file()]
        return found[0] if found else None
    if path.suffix.lower() in SUFFIXES and not path.is_dir():
        beside = os.listdir(path.parent) if path.parent.is_dir() else []
        raise UsageError(f"There is no file of weights {path}{did_you_mean(path.name, beside) or '.'}")
    return None


def read_weight_file(path: Path) -> WeightFile:
    """Read a file of weights; no code in it is executed.

    Raises:
        IntegrityError: It is empty, truncated or damaged.
        InputError: It is of another kind, holds no tensors, or could be read only by executing code.
    """
    shown, path = path, without_links(path)  # caches keep their files behind links
    head = _head(path)
    if head.startswith(_LFS):
        raise InputError(
            f"{path} is a pointer of Git LFS, not the file itself.",
            hint=f"Fetch it:  git lfs pull -I {path.name}",
        )
    if path.suffix.lower() == ".safetensors" or _is_safetensors(head):
        from safetensors.torch import load

        content = read_bytes(path, _LARGEST)
        loaded: Any = load(checked_tensors(content, str(path)))
        digest = hashlib.sha256(content).hexdigest()
    else:
        loaded, digest = _torch_load(path, head), sha256_of(path)
    entries = dict(_entries(loaded))
    if not entries:
        raise InputError(f"{path} holds {_described(loaded)} no tensors by name.", hint=_WANTED)
    return WeightFile(shown, digest, entries)


def _head(path: Path) -> bytes:
    with open_regular(path) as file:
        content = file.read(64)
    if not content:
        raise IntegrityError(f"{path} is empty (0 bytes).", hint="Copy or download it again.")
    return content


def _is_safetensors(head: bytes) -> bool:
    return head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 1 << 32


# ------------------------------------------------------------------------------------------- PyTorch's own format


def _torch_load(path: Path, head: bytes) -> Any:
    import torch

    if head.startswith(_ZIP):
        _check_archive(path)
    elif head[:1] != b"\x80":
        raise InputError(f"{path} is neither a safetensors file nor one that torch.save wrote.", hint=_WANTED)
    try:
        with torch.serialization.safe_globals(_harmless()):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        refused = _REFUSED.search(str(error))
        if _OTHER_PICKLE in str(error):
            raise InputError(
                f"{path} is a pickle that torch.save did not write; reading it could execute code.",
                hint=_WANTED,
            ) from error
        if refused is None:
            raise _damaged(path, error) from error
        raise InputError(
            f"{path} could be read only by executing the code that it names ({refused[1]}): it was saved as a whole "
            "module, or with objects besides its tensors.",
            hint=_way_out(path),
        ) from error
    except (
        Exception
    ) as error:  # torch's reader of archives and the unpickler raise all kinds on damaged files
        raise _damaged(path, error) from error


def _check_archive(path: Path) -> None:
    """Refuse archives that are damaged, hold a program, or unpack to more than they are."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise _damaged(path, error) from error
    names = [member.filename for member in members]
    if any(name.endswith("/constants.pkl") for name in names):
        raise InputError(
            f"{path} is a TorchScript program, not a file of weights.",
            hint=f"Save its weights:  python -c \"import torch; torch.save(torch.jit.load('{path}').state_dict(), "
            "'weights.pth')\"",
        )
    if any(name.endswith(".npy") for name in names):
        raise InputError(f"{path} is an archive of NumPy arrays, not a file of weights.", hint=_WANTED)
    if sum(member.file_size for member in members) > path.stat().st_size + (1 << 20):
        raise IntegrityError(f"{path} is compressed, which torch.save does not do.")


def _harmless() -> list[Any]:
    """Return classes of plain values that training scripts store next to the weights: settings and scores."""
    import numpy as np

    number: Any = np.float64(0).__reduce__()[0]
    kinds = {type(np.dtype(kind)) for kind in ("f4", "f8", "i4", "i8", "bool")}
    return [argparse.Namespace, pathlib.PosixPath, number, np.dtype, *kinds]


def _damaged(path: Path, error: Exception) -> IntegrityError:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return IntegrityError(
        f"{path} is truncated or damaged: {reason[:160]}", hint="Copy or download it again."
    )


def _way_out(path: Path) -> str:
    return (
        "Where the code that made it is installed, and if you trust the file, save its tensors alone:  "
        f"python -c \"import torch; m = torch.load('{path}', weights_only=False); "
        "torch.save(m.state_dict() if hasattr(m, 'state_dict') else m['model'].state_dict(), 'weights.pth')\""
    )


# ---------------------------------------------------------------------------------------------------- contents


def _entries(loaded: Any, place: str = "", level: int = 0) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Yield each mapping from names to tensors, at any depth, with the keys that lead to it."""
    import torch

    if not isinstance(loaded, Mapping) or level > _MOST_LEVELS:
        return
    tensors = {
        key: value.detach()
        for key, value in loaded.items()
        if isinstance(key, str) and isinstance(value, torch.Tensor)
    }
    for name, some in _averages_apart(tensors):
        yield f"{place}.{name}".strip("."), some
    for key, value in loaded.items():
        if isinstance(key, str) and isinstance(value, Mapping):
            yield from _entries(value, f"{place}.{key}" if place else key, level + 1)


def _averages_apart(tensors: dict[str, Tensor]) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Yield the tensors of one table, those whose names begin with the name of a moving average by themselves."""
    kept: dict[str, Tensor] = {}
    averages: dict[str, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        first, _, rest = key.partition(".")
        if not (rest and is_average(first)):
            kept[key] = value
        elif value.dim() or rest.endswith("num_batches_tracked"):  # not the average's own counters
            averages.setdefault(first, {})[rest] = value
    if kept:
        yield "", kept
    yield from averages.items()


def is_average(place: str) -> bool:
    """Return whether what is called so in a file is a moving average of weights."""
    return bool(_EMA.search(place.lower()))


def _described(loaded: Any) -> str:
    if isinstance(loaded, Mapping):
        return f"a table with the keys {', '.join(map(str, list(loaded)[:6]))[:120] or '(none)'}, and"
    return f"an object of type {type(loaded).__name__} and"
