# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""
Puts the docstrings of a .pyx into its .pyi: editors read a compiled module's from there alone.

    documented_stub.py MODULE.pyx MODULE.pyi RESULT.pyi

A class has that of its __init__, too: of a call that makes an object some editors show the class's.
It is run by rdma-core's build, with its Python: 3.6 or later. Both files are read as lines: a .pyx
is no Python, and a stub is written as it stands but for the docstrings.
"""
import inspect
import os
import re
import sys

BEGIN = re.compile(r'^( *)(?:cdef |cpdef )?(class|def|cpdef) +(\w+)')
#: Of a class, for Python's inspect, which cannot see it in a compiled one.
SIGNATURE = re.compile(r'^\w+\(.*?\)\\n--\\n', re.DOTALL)
QUOTES = '"""'


def definitions(lines):
    """
    The classes and functions of a file.
    :param lines: Its lines
    :return: [(names of the classes around it and its own, line where it begins, line behind its
             head)]
    """
    found, around = [], []
    for number, line in enumerate(lines):
        begin = BEGIN.match(line)
        if not begin:
            continue
        around = [outer for outer in around if outer[0] < len(begin[1])]
        end = number
        while not re.search(r':(\s*\.\.\.)?\s*(#.*)?$', lines[end]):
            end += 1
        found.append((tuple(name for _, name in around) + (begin[3],), number, end + 1))
        if begin[2] == 'class':
            around.append((len(begin[1]), begin[3]))
    return found


def docstrings(lines):
    """Docstrings of a .pyx by names; of a property its getter's, of a class that of its __init__
    behind its own."""
    found = {}
    for names, _, body in definitions(lines):
        if lines[body].lstrip().startswith(QUOTES):
            text = '\n'.join(lines[body:]).split(QUOTES)[1]
            found.setdefault(names, inspect.cleandoc(SIGNATURE.sub('', text)))
    for names in [names for names in found if names[-1] == '__init__']:
        found[names[:-1]] += '\n\n' + found[names]
    return found


def documented(pyx, pyi):
    """
    A stub with docstrings.
    :param pyx: Lines of the module
    :param pyi: Lines of its stub
    :return: Its lines
    """
    known, result, done = docstrings(pyx), [], 0
    for names, begin, body in definitions(pyi):
        result += pyi[done:body]
        done = body
        # Of a property only the getter has one.
        text = known.pop(names, None)
        if text:
            # It takes the place of the three dots.
            result[-1] = re.sub(r':\s*\.\.\.$', ':', result[-1])
            indent = ' ' * (len(pyi[begin]) - len(pyi[begin].lstrip()) + 4)
            result += [(indent + line).rstrip() for line in [QUOTES, *text.split('\n'), QUOTES]]
    return result + pyi[done:]


def main():
    """Read two files and write the third."""
    pyx, pyi = ([line.rstrip('\n') for line in open(path, encoding='utf-8')]
                for path in sys.argv[1:3])
    result = sys.argv[3]
    # A build of before may have a link to the source there.
    with open(result + '.new', 'w', encoding='utf-8') as out:
        out.write('\n'.join(documented(pyx, pyi)) + '\n')
    os.replace(result + '.new', result)


if __name__ == '__main__':
    main()
