# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Write what the set-up made as the JSON file that `python3 -m mlx5emu` reads."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path


def describe(a: argparse.Namespace) -> dict[str, object]:
    """Return the description.

    :param a: the arguments below
    """
    release = (a.kernel / 'release').read_text().strip()
    headers = f"linux-headers-{release.removesuffix('-amd64')}-common"
    return {
        'qemu': [str(a.qemu / 'bin/qemu-system-x86_64')],
        'virtiofsd': [str(a.qemu / 'bin/virtiofsd')],
        'busybox': str(a.qemu / 'bin/busybox'),
        'kernel': {
            'image': str(a.kernel / f'boot/vmlinuz-{release}'), 'modules':
            str(a.kernel / f'usr/lib/modules/{release}'), 'release': release},
        'mlx5_include': str(a.kernel / f'usr/src/{headers}/include/linux/mlx5'),
        'python': a.python, 'card_python': a.card_python,
        'rdma_core': {'source': str(a.source), 'build': str(a.build), 'version': a.version}, }


def main() -> None:
    """Write the file as a whole or not at all, and not when it would be the same."""
    p = argparse.ArgumentParser()
    p.add_argument('path', type=Path)
    for name in ('qemu', 'kernel', 'source', 'build'):
        p.add_argument(f'--{name}', type=Path, required=True)
    p.add_argument('--python', required=True)
    p.add_argument('--card-python', required=True)
    p.add_argument('--version', required=True)
    a = p.parse_args()
    text = json.dumps(describe(a), indent=2) + '\n'
    if a.path.is_file() and a.path.read_text() == text:
        return
    part = a.path.with_suffix(f'.{os.getpid()}')
    part.write_text(text)
    part.rename(a.path)


if __name__ == '__main__':
    main()
