# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""In the guest: runs the programs that are named, and tells of each by a line of JSON."""

from __future__ import annotations

import json
import sys
import time

from mlx5emu.vm import control

from foreign.catalogue import load
from foreign.root import Failed, Root


def main() -> None:
    """Run them one after another; none keeps the next from running."""
    programs, roots = load(), {}
    for name in sys.argv[1:]:
        p = programs[name]
        began = time.monotonic()
        figure = error = version = ''
        try:
            if p.suite not in roots:
                roots[p.suite] = Root(p.suite)
            version = roots[p.suite].version(p.package)
            figure = p.run(roots[p.suite])
        except Exception as e:
            # Whatever it is, the next program runs.
            error = str(e) if isinstance(e, Failed) else repr(e)
        defects = [control.call('summary', function=k)['internal_errors'] for k in (0, 1)]
        if any(defects):
            error = f'{error} the card met defects of its own: {defects}'
        print(json.dumps({
            'name': name, 'version': version, 'seconds': time.monotonic() - began, 'figure': figure,
            'error': error}), flush=True)


main()
