"""Opening a study in whatever storage Optuna knows, and naming the storage where it cannot be reached."""

from __future__ import annotations

import contextlib
import functools
import gc
import re
import sqlite3
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, TypeVar

from zoo.errors import InputError, OutputError, UsageError, ZooError

if TYPE_CHECKING:
    from optuna import Study


#: What SQLite says of a disk that is full, broken or not to be written to.
_DISK = re.compile(r"\bdisk\b|readonly")


class _Stored(Protocol):
    """What is kept in a storage."""

    url: str


_Parameters = ParamSpec("_Parameters")
_Returned = TypeVar("_Returned")
_Owner = TypeVar("_Owner", bound=_Stored)


def while_reachable(
    method: Callable[Concatenate[_Owner, _Parameters], _Returned],
) -> Callable[Concatenate[_Owner, _Parameters], _Returned]:
    """Turn what a storage raises that is lost during a search into an error that names it."""

    @functools.wraps(method)
    def guarded(self: _Owner, /, *args: _Parameters.args, **named: _Parameters.kwargs) -> _Returned:
        from optuna.exceptions import StorageInternalError

        try:
            return method(self, *args, **named)
        except StorageInternalError as error:
            raise _unreachable(self.url, error.__cause__ or error) from error

    return guarded


@contextlib.contextmanager
def opening(url: str) -> Iterator[None]:
    """Turn whatever a storage raises while it is opened into an error that names it."""
    try:
        yield
    except (InputError, UsageError):
        raise
    except Exception as error:
        raise _unreachable(url, error) from error


@contextlib.contextmanager
def collector_paused() -> Iterator[None]:
    """Let no garbage be collected while many objects are made of which none is: it would take half of the time."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _unreachable(url: str, error: BaseException) -> ZooError:
    lost = "What was recorded is there when the same command is given again."
    each: BaseException | None = error
    while each is not None:
        # The classes of errors of SQLite's own say no more than its messages.
        if isinstance(each, sqlite3.OperationalError) and _DISK.search(str(each)):
            return OutputError(
                f"Cannot write {_without_password(url)}: {each}.",
                hint=f"Free some space, or name another place. {lost}",
            )
        each = each.__cause__ or each.__context__
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return InputError(
        f"The storage {_without_password(url)} cannot be reached: {reason[:300]}",
        hint="Check --storage, and that its driver is installed; without it the study is a file of the folder. "
        + lost,
    )


def open_study(url: str, name: str, goals: int) -> Study:
    """Return a study that minimises so many goals, a new one if the storage does not hold it."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        storage = optuna.storages.get_storage(url)
        _keep_what_is_read(storage)
        if url.startswith("sqlite:"):
            _write_ahead(storage)
        return optuna.create_study(
            storage=storage, study_name=name, directions=["minimize"] * goals, load_if_exists=True
        )


def _keep_what_is_read(storage: Any) -> None:
    """Let SQLAlchemy not mark what it has read as outdated: one process writes, and a fifth of opening is marking."""
    sessions = getattr(getattr(storage, "_backend", storage), "scoped_session", None)
    if sessions is not None:
        sessions.configure(expire_on_commit=False)


def _write_ahead(storage: Any) -> None:
    """Let SQLite append to a log: what is committed survives a kill, without waiting for the disk each time."""
    import sqlalchemy

    engine = getattr(storage, "_backend", storage).engine

    @sqlalchemy.event.listens_for(engine, "connect")
    def prepare(connection: Any, record: Any) -> None:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")

    engine.dispose()


def _without_password(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    credentials, at, host = rest.rpartition("@")
    return f"{scheme}{separator}{credentials.partition(':')[0]}{at}{host}" if at else url
