# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Every command and every block of code that a document shows is run by a test, and what documents
name is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from setup.documents import ALL, QUICKSTART, TOP, WITH_PYTHON, WITH_YAML, commands, name

DOCUMENTS, LONG = 'vm/test_vm_documents.py', 'long/test_long_commands.py'
#: Which test runs a command, as it is shown or with what its words in capitals stand for.
RUN_BY = {
    f'{QUICKSTART} demo': f'{DOCUMENTS}::test_demo',
    f'{QUICKSTART} run -- python3 myscript.py': f'{DOCUMENTS}::test_a_program_of_the_readers',
    f'{QUICKSTART} run --trace -- python3 mistake.py': f'{DOCUMENTS}::test_a_mistake',
    f'{QUICKSTART} run --trace -- python3 pyverbs/examples/devx_queue_pair.py':
    f'{DOCUMENTS}::test_the_mistake_of_the_tutorial',
    f'{QUICKSTART} run --functions 2 -- CMD...':
    'vm/test_vm_guests.py::test_several_cpus_and_functions',
    f'{QUICKSTART} run --rdma-core sid --kernel backports -- ...':
    'vm/test_vm_choices.py::test_device_memory',
    f'{QUICKSTART} run --cap device_memory.memic=0 -- ...': 'vm/test_vm_cards.py::test_lacking',
    'build/venv/bin/python -m mlx5emu run -- CMD': 'vm/test_vm_run.py::test_status',
    'build/venv/bin/python -m mlx5emu run --': 'vm/test_vm_run.py::test_status',
    f'{QUICKSTART} shell --functions 2': 'vm/test_vm_run.py::test_shell',
    'python3 -m pyverbs.providers.mlx5.mlx5dv_dm_caps': 'classes/test_mlx5_dm_caps.py',
    'python3 -m pyverbs.providers.mlx5.mlx5dv_dm_caps [--json] [--dev NAME] [--need WHAT]':
    'classes/test_mlx5_dm_caps.py',
    f'{QUICKSTART} foreign': f'{LONG}::test_foreign',
    f'{QUICKSTART} foreign dpdk nvme': 'vm/test_vm_foreign.py::test_names',
    f'{QUICKSTART} foreign --quick': 'vm/test_vm_foreign.py::test_program',
    f'{QUICKSTART} test --device mlx5_0': 'setup/test_quickstart_failures.py::test_no_such_device',
    f'{QUICKSTART} setup': 'setup/test_cythons.py',
    f'{QUICKSTART} setup --vm': 'setup/test_quickstart_failures.py::test_the_machine_alone',
    f'{QUICKSTART} beside': 'setup/test_beside.py::test_on_the_card',
    'sh buildlib/into_tree.sh add rdma-core':
    'setup/test_quickstart_cmake.py::test_into_a_tree_and_out_of_it',
    'sh buildlib/into_tree.sh add DIRECTORY':
    'setup/test_quickstart_cmake.py::test_into_a_tree_and_out_of_it',
    'cmake -S . -B build/mine -DRDMA_CORE_SOURCE_DIR=rdma-core && cmake --build build/mine':
    'setup/test_quickstart_cmake.py::test_standalone', }
#: Tests that take their commands out of the documents, with the documents.
TAKEN_BY = {
    f'{DOCUMENTS}::test_choices_of_tests': [f'{QUICKSTART} test tests/'],
    f'{DOCUMENTS}::test_what_it_shows': [f'{QUICKSTART} run -- python3 pyverbs/examples/',
                                         f'{QUICKSTART} run -- python3 tests/classes/',
                                         f'{QUICKSTART} run -- sh -c',
                                         f'{QUICKSTART} run -- setpriv'],
    'setup/test_reference.py::reference': ['PYTHONPATH=build/test-packages/sphinx:'],
    f'{LONG}::test_suite': [f'{QUICKSTART} suite'],
    f'{LONG}::test_bench': [f'{QUICKSTART} bench', 'PYTHONPATH=tests build/venv/bin/python'],
    f'{LONG}::test_tree': ['cmake -S rdma-core', 'cmake --build build/tree', 'build/tree/bin/'],
    f'{LONG}::test_wheel': ['PIP_CONSTRAINT=', 'pip uninstall'], }
#: What no test runs, and why.
NOT_RUN = {
    f'{QUICKSTART} test': 'it is what runs the tests',
    '.ci/run': 'the same',
    '.ci/sanitize': 'a job of its own',
    '.ci/long': 'the same',
    f'{QUICKSTART} package': 'it installs packages on the host',
    f'{QUICKSTART} beside deb': 'the same',
    'podman build -t mlx5-card -f buildlib/ci/Containerfile .': 'it takes a container engine',
    'podman run --rm -v "$PWD/rdma-core:/rdma-core:ro" -v "$PWD/results:/results" mlx5-card '
    'suite --rdma-core /rdma-core --known test_flow_meter --junit /results/suite.xml': 'the same', }
#: Files of others that documents name.
OF_OTHERS = {'mlx5_ifc.h', 'mlx5dv_flow.pyx', 'run_tests.py', 'test_mlx5_devx.py'}
#: Files that a user makes, or that are made for him.
MADE = {'bench.json', 'machine.json', 'trace.txt', 'myscript.py', 'mistake.py', 'umem_utils.py'}


def test_every_command() -> None:
    """Each is in one of the tables, and these have no others."""
    shown = {command for document in ALL for command in commands(document)}
    assert len(shown) > 40
    parts = [part for taken in TAKEN_BY.values() for part in taken]
    taken = {command for command in shown - RUN_BY.keys() - NOT_RUN.keys()
             if any(command.startswith(part) for part in parts)}
    assert shown - RUN_BY.keys() - NOT_RUN.keys() - taken == set()
    assert (RUN_BY.keys() | NOT_RUN.keys()) - shown == set()
    assert [part for part in parts if not any(c.startswith(part) for c in taken)] == []


@pytest.mark.parametrize('test', sorted({*RUN_BY.values(), *TAKEN_BY}))
def test_the_test_is_there(test: str) -> None:
    """What the tables name."""
    path, _, function = test.partition('::')
    text = (TOP / 'tests' / path).read_text()
    assert not function or re.search(rf'^def {function}\(', text, re.MULTILINE)


def test_every_block() -> None:
    """Blocks of Python are run, of YAML checked; all others are what is printed, or of Sphinx."""
    for document in ALL:
        languages = set(re.findall(r'^```(\S+)$', document.read_text(), re.MULTILINE))
        run = {'python'} if document in WITH_PYTHON else set()
        checked = {'yaml'} if document == WITH_YAML else set()
        others = {'text', '{toctree}', '{eval-rst}'}
        assert languages <= run | checked | others, name(document)


def test_files_that_are_named() -> None:
    """Links, paths from the top of the tree or of the emulator, and names of files."""
    there = [path for part in ('buildlib', 'tests', 'pyverbs', 'Documentation', '.github', '.ci')
             for path in (TOP / part).rglob('*') if path.is_file()] + [*TOP.glob('*')]
    for document in ALL:
        text = document.read_text()
        for link in re.findall(r'\]\(([\w./]+\.(?:md|py|svg|yml))\)', text):
            assert (document.parent / link).exists(), (name(document), link)
        for link in re.findall(r'\]\(#([\w-]+)\)', text):
            headings = re.findall(r'^#+ (.*)$', text, re.MULTILINE)
            assert link in [re.sub(r'[^\w -]', '', heading).replace(' ', '-').lower()
                            for heading in headings], (name(document), link)
        for words in re.findall(r'`([^`\n]+)`', text):
            for path in re.findall(r'(?<![\w/*.{$])((?:[\w.]+/)*\w+\.(?:pyx?|pyi|pxd|sh|cmake|md|h|'
                                   r'svg|json|txt))\b', words):
                if path.rsplit('/')[-1] in OF_OTHERS | MADE or path.startswith('build/'):
                    continue
                path = path.removeprefix('HERE/')
                assert any(str(file).endswith(f'/{path}') for file in there), (
                    name(document), path)


#: Whose figures are measured; what others tell in seconds or bytes is how something is made, or
#: stands beside the test that asserts it.
MEASURED = ['README.md', 'CONTRIBUTING.md', *(f'Documentation/{stem}.md' for stem in (
    'commands', 'foreign_programs', 'tutorial', 'where_it_builds', 'how_to/suite_without_a_card'))]
NUMBER = (r'(?:\d[\d.,]*|one|two|three|four|five|six|seven|eight|nine|ten|fifteen|twenty|half an|'
          r'half)')
FIGURE = re.compile(rf'\b{NUMBER}(?:(?: and a half)? (?:to|of|and) {NUMBER})? (?:[mu]?s|seconds?|'
                    r'minutes?|hours?|[MG]B(?:/s)?)\b|\b\d+ of \d+\b(?! tests)')


def test_figures() -> None:
    """Each that is measured is in the file of figures."""
    def words(document: str) -> str:
        text = (TOP / document).read_text()
        return ' '.join(re.sub(r'^```.*?^```$', '', text, flags=re.M | re.S).split())
    figures, seen = words('Documentation/figures.md'), 0
    for document in MEASURED:
        found = FIGURE.findall(words(document))
        seen += len(found)
        assert [figure for figure in found if figure not in figures] == [], document
    assert seen > 20


def test_every_example_is_findable() -> None:
    """Each is linked from a document, but for the demo's, which is a command."""
    text = ''.join(document.read_text() for document in ALL)
    names = {path.name for path in (TOP / 'pyverbs/examples').glob('*.py')}
    assert len(names) > 15
    assert {n for n in names if f'pyverbs/examples/{n}' not in text} == {'devx_commands.py',
                                                                          'demo.py'}


#: Messages that are put together: how they stand in the source.
PUT_TOGETHER = {'As root: dnf install': 'dnf install', 'build/machine.json is missing':
                '{path} is missing', 'no /dev/infiniband/uverbs0': 'no /dev/infiniband/$last',
                'were made for pyverbs': 'were made for {what}'}


def test_messages() -> None:
    """What "when it says" quotes is said somewhere."""
    text = (TOP / 'Documentation/when_it_says.md').read_text()
    quoted = {part.strip(" '(:)") for row in re.findall(r'^\| (`.*?) \| ', text, re.MULTILINE)
              for span in re.findall(r'`([^`]+)`', row) for part in re.split(r'\.\.\.|90', span)}
    files = [path for part in ('buildlib', 'pyverbs', 'tests/mlx5emu')
             for path in (TOP / part).rglob('*')
             if path.suffix in ('.sh', '.py', '.pyx', '.pxd', '.cmake')]
    source = ''
    for path in files:
        # A message that goes on in the next line is one.
        source += re.sub(r"""['"] *\\?\n *f?['"]|" \\\n *"|\\\n *""", ' ', path.read_text())
    source = ' '.join(source.split())
    quoted = {PUT_TOGETHER.get(part, part) for part in quoted if len(part) > 5}
    assert len(quoted) > 15
    assert {part for part in quoted if part not in source} == set()


def test_names_of_others_are_still_named() -> None:
    """The lists above have nothing that no document names."""
    text = ''.join(Path(document).read_text() for document in ALL)
    assert {word for word in OF_OTHERS | MADE if word not in text} == set()
