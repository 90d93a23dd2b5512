# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Print the Debian archives that this machine may use: lines of main archive and security
archive, best first.

A security archive that is not configured is printed as `-`. Third parties are left out: an entry
counts when it is for this Debian's own suites, has the component main, and names no key but
Debian's.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

PUBLIC = ('http://deb.debian.org/debian', 'http://deb.debian.org/debian-security')


class Source(NamedTuple):
    """One archive and suite."""

    uri: str
    suite: str
    components: list[str]
    signed_by: str


def one_line(text: str) -> Iterator[Source]:
    """Yield the sources of a file in the one-line format, `deb [option=value ...] uri suite
    component ...`.

    :param text: the file
    """
    for line in text.splitlines():
        m = re.match(r'\s*deb\s+(?:\[([^]]*)\]\s+)?(\S+)\s+(\S+)\s*([^#]*)', line)
        if m:
            options = dict(o.split('=', 1) for o in (m[1] or '').split() if '=' in o)
            yield Source(m[2], m[3], m[4].split(), options.get('signed-by', ''))


def deb822(text: str) -> Iterator[Source]:
    """Yield the sources of a file in the deb822 format, stanzas of `Field: value` with continuation
    lines.

    :param text: the file
    """
    lines = [line for line in text.splitlines() if not line.startswith('#')]
    for stanza in re.split(r'\n\s*\n', '\n'.join(lines)):
        fields: dict[str, str] = {}
        name = ''
        for line in stanza.splitlines():
            if line[:1].isspace():
                fields[name] = fields.get(name, '') + ' ' + line.strip()
            elif ':' in line:
                name, _, value = line.partition(':')
                name = name.strip().lower()
                fields[name] = value.strip()
        if 'deb' not in fields.get('types', '').split() or fields.get(
                'enabled', 'yes').lower() in ('no', 'false', '0'):
            continue
        for uri in fields.get('uris', '').split():
            for suite in fields.get('suites', '').split():
                yield Source(uri, suite,
                             fields.get('components', '').split(), fields.get('signed-by', ''))


def sources(root: Path) -> Iterator[Source]:
    """Yield every source of the machine.

    :param root: `/`, or where a test has put another machine's etc/apt
    """
    apt = root / 'etc/apt'
    parts = apt / 'sources.list.d'
    for path in [apt / 'sources.list', *sorted(parts.glob('*.list'))]:
        if path.is_file():
            yield from one_line(path.read_text(errors='replace'))
    for path in sorted(parts.glob('*.sources')):
        yield from deb822(path.read_text(errors='replace'))


def codename(root: Path) -> str:
    """Return this Debian's name, as in `bookworm`; empty where there is none.

    :param root: as above
    """
    try:
        text = (root / 'etc/os-release').read_text()
    except OSError:
        return ''
    m = re.search(r'^VERSION_CODENAME="?(\w+)"?$', text, re.MULTILINE)
    return m[1] if m else ''


def mirrors(root: Path) -> list[tuple[str, str]]:
    """Return pairs of main archive and security archive (or `-`).

    DEBIAN_ARCHIVE, an address or two, goes before all that the machine is configured for. What is
    the same everywhere comes last.

    :param root: as above
    """
    name = codename(root)
    ours = [s for s in sources(root)
            if 'main' in s.components and not s.uri.startswith('cdrom:')
            and (not s.signed_by or Path(s.signed_by.split()[0]).name.startswith('debian-archive'))]
    # A key named outright is Debian's word; an entry without one may be anybody's.
    ours.sort(key=lambda s: not s.signed_by)
    main = dict.fromkeys(s.uri for s in ours if s.suite in (name, 'stable', 'oldstable'))
    security = list(
        dict.fromkeys(s.uri for s in ours if s.suite in (f'{name}-security', f'{name}/updates')))
    pairs = [(uri, security[0] if security else '-') for uri in main]
    named = os.environ.get('DEBIAN_ARCHIVE', '').split()
    if named:
        return [(named[0], named[1] if named[1:] else '-')]
    return [*pairs, *[PUBLIC][PUBLIC in pairs:]]


if __name__ == '__main__':
    for pair in mirrors(Path(sys.argv[1] if len(sys.argv) > 1 else '/')):
        print(*pair)
