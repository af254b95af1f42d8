"""Arrays in .npz and .safetensors files, read row by row."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from zoo.errors import InputError

if TYPE_CHECKING:
    import numpy.typing as npt

#: Compressed arrays are unpacked in memory, up to this many bytes.
_UNPACKED = 1 << 30
_MOST_ARRAYS = 500
#: Kinds of NumPy types that are numbers: truth values, integers and floats.
_NUMERIC = "biuf"
#: Types of the safetensors format that NumPy has.
_TYPES = frozenset({"BOOL", "U8", "I8", "U16", "I16", "U32", "I32", "U64", "I64", "F16", "F32", "F64"})
_LOCAL_HEADER = 30


class Rows(Protocol):
    """An array that is read row by row."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __getitem__(self, index: Any) -> Any: ...


class SeveralRows:
    """Several arrays of one length, whose rows are read together: by the arrays' names.

    Args:
        arrays: The arrays.
        where: The file, for messages.

    Raises:
        InputError: They are of different lengths.
    """

    def __init__(self, arrays: Mapping[str, Rows], where: str) -> None:
        self._arrays = dict(arrays)
        lengths = {name: array.shape[:1] for name, array in self._arrays.items()}
        if len(set(lengths.values())) > 1:
            shown = ", ".join(
                f"{length[0] if length else 'one'} of '{name}'" for name, length in lengths.items()
            )
            raise InputError(
                f"{where} holds different numbers of samples: {shown}.",
                hint="Each array of inputs needs one row per sample.",
            )
        self.shape = next(iter(lengths.values()))

    def __getitem__(self, index: int) -> dict[str, npt.NDArray[Any]]:
        return {name: np.asarray(array[index]) for name, array in self._arrays.items()}


def open_arrays(path: Path) -> Mapping[str, Rows]:
    """Return the arrays of a file by name; no more than single rows of them are held in memory.

    Raises:
        InputError: The file is not .npz, .npy or .safetensors, is damaged, or holds Python objects.
    """
    if not path.is_file():
        raise InputError(f"The file {path} does not exist.", hint="Name a .npz or .safetensors file.")
    try:
        if path.suffix == ".npz":
            return _open_npz(path)
        if path.suffix == ".safetensors":
            return _open_safetensors(path)
        if path.suffix == ".npy":
            return {path.stem: np.load(path, mmap_mode="r", allow_pickle=False)}
    except InputError:
        raise
    except Exception as error:  # zipfile, numpy and safetensors raise a dozen unrelated types
        raise InputError(f"{path} is damaged: {error}", hint="Write the file again.") from error
    raise InputError(
        f"{path} is not a .npz, .npy or .safetensors file.",
        hint="Save arrays with numpy.savez(FILE, inputs=...).",
    )


def _open_npz(path: Path) -> dict[str, Rows]:
    arrays: dict[str, Rows] = {}
    unpacked = 0
    with zipfile.ZipFile(path) as archive:
        if len(archive.infolist()) > _MOST_ARRAYS:
            raise InputError(f"{path} holds more than {_MOST_ARRAYS:,} arrays.")
        for member in archive.infolist():
            if not member.filename.endswith(".npy"):
                continue
            name = member.filename.removesuffix(".npy")
            with archive.open(member) as file:
                version = np.lib.format.read_magic(file)
                read = (
                    np.lib.format.read_array_header_1_0
                    if version == (1, 0)
                    else np.lib.format.read_array_header_2_0
                )
                shape, by_columns, dtype = read(file)
                start = file.tell()
            if dtype.kind not in _NUMERIC:
                what = "Python objects, which are not loaded" if dtype.hasobject else f"{dtype}, not numbers"
                raise InputError(
                    f"{path}: the array '{name}' holds {what}.", hint="Save it with a numeric type."
                )
            order: Any = "F" if by_columns else "C"
            if member.compress_type == zipfile.ZIP_STORED:
                offset = _content_offset(path, member) + start
                arrays[name] = (
                    np.memmap(path, dtype, "r", offset, shape, order)
                    if 0 not in shape
                    else np.empty(shape, dtype)
                )
                continue
            unpacked += member.file_size
            if unpacked > _UNPACKED:
                raise InputError(
                    f"{path}: what is compressed in it unpacks to more than {_UNPACKED >> 20:,} MB.",
                    hint="Save large arrays with numpy.savez, which does not compress, or as safetensors.",
                )
            with archive.open(member) as file:
                arrays[name] = np.lib.format.read_array(file, allow_pickle=False)
    return arrays


def _content_offset(path: Path, member: zipfile.ZipInfo) -> int:
    """Return where the content of a member starts: its local header may differ from the one in the directory."""
    with path.open("rb") as file:
        file.seek(member.header_offset)
        header = file.read(_LOCAL_HEADER)
    lengths = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
    return member.header_offset + _LOCAL_HEADER + lengths


@dataclass(frozen=True)
class _Tensor:
    """An array of a .safetensors file."""

    slices: Any
    shape: tuple[int, ...]

    def __getitem__(self, index: Any) -> npt.NDArray[Any]:
        return np.asarray(self.slices[:] if index is ... else self.slices[index])


def _open_safetensors(path: Path) -> dict[str, Rows]:
    from safetensors import safe_open

    file: Any = safe_open(path, framework="numpy")
    slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
    for name, each in slices.items():
        if each.get_dtype() not in _TYPES:
            raise InputError(
                f"{path}: the array '{name}' is of the type {each.get_dtype()}, which NumPy lacks.",
                hint="Save it as float32.",
            )
    return {name: _Tensor(each, tuple(each.get_shape())) for name, each in slices.items()}
