# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""The files by which others' CI runs rdma-core on the emulated card: well formed, and with what the
set-up needs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from setup.documents import WITH_YAML, blocks

TOP = Path(__file__).resolve().parents[2]
CI = TOP / 'buildlib/ci'
LINTERS = TOP / 'build/test-packages/workflow-linters'
FILES = (CI / 'Containerfile', TOP / 'action.yml', CI / 'azure-pipelines.yml')

if not LINTERS.is_dir():
    pytest.skip('run the tests by buildlib/quickstart.sh', allow_module_level=True)


def check(schema: str, file: Path) -> int:
    """What the checker of a schema ends in."""
    return subprocess.run(
        [sys.executable, '-m', 'check_jsonschema', '--builtin-schema', schema, file],
        env=os.environ | {'PYTHONPATH': str(LINTERS)}, capture_output=True, check=False).returncode


@pytest.mark.parametrize(('schema', 'path'), [
    ('vendor.github-actions', TOP / 'action.yml'),
    ('vendor.github-workflows', TOP / '.github/workflows/rdma_core_suite.yml'),
    ('vendor.azure-pipelines', CI / 'azure-pipelines.yml'), ])
def test_schema(schema: str, path: Path, tmp_path: Path) -> None:
    """What the file says is known, and nothing that has to be there is missing."""
    assert check(schema, path) == 0
    wrong = tmp_path / path.name
    wrong.write_text(re.sub(r'^( *)(steps|runs-on|vmImage):', r'\1stpes:', path.read_text(),
                            flags=re.MULTILINE))
    assert check(schema, wrong) == 1


def test_the_job_of_the_document(tmp_path: Path) -> None:
    """What where_it_builds.md has for a workflow is one, and gives the action what it takes."""
    job = blocks(WITH_YAML, 'yaml')[0]
    path = tmp_path / 'workflow.yml'
    path.write_text(f'on: push\n{job}')
    assert check('vendor.github-workflows', path) == 0
    given = re.findall(r'^ +([\w-]+): ', job[job.index('OWNER/NAME@REF'):], re.MULTILINE)
    assert given == ['rdma-core']
    action = (TOP / 'action.yml').read_text()
    inputs = re.findall(r'^  ([\w-]+):$', action[action.index('inputs:'):action.index('runs:')],
                        re.MULTILINE)
    assert set(given) <= set(inputs)


def test_containerfile(tmp_path: Path) -> None:
    def hadolint(file: Path) -> str:
        return subprocess.run([LINTERS / 'bin/hadolint', file], capture_output=True, text=True,
                              check=False).stdout
    assert hadolint(CI / 'Containerfile') == ''
    (tmp_path / 'Containerfile').write_text('FROM debian\nRUN cd /x && sudo make\n')
    assert 'DL3004' in hadolint(tmp_path / 'Containerfile')


def test_packages() -> None:
    """Each names all packages that the set-up asks for on a bare system, and no other."""
    part = (TOP / 'buildlib/quickstart/system_packages.sh').read_text()
    part = part[part.index('missing_packages() {'):part.index('[[ $COMMAND != @(beside')]
    wanted = {name for words in re.findall(r'MISSING\+=\(([^)]*)\)', part)
              for name in words.split()}
    assert len(wanted) > 8
    for path in FILES:
        words = re.findall(r'apt-get install -y --no-install-recommends ((?:[^\n]*\\\n)*[^\n&]*)',
                           path.read_text())
        assert len(words) == 1, path
        named = set(words[0].replace('\\', ' ').split('&&')[0].split())
        # Hosted runners have certificates.
        assert wanted - {'ca-certificates'} <= named <= wanted, path


@pytest.mark.parametrize(('given', 'words'), [
    ({'RDMA_CORE': 'x'}, ['--rdma-core', 'x', '--kernel', 'stable', '--profile', 'connectx6dx',
                          'suite', '--junit', 'suite-results/suite.xml', '--json',
                          'suite-results/suite.json']),
    ({'RDMA_CORE': 'a b', 'PROFILE': 'connectx7', 'KERNEL': 'backports', 'RESULTS': 'r',
      'COMMAND': 'suite -k test_mr --known test_flow_meter'},
     ['--rdma-core', 'a b', '--kernel', 'backports', '--profile', 'connectx7', 'suite', '-k',
      'test_mr', '--known', 'test_flow_meter', '--junit', 'r/suite.xml', '--json',
      'r/suite.json']),
    ({'RDMA_CORE': 'sid', 'COMMAND': 'run -- python3 x.py'},
     ['--rdma-core', 'sid', '--kernel', 'stable', '--profile', 'connectx6dx', 'run', '--',
      'python3', 'x.py']), ])
def test_job(tmp_path: Path, given: dict[str, str], words: list[str]) -> None:
    """What a job's variables become."""
    (tmp_path / 'buildlib/ci').mkdir(parents=True)
    shutil.copy(CI / 'job.sh', tmp_path / 'buildlib/ci')
    (tmp_path / 'buildlib/quickstart.sh').write_text('printf "%s\\n" "$@"; exit 3\n')
    p = subprocess.run(['bash', tmp_path / 'buildlib/ci/job.sh'], cwd=tmp_path, text=True,
                       env={'PATH': os.environ['PATH'], **given}, stdout=subprocess.PIPE,
                       check=False)
    assert (p.returncode, p.stdout.splitlines()) == (3, words)


def test_a_job_without_rdma_core(tmp_path: Path) -> None:
    p = subprocess.run(['bash', CI / 'job.sh'], cwd=tmp_path, env={'PATH': os.environ['PATH']},
                       text=True, stderr=subprocess.PIPE, check=False)
    assert p.returncode == 1
    assert 'RDMA_CORE: directory of the rdma-core checkout' in p.stderr
