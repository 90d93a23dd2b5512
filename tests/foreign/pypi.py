# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""PyPI's ibverbs: bindings that are not pyverbs', with Debian's libibverbs."""

from __future__ import annotations

import re
from pathlib import Path

from foreign.catalogue import program
from foreign.root import Failed, Root

TRAFFIC = Path(__file__).with_name('pypi_traffic.py')


def run(root: Root) -> str:
    """Write and read by RDMA; return the rate that it tells."""
    said = root.run('python3', root.put(TRAFFIC), env={'PYTHONPATH': '/opt/pypi'})
    found = re.search(r'all right, (.*)', said)
    if not found:
        raise Failed(said)
    return found[1]


program('pypi-ibverbs', 'ibverbs', 'PyPI ibverbs: RDMA write and read', quick=True)(run)
program('pypi-ibverbs-ib', 'ibverbs', 'PyPI ibverbs: RDMA write and read', guest='infiniband')(run)
