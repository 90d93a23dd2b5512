# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""The kernel's own ``mlx5_ifc.h``: where it is, and what its structures and constants say.

It is parsed once, and the result kept as JSON beside the build (a pickle in a shared temporary
directory would let others run code in the server).
"""
import glob
import json
import os
import re
import tempfile
from pathlib import Path
from typing import Any

FORMAT = 3


class LayoutError(Exception):
    """The header is missing or does not look like one, or a name is not in it."""


# ---- parsing

class _Parser:
    """Recursive descent over the ``struct``/``union`` bodies of one header."""

    _TOKEN = re.compile(r'\w+|[^\s\w]')

    def __init__(self, types: dict[str, list], constants: dict[str, int]) -> None:
        self.types, self.constants = types, constants
        self.bodies: dict[str, tuple[str, list[str], int]] = {}

    def scan(self, text: str) -> None:
        """Note where each layout's body begins; order in the file does not matter."""
        tokens = self._TOKEN.findall(text)
        for i in range(len(tokens) - 2):
            if tokens[i + 2] == '{' and tokens[i] in (
                    'struct', 'union') and tokens[i + 1].startswith('mlx5_ifc_'):
                self.bodies[_layout_name(tokens[i + 1])] = (tokens[i], tokens, i + 3)

    def resolve_all(self) -> None:
        for name in self.bodies:
            self.resolve(name)

    def resolve(self, name: str) -> list:
        if name not in self.types:
            if name not in self.bodies:
                raise LayoutError(f'no layout {name}')
            kind, tokens, at = self.bodies[name]
            self.types[name] = [0, {}]
            self.body(self.types[name], name, kind, tokens, at)
        return self.types[name]

    def body(self, typ: list, name: str, kind: str, tok: list[str], i: int) -> int:
        """Fill ``typ`` from the tokens after '{'; return the index after '}'."""
        end = 0
        while tok[i] != '}':
            start = 0 if kind == 'union' else end
            if tok[i] == 'u8':
                field, dims, i = tok[i + 1], *self.dims(tok, i + 2)
                bits = dims[-1] if dims else 8
                count = _product(dims[:-1])
                typ[1][field] = [start, bits, None, count]
                size = bits * (1 if count is None else count)
            elif tok[i] in ('struct', 'union') and tok[i + 1] == '{':
                inner: list = [0, {}]
                j = self.body(inner, f'{name}.{i}', tok[i], tok, i + 2)
                if tok[j] == ';':
                    for f, (o, b, s, c) in inner[1].items():
                        typ[1][f] = [start + o, b, s, c]
                    size, i = inner[0], j
                else:
                    sub = f'{name}.{tok[j]}'
                    self.types[sub] = inner
                    typ[1][tok[j]] = [start, inner[0], sub, None]
                    size, i = inner[0], j + 1
            elif tok[i] in ('struct', 'union'):
                sub = _layout_name(tok[i + 1])
                field, dims, i = tok[i + 2], *self.dims(tok, i + 3)
                bits, count = self.resolve(sub)[0], _product(dims)
                typ[1][field] = [start, bits, sub, count]
                size = bits * (1 if count is None else count)
            elif tok[i] == 'DECLARE_FLEX_ARRAY':
                # ( struct mlx5_ifc_x_bits , name )
                sub = _layout_name(tok[i + 3])
                typ[1][tok[i + 5]] = [start, self.resolve(sub)[0], sub, 0]
                size, i = 0, i + 7
            else:
                raise LayoutError(f'{name}: cannot read {" ".join(tok[i:i + 6])}')
            if tok[i] != ';':
                raise LayoutError(f'{name}: expected ; before {" ".join(tok[i:i + 6])}')
            i += 1
            end = start + size
            typ[0] = max(typ[0], end)
        return i + 1

    def dims(self, tok: list[str], i: int) -> tuple[list[int], int]:
        out = []
        while tok[i] == '[':
            j = tok.index(']', i)
            out.append(_evaluate(' '.join(tok[i + 1:j]) or '0', self.constants))
            i = j + 1
        return out, i


def _layout_name(c_name: str) -> str:
    return c_name.removeprefix('mlx5_ifc_').removesuffix('_bits')


def _product(dims: list[int]) -> int | None:
    if not dims:
        return None
    n = 1
    for d in dims:
        n *= d
    return n


_ATOM = re.compile(r'\s*(0[xX][0-9a-fA-F]+|\d+|\w+|<<|>>|[-+*|()~])\s*')


def _evaluate(text: str, known: dict[str, int]) -> int:
    """Value of a constant C expression; ValueError for what is not one."""
    out, i = [], 0
    text = re.sub(r'(?<=[0-9a-fA-F])[uUlL]+\b', '', text)
    text = re.sub(r'\bBIT(?:_ULL)?\s*\(', '(1 << ', text)
    while i < len(text):
        m = _ATOM.match(text, i)
        if not m:
            raise ValueError(text)
        a = m.group(1)
        if a[0].isdigit():
            out.append(str(int(a, 0) if a[:2] in ('0x', '0X') else int(a)))
        elif a[0].isalpha() or a[0] == '_':
            if a not in known:
                raise ValueError(text)
            out.append(str(known[a]))
        else:
            out.append(a)
        i = m.end()
    source = ' '.join(out)
    # Only digits, operators and parentheses are left: nothing that can name or call anything.
    if len(source) > 200 or re.search(r'\d{25}|\*\s*\*', source):
        raise ValueError(text)
    try:
        return int(eval(source, {'__builtins__': {}}))  # noqa: S307
    except (SyntaxError, TypeError) as e:
        raise ValueError(text) from e


def _clean(text: str) -> str:
    text = re.sub(r'/\*.*?\*/', ' ', text, flags=re.S)
    return re.sub(r'//[^\n]*', ' ', text)


def _read_constants(text: str, known: dict[str, int]) -> None:
    for m in re.finditer(r'^[ \t]*#[ \t]*define[ \t]+(\w+)[ \t]+((?:\\\n|[^\n])+)$', text,
                         flags=re.M):
        try:
            known.setdefault(m.group(1), _evaluate(m.group(2).replace('\\\n', ' '), known))
        except ValueError:
            pass
    for m in re.finditer(r'\benum\b\s*\w*\s*\{([^{}]*)\}', text):
        value: int | None = -1
        for item in m.group(1).split(','):
            name, _, expr = item.partition('=')
            name = name.strip()
            if not re.fullmatch(r'\w+', name):
                continue
            if expr:
                try:
                    value = _evaluate(expr, known)
                except ValueError:
                    value = None
            elif value is not None:
                value += 1
            if value is not None:
                known.setdefault(name, value)


_HEADERS = ('mlx5_ifc_fpga.h', 'mlx5_ifc.h', 'mlx5_ifc_vdpa.h', 'device.h', 'driver.h', 'qp.h',
            'cq.h', 'port.h')


def _parse(directory: str) -> dict[str, Any]:
    types: dict[str, list] = {}
    constants: dict[str, int] = {}
    parser = _Parser(types, constants)
    texts = []
    for header in _HEADERS:
        path = os.path.join(directory, header)
        if header != 'mlx5_ifc.h' and not os.path.exists(path):
            continue
        with open(path, encoding='utf-8') as f:
            texts.append((header, _clean(f.read())))
        _read_constants(texts[-1][1], constants)
    for header, text in texts:
        if header.startswith('mlx5_ifc'):
            parser.scan(re.sub(r'^[ \t]*#(?:\\\n|[^\n])*$', '', text, flags=re.M))
    parser.resolve_all()
    if not any(n.startswith('MLX5_CMD_OP_') for n in constants) or 'cmd_hca_cap' not in types:
        raise LayoutError(f'{directory}/mlx5_ifc.h is not the mlx5 interface header')
    return {'types': types, 'enum': constants}


# ---- loading

def find_headers() -> str:
    """Directory of ``mlx5_ifc.h``: $MLX5_INCLUDE, then build/ of this tree, then the machine's
    kernel headers.

    :raises LayoutError: nowhere to be found.
    """
    env = os.environ.get('MLX5_INCLUDE')
    if env:
        candidates = [env, os.path.join(env, 'linux/mlx5'), os.path.join(env, 'include/linux/mlx5')]
    else:
        top = str(Path(__file__).resolve().parents[3])
        tail = 'usr/src/linux-headers-*/include/linux/mlx5'
        candidates = sorted(
            glob.glob(f'{top}/build/{tail}') + glob.glob(f'{top}/build/*/{tail}'), reverse=True)
        candidates += sorted(glob.glob('/' + tail), reverse=True)
    for c in candidates:
        if os.path.exists(os.path.join(c, 'mlx5_ifc.h')):
            return c
    raise LayoutError(
        'mlx5_ifc.h not found: set MLX5_INCLUDE to the directory include/linux/mlx5 of a kernel '
        'headers package'
    )


def _cache_path(directory: str) -> str:
    top = str(Path(__file__).resolve().parents[3])
    build = os.path.join(top, 'build')
    base = build if os.path.isdir(build) and os.access(build, os.W_OK) else tempfile.gettempdir()
    tag = re.sub(r'\W+', '_', os.path.abspath(directory))[-80:]
    return os.path.join(base, f'mlx5_ifc-{os.getuid()}-{tag}.json')


def _stamp(directory: str) -> list:
    out: list = [FORMAT]
    for header in _HEADERS:
        try:
            st = os.stat(os.path.join(directory, header))
        except FileNotFoundError:
            continue
        out.append([header, st.st_mtime_ns, st.st_size])
    return out


def _from_cache(path: str, stamp: list) -> dict[str, Any] | None:
    try:
        with open(path, encoding='utf-8') as f:
            if os.fstat(f.fileno()).st_uid != os.getuid():
                return None
            data = json.load(f)
        if data['stamp'] == stamp and data['types']['cmd_hca_cap'][0] and data['enum'][
                'MLX5_CMD_OP_QUERY_HCA_CAP']:
            return data
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        pass
    return None


def read(directory: str) -> dict[str, Any]:
    """What the headers in a directory say: ``types`` {layout: [bits, {field: ...}]}, ``enum`` {C
    name: value}.

    :raises LayoutError: they cannot be understood.
    :raises OSError: they cannot be read.
    """
    stamp, cache = _stamp(directory), _cache_path(directory)
    data = _from_cache(cache, stamp)
    if data is None:
        data = _parse(directory)
        _keep(cache, dict(data, stamp=stamp))
    return data


def _keep(path: str, data: dict[str, Any]) -> None:
    try:
        fd, tmp = tempfile.mkstemp(dir=os.path.dirname(path), prefix='.mlx5_ifc')
        try:
            with os.fdopen(fd, 'w', encoding='utf-8') as f:
                json.dump(data, f)
            os.replace(tmp, path)
        except OSError:
            os.unlink(tmp)
    except OSError:
        pass    # a cache that cannot be written costs half a second, no more
