# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""C programs of the tests, built against the rdma-core in use."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pyverbs


@contextlib.contextmanager
def built(source: Path, *libraries: str) -> Iterator[str]:
    """Build a program; its file is there until the block is left.

    :param libraries: what it is linked with, as in "ibverbs"
    :raises subprocess.CalledProcessError: it cannot be built; the compiler's words are on standard
        error
    """
    # What the library in use was built with: .../python/pyverbs/__init__.py
    build = Path(pyverbs.__path__[0]).parents[1]
    with tempfile.TemporaryDirectory() as directory:
        program = os.path.join(directory, source.stem)
        subprocess.run([
            'cc', '-O2', '-Wall', '-Werror', '-o', program, source, f'-I{build}/include',
            f'-L{build}/lib', *(f'-l{name}' for name in libraries)], check=True)
        yield program
