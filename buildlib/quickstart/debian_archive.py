# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Fetch packages of Debian on any distribution, without apt, dpkg or gpg.

The lists of the archive are believed when one of the keys in debian_keys.asc has signed them, the
packages when they have the hash that is in the lists. Nothing of the system is read or written: no
package counts as installed, so what is fetched runs by itself.

Valid-Until is not looked at: an archive that was copied some weeks ago serves as well.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import lzma
import os
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from operator import eq, ge, gt, le, lt
from pathlib import Path
from typing import Any
from urllib.request import getproxies, proxy_bypass

import urllib3
from debian.deb822 import Deb822, Packages, Release, Sources
from debian.debfile import ArFile
from debian.debian_support import Version
from pysequoia import Cert, verify

KEYS = Path(__file__).with_name('debian_keys.asc')
RELATIONS = {'<<': lt, '<=': le, '=': eq, '>=': ge, '>>': gt}
#: Dependencies by their field: groups of alternatives, each with a name and a version.
Relations = dict[str, list[list[dict[str, Any]]]]
#: How suites end whose packages are only for those who name them.
ONLY_WHEN_NAMED = ('backports', 'bookworm')


class Refused(Exception):
    """The archive cannot serve what is wanted; the text says what to do."""


# ---- getting files

def location(uri: str) -> str:
    """Return an archive's address.

    :param uri: as in apt's sources; `mirror+file:` names a file of addresses, of which the first is
        taken
    """
    if uri.startswith('mirror+file:'):
        uri = Path(uri.removeprefix('mirror+file:')).read_text().split()[0]
    return uri.rstrip('/')


@cache
def connections(scheme: str, host: str) -> urllib3.PoolManager:
    """Return connections that are kept, by the machine's proxy where it has one for this host."""
    retries = urllib3.Retry(3, backoff_factor=1, status_forcelist=(500, 502, 503, 504))
    kept: dict[str, Any] = {'retries': retries, 'timeout': 60, 'maxsize': 4}
    proxy = None if proxy_bypass(host) else getproxies().get(scheme)
    return urllib3.proxy_from_url(proxy, **kept) if proxy else urllib3.PoolManager(**kept)


def get(url: str) -> bytes:
    """Return what is at an address.

    :param url: http, https or file
    :raises Refused: when there is no such file
    """
    scheme, _, rest = url.partition('://')
    if scheme == 'file':
        return Path(rest).read_bytes()
    try:
        answer = connections(scheme, rest.split('/')[0]).request('GET', url)
    except urllib3.exceptions.HTTPError as e:
        # In the words by which the set-up knows what is wrong.
        raise SystemExit(f'could not connect: {url}: {e}') from e
    if answer.status != 200:
        raise Refused(f'{url}: {answer.status} {answer.reason}: the archive may be in the middle '
                      'of an update, try again in some minutes, or name another by DEBIAN_ARCHIVE')
    return answer.data


def checked(url: str, sha256: str) -> bytes:
    """Return what is at an address if it has this hash."""
    data = get(url)
    if hashlib.sha256(data).hexdigest() != sha256:
        raise Refused(f'{url} is not what the signed list names: the archive may be in the middle '
                      'of an update, try again in some minutes, or name another by DEBIAN_ARCHIVE')
    return data


# ---- lists

def signed_release(text: bytes, suite: str, keys: Path = KEYS) -> Release:
    """Return a suite's Release, read from what one of the keys has signed and from nothing else.

    :param text: the file InRelease
    :param suite: what it has to be of
    :param keys: the keys that are believed
    :raises Refused: when none of them signed it, or it is another suite's
    """
    certs = Cert.split_bytes(keys.read_bytes())
    try:
        # It takes one valid signature; the others may be by keys that we do not have.
        signed = verify(bytes=text, store=lambda ids: certs).bytes
    except Exception as e:
        raise Refused(f'{suite} is not signed by a key of debian_keys.asc: this archive is not '
                      "Debian's, or this tree is too old for it") from e
    release = Release(signed)
    if suite not in (release['Codename'], release['Suite']):
        raise Refused(f"the archive serves {release['Codename']} for {suite}: not used")
    return release


def fetch_list(archive: str, suite: str, index: str) -> str:
    """Return a list of a suite.

    :param archive: its address
    :param suite: as trixie
    :param index: as main/binary-amd64/Packages
    """
    top = f'{archive}/dists/{suite}'
    release = signed_release(get(f'{top}/InRelease'), suite)
    hashes = {entry['name']: entry['sha256'] for entry in release['SHA256']}
    sha256 = hashes[f'{index}.xz']
    # By its hash the list stays there for a while after the next one has come.
    name = f'{index}.xz'
    if release.get('Acquire-By-Hash') == 'yes':
        name = f'{os.path.dirname(index)}/by-hash/SHA256/{sha256}'
    return lzma.decompress(checked(f'{top}/{name}', sha256)).decode()


class Lists:
    """A directory with the lists of some suites, and which archive each is from."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.archives: dict[str, str] = {}
        self.texts: dict[str, str] = {}
        self.places: dict[tuple[str, str], dict[str, list[int]]] = {}
        if (directory / 'archives.json').exists():
            self.archives = json.loads((directory / 'archives.json').read_text())

    def open(self, archive: str, suites: Iterable[str], index: str) -> None:
        """Fetch lists.

        :param archive: an address as in apt's sources
        :param suites: the suites
        :param index: as in fetch_list
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        for suite in suites:
            self.archives[suite] = location(archive)
            text = fetch_list(self.archives[suite], suite, index)
            (self.directory / suite).write_text(text)
        (self.directory / 'archives.json').write_text(json.dumps(self.archives))

    def stanzas(self, suite: str, field: str, name: str) -> Iterator[str]:
        """Yield the stanzas of a suite's list that name something in a field.

        :param suite: as trixie
        :param field: Package or Provides
        :param name: one of the names there
        """
        if suite not in self.texts:
            self.texts[suite] = (self.directory / suite).read_text()
        text = self.texts[suite]
        if (suite, field) not in self.places:
            places: dict[str, list[int]] = defaultdict(list)
            for m in re.finditer(rf'^{field}: (.*)$', text, re.MULTILINE):
                for word in m[1].split(', '):
                    places[word.split(' ')[0]].append(m.start())
            self.places[suite, field] = places
        for place in self.places[suite, field].get(name, []):
            begin = text.rfind('\n\n', 0, place)
            end = text.find('\n\n', place)
            yield text[begin + 2 if begin >= 0 else 0:end if end >= 0 else len(text)]


class Packets:
    """Binary packages of some suites, and which of them is meant by a name."""

    def __init__(self, lists: Lists, target: str | None) -> None:
        """
        :param lists: the lists
        :param target: a suite whose packages go before all others
        """
        self.lists = lists
        self.target = target

    def suites(self) -> list[list[str]]:
        """Return suites in the order in which they are asked; of one step the newest package
        wins."""
        usual = [s for s in self.lists.archives if not s.endswith(ONLY_WHEN_NAMED)]
        return [[self.target], usual] if self.target else [usual]

    def find(self, field: str, name: str) -> dict[str, Any] | None:
        """Return the package of a name, with its archive as 'Archive', or None.

        :param field: Package, or Provides for who stands in for it
        :param name: the name
        """
        for step in self.suites():
            found = []
            for suite in step:
                for stanza in self.lists.stanzas(suite, field, name):
                    package = dict(Deb822(stanza), Archive=self.lists.archives[suite])
                    found.append(package)
            if found:
                return max(found, key=lambda p: Version(p['Version']))
        return None

    def named(self, name: str) -> dict[str, Any]:
        """Return the package of a name.

        :raises Refused: when there is none
        """
        package = self.find('Package', name)
        if package is None:
            raise Refused(f"the Debian archive {', '.join(set(self.lists.archives.values()))} does "
                          f'not serve {name}: it may be in the middle of an update, try again in '
                          'some minutes, or name another by DEBIAN_ARCHIVE')
        return package

    def chosen(self, alternatives: list[dict[str, Any]]) -> dict[str, Any] | None:
        """Return the first package that satisfies one of the alternatives of a dependency, None
        where there is none."""
        for wanted in alternatives:
            package = self.find('Package', wanted['name'])
            if package and fits(package, wanted['version']):
                return package
        for wanted in alternatives:
            package = self.find('Provides', wanted['name'])
            if package:
                return package
        return None

    def closure(self, names: Iterable[str]) -> list[dict[str, Any]]:
        """Return packages with all that they depend on."""
        queue = [self.named(name) for name in names]
        found: dict[str, dict[str, Any]] = {}
        # Names that something found stands for, so that one choice serves all who ask.
        provided: set[str] = set()
        while queue:
            package = queue.pop(0)
            if package['Package'] in found:
                continue
            found[package['Package']] = package
            relations: Relations = Packages(package).relations or {}
            provided.update(p['name'] for group in relations.get('provides', []) for p in group)
            for group in [*relations.get('pre-depends', []), *relations.get('depends', [])]:
                have = {a['name'] for a in group}
                if have & (found.keys() | provided | {p['Package'] for p in queue}):
                    continue
                choice = self.chosen(group)
                if choice is None:
                    raise Refused(f"{package['Package']} needs {' or '.join(sorted(have))}, which "
                                  'the Debian archive does not serve: try again in some minutes, '
                                  'or name another by DEBIAN_ARCHIVE')
                queue.append(choice)
        return list(found.values())


def fits(package: dict[str, Any], version: tuple[str, str] | None) -> bool:
    """Tell whether a package has the version that a dependency names."""
    return version is None or RELATIONS[version[0]](Version(package['Version']),
                                                    Version(version[1]))


def download(packages: list[dict[str, Any]], directory: Path) -> None:
    """Put packages into a directory, under their archive's names, some at a time."""
    def fetch(package: dict[str, Any]) -> None:
        data = checked(f"{package['Archive']}/{package['Filename']}", package['SHA256'])
        (directory / os.path.basename(package['Filename'])).write_bytes(data)
        print(os.path.basename(package['Filename']), flush=True)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(fetch, packages))


def download_source(lists: Lists, suite: str, name: str, directory: Path,
                    version: str | None = None, packaging: bool = False) -> None:
    """Put the released tree of a source package into a directory.

    :param lists: the lists
    :param suite: whose sources were opened
    :param name: of the source package
    :param directory: where to
    :param version: the newest without it
    :param packaging: Debian's part, with the patches, too
    :raises Refused: when there is none, or not of this version
    """
    sources = [Sources(s) for s in lists.stanzas(suite, 'Package', name)]
    sources = [s for s in sources if version in (None, s['Version'])]
    if not sources:
        raise Refused(f"{suite} has no source of {name} {version or ''}")
    source = max(sources, key=lambda s: Version(s['Version']))
    parts = 'orig|debian' if packaging else 'orig'
    for entry in source['Checksums-Sha256']:
        if re.search(rf'\.({parts})\.tar\.[a-z0-9]+$', entry['name']):
            url = f"{lists.archives[suite]}/{source['Directory']}/{entry['name']}"
            (directory / entry['name']).write_bytes(checked(url, entry['sha256']))


def write_files(deb: Path) -> None:
    """Write the tar archive of what a package installs to standard output."""
    with open(deb, 'rb') as file:
        for member in ArFile(fileobj=file).getmembers():
            if member.name == 'data.tar.xz':
                sys.stdout.buffer.write(lzma.decompress(member.read()))
                return
    raise Refused(f'{deb.name} has no data.tar.xz: it is packed in a way that this program does '
                  'not know')


# ---- command line

def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    p = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    commands = p.add_subparsers(dest='command', required=True)
    for name, what in (('open', 'fetch the lists of suites'),
                       ('closure', 'fetch packages and all that they need'),
                       ('download', 'fetch packages'),
                       ('serves', 'print those of the names for which there is a package'),
                       ('depends', 'print the names that a package depends on'),
                       ('source', 'fetch the released tree of a source package')):
        c = commands.add_parser(name, help=what)
        c.add_argument('lists', type=Path)
        if name == 'open':
            c.add_argument('--sources', action='store_true')
            c.add_argument('archive')
        if name in ('closure', 'download', 'source'):
            c.add_argument('directory', type=Path)
        if name == 'source':
            c.add_argument('--version')
            c.add_argument('--packaging', action='store_true')
            c.add_argument('suite')
        if name in ('closure', 'download', 'serves', 'depends'):
            c.add_argument('--target')
        c.add_argument('names', nargs='+')
    c = commands.add_parser('files', help='write the tar archives of what packages install')
    c.add_argument('debs', type=Path, nargs='+')
    return p


def run(args: argparse.Namespace) -> None:
    """Carry out a command line."""
    if args.command == 'files':
        for deb in args.debs:
            write_files(deb)
        return
    lists = Lists(args.lists)
    packets = Packets(lists, getattr(args, 'target', None))
    match args.command:
        case 'open':
            lists.open(args.archive, args.names,
                       'main/source/Sources' if args.sources else 'main/binary-amd64/Packages')
        case 'closure':
            download(packets.closure(args.names), args.directory)
        case 'download':
            download([packets.named(name) for name in args.names], args.directory)
        case 'serves':
            print(*[name for name in args.names if packets.find('Package', name)])
        case 'depends':
            relations: Relations = Packages(packets.named(args.names[0])).relations or {}
            for group in relations.get('depends', []):
                print(*[wanted['name'] for wanted in group])
        case 'source':
            for name in args.names:
                download_source(lists, args.suite, name, args.directory, args.version,
                                args.packaging)


def main() -> int:
    """Run it; what the archive refuses is one line, for the set-up also in the file REASON."""
    try:
        run(parser().parse_args())
    except Refused as e:
        print(e, file=sys.stderr)
        if 'REASON' in os.environ:
            Path(os.environ['REASON']).write_text(f'{e}\n')
        return 2
    return 0


if __name__ == '__main__':
    sys.exit(main())
