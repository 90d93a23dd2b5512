# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""What the set-up left: QEMU, kernel, headers, Python, rdma-core.

`buildlib/quickstart.sh` writes build/machine.json; the environment variable MLX5EMU_MACHINE names
another one.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

#: The root of this project, where build/ is.
PROJECT = Path(__file__).resolve().parents[3]


class MachineError(Exception):
    """The machine is not set up, or its description is damaged."""


@dataclass(frozen=True)
class Machine:
    """Where the parts of the bench are on this machine."""

    qemu: list[str]
    virtiofsd: list[str] | None
    busybox: Path
    kernel: Path
    modules: Path
    release: str
    mlx5_include: Path
    #: The CPython of the guest and of the tests, and the faster one that runs the card: PyPy.
    python: str
    card_python: str
    rdma_core_source: Path
    rdma_core_build: Path
    rdma_core_version: str
    #: The file that this was read from.
    path: Path

    @classmethod
    def load(cls, path: Path | None = None) -> Machine:
        """Read the description.

        :param path: the JSON file; by default MLX5EMU_MACHINE, else build/machine.json
        :raises MachineError: no such file, or not what the set-up writes
        """
        path = path or Path(os.environ.get('MLX5EMU_MACHINE') or PROJECT / 'build' / 'machine.json')
        try:
            d = json.loads(path.read_text())
            return cls(qemu=d['qemu'], virtiofsd=d['virtiofsd'], busybox=Path(
                d['busybox']), kernel=Path(d['kernel']['image']), modules=Path(
                    d['kernel']['modules']), release=d['kernel']['release'], mlx5_include=Path(
                        d['mlx5_include']), python=d['python'], card_python=d['card_python'],
                       rdma_core_source=Path(d['rdma_core']['source']), rdma_core_build=Path(
                           d['rdma_core']['build']), rdma_core_version=d['rdma_core']['version'],
                       path=path.resolve())
        except FileNotFoundError:
            raise MachineError(
                f'{path} is missing: run `bash buildlib/quickstart.sh demo` once, it sets the '
                'machine up'
            ) from None
        except (KeyError, ValueError, TypeError) as e:
            raise MachineError(
                f'{path} is damaged ({e!r}): remove it and run `bash buildlib/quickstart.sh demo`'
            ) from e

    def environment(self) -> dict[str, str]:
        """Return the variables with which Python finds pyverbs of this build, and pyverbs its
        libraries."""
        build = self.rdma_core_build
        tests = PROJECT / 'tests'
        path = [str(build / 'python'), str(tests)]
        return {
            'PYTHONPATH':
            os.pathsep.join(path + [p for p in (os.environ.get('PYTHONPATH'), ) if p]),
            'LD_LIBRARY_PATH':
            os.pathsep.join([str(build / 'lib')] +
                            [p for p in (os.environ.get('LD_LIBRARY_PATH'), ) if p]), 'PATH':
            os.pathsep.join([
                str(Path(self.python).parent),
                str(build / 'bin'),
                os.environ.get('PATH', '/usr/bin:/bin')]), 'PYTHONUNBUFFERED':
            '1', 'PYTHONDONTWRITEBYTECODE':
            '1', 'MLX5EMU_TESTS': str(tests), 'MLX5_INCLUDE':
            str(self.mlx5_include), 'MLX5EMU_MACHINE':
            str(self.path)}
