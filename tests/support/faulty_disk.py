"""A disk that fails: a library, preloaded, in which calls on files under a folder fail as the system's would.

A process arms it through its environment, before it starts, or through :func:`arm`.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

#: The kinds of calls, as bits of FAULT_KINDS.
READ, WRITE, SYNC, RENAME, CREATE = (1 << bit for bit in range(5))
_SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int kinds = -1, left, error_number, met;

void fault_arm(int which, int after, int number) {
    kinds = which; left = after; error_number = number; met = 0;
}

int fault_met(void) { return met; }

static int strikes(int kind, const char *path) {
    const char *word = getenv("FAULT_WORD"), *which = getenv("FAULT_KINDS");
    if (!word) return 0;
    if (kinds == -1)
        fault_arm(which ? atoi(which) : 0, atoi(getenv("FAULT_COUNT") ?: "0"), atoi(getenv("FAULT_ERRNO") ?: "5"));
    if (!(kinds & kind) || !strstr(path, word)) return 0;
    met++;
    if (left-- != 0) return 0;
    errno = error_number;
    return 1;
}

static int file_strikes(int kind, int descriptor) {
    char link[64], path[4096];
    int before = errno;
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, sizeof path - 1);
    errno = before;
    if (length < 0) return 0;
    path[length] = 0;
    return strikes(kind, path);
}

#define OF_FILE(result, name, kind, parameters, ...) \
    result name parameters { \
        static result (*real) parameters; \
        if (!real) real = dlsym(RTLD_NEXT, #name); \
        return file_strikes(kind, file) ? -1 : real(__VA_ARGS__); \
    }
#define OF_PATH(name, kind, parameters, ...) \
    int name parameters { \
        static int (*real) parameters; \
        if (!real) real = dlsym(RTLD_NEXT, #name); \
        return strikes(kind, path) ? -1 : real(__VA_ARGS__); \
    }

OF_FILE(ssize_t, read, 1, (int file, void *to, size_t size), file, to, size)
OF_FILE(ssize_t, write, 2, (int file, const void *from, size_t size), file, from, size)
OF_FILE(int, fsync, 4, (int file), file)
OF_PATH(rename, 8, (const char *from, const char *path), from, path)
OF_PATH(mkdir, 16, (const char *path, mode_t mode), path, mode)

int open64(const char *path, int flags, ...) {
    static int (*real)(const char *, int, ...);
    if (!real) real = dlsym(RTLD_NEXT, "open64");
    va_list rest;
    va_start(rest, flags);
    mode_t mode = flags & O_CREAT ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    return (flags & O_CREAT) && strikes(16, path) ? -1 : real(path, flags, mode);
}
"""


def build(folder: Path) -> Path:
    """Compile the library into a folder; skip the test where that cannot be done."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("no C compiler is here, or this is not Linux")
    (folder / "faulty.c").write_text(_SOURCE)
    library = folder / "faulty.so"
    command = [compiler, "-shared", "-fPIC", "-o", str(library), str(folder / "faulty.c"), "-ldl"]
    subprocess.run(command, check=True, capture_output=True)
    return library


def failing(library: Path, word: str, kinds: int = 0, count: int = 0) -> Mapping[str, str]:
    """Return the environment of a process in which call number `count` of some kinds fails, on paths with a word."""
    return {
        "LD_PRELOAD": str(library),
        "FAULT_WORD": word,
        "FAULT_KINDS": str(kinds),
        "FAULT_COUNT": str(count),
    }


def arm(kinds: int, count: int, error: int) -> None:
    """Have call number `count` of some kinds fail from now on, in a process with the library; -1 for none."""
    ctypes.CDLL(None).fault_arm(kinds, count, error)


def met() -> int:
    """Return how many calls of the armed kinds there were."""
    return int(ctypes.CDLL(None).fault_met())
