# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""The bench's parts that need no guest: archive, modules, command line, results, kernel log,
control channel."""

from __future__ import annotations

import json
import lzma
import os
import socket
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar
from xml.etree import ElementTree

import pytest
from mlx5emu.firmware.status import Status
from mlx5emu.vm import control, initramfs, kernel_log, suite, suite_report, vm
from mlx5emu.vm import run as vm_run
from mlx5emu.vm.machine import Machine, MachineError
from mlx5emu.vm.run import FaultError, parse_fault
from mlx5emu.vm.vm import Command


def entries(data: bytes) -> dict[str, tuple[int, bytes]]:
    """Read a newc archive by its definition: name to mode and content."""
    found, at = {}, 0
    while True:
        assert data[at:at + 6] == b'070701'
        mode, size, name_size = (int(data[at + 6 + 8 * i:at + 14 + 8 * i], 16) for i in (1, 6, 11))
        name = data[at + 110:at + 110 + name_size - 1].decode()
        body = (at + 110 + name_size + 3) & ~3
        if name == 'TRAILER!!!':
            return found
        found[name] = (mode, data[body:body + size])
        at = (body + size + 3) & ~3


def test_archive() -> None:
    """Directories come before what is in them, once; contents of every length are whole; the
    archive ends on 512 bytes."""
    a = initramfs.Archive()
    for n in range(5):
        a.file(f'a/b/{n}', b'x' * n, 0o755)
    a.link('a/link', 'b/1')
    data = a.close()
    found = entries(data)
    assert list(found) == ['a', 'a/b', *(f'a/b/{n}' for n in range(5)), 'a/link']
    assert [found[f'a/b/{n}'][1] for n in range(5)] == [b'x' * n for n in range(5)]
    assert found['a/b/0'][0] == 0o100755
    assert found['a/link'] == (0o120777, b'b/1')
    assert len(data) % 512 == 0


def module(*depends: str) -> bytes:
    """Return something with a module's .modinfo."""
    return b'\x7fELF' + b'\0license=GPL\0depends=' + ','.join(depends).encode() + b'\0name=x\0'


def test_modules(tmp_path: Path) -> None:
    """Each module follows those it depends on, once; built-in ones are left out; xz is undone."""
    for name, data in {
            'a-b': module('c', 'built_in'), 'c': module('d'), 'd': module(), 'e':
            module('c')}.items():
        (tmp_path / f'{name}.ko.xz').write_bytes(lzma.compress(data))
    (tmp_path / 'modules.builtin').write_text('kernel/x/built-in.ko\n')
    found = list(initramfs.Modules(tmp_path).closure(['a_b', 'e']))
    assert [name for name, _ in found] == ['d', 'c', 'a_b', 'e']
    assert found[2][1] == module('c', 'built_in')


def test_module_missing(tmp_path: Path) -> None:
    """A module that the package lacks is named."""
    with pytest.raises(initramfs.ModuleError, match='mlx5_core'):
        list(initramfs.Modules(tmp_path).closure(['mlx5_core']))


def test_command_is_quoted(tmp_path: Path) -> None:
    """Arguments, variables and the directory pass unharmed, whatever characters they have."""
    strange = "a 'b' \"c\" $d `e` \\ \n;&|*"
    where = tmp_path / "dir 'x' $y"
    where.mkdir()
    code = "import os, sys, json; print(json.dumps([sys.argv[1:], os.environ['V'], os.getcwd()]))"
    script = tmp_path / 'script'
    script.write_text(
        Command(['python3', '-c', code, strange, ''], str(where), {'V': strange}).script())
    done = subprocess.run(['sh', script], capture_output=True, check=True)
    assert json.loads(done.stdout) == [[strange, ''], strange, str(where)]


def test_command_directory_gone(tmp_path: Path) -> None:
    """A directory that the guest does not have ends with a status of its own."""
    script = Command(['true'], str(tmp_path / 'none')).script()
    assert subprocess.run(['sh', '-c', script], capture_output=True, check=False).returncode == 125


def test_faults() -> None:
    """The words of --fault."""
    assert parse_fault('CREATE_UMEM:BAD_PARAM') == ('CREATE_UMEM', 'BAD_PARAM', 1, 0.0)
    assert parse_fault('CREATE_UMEM:0:-1:500') == ('CREATE_UMEM', '0', -1, 500.0)
    for wrong in ('CREATE_UMEM', 'A:B:x', 'A:B:1:x'):
        with pytest.raises(FaultError, match='OPCODE:STATUS'):
            parse_fault(wrong)


def test_complaints() -> None:
    """Warnings count, whoever's; information and what a guest without a card is warned of do not;
    traces always do."""
    assert kernel_log.is_complaint(4, 'mlx5_core 0000:00:03.0: something failed')
    assert kernel_log.is_complaint(3, 'infiniband mlx5_0: create_qp failed')
    assert kernel_log.is_complaint(6, 'WARNING: CPU: 0 PID: 1 at mm/page_alloc.c')
    assert kernel_log.is_complaint(None, '[1.0] mlx5_core: no')
    assert not kernel_log.is_complaint(6, 'mlx5_core 0000:00:03.0: firmware version: 22.35.1012')
    assert kernel_log.is_complaint(4, 'pcieport 0000:00:03.0: AER: Uncorrectable error')
    assert kernel_log.is_complaint(None, '[   12.123456] some other part: not content')
    assert not kernel_log.is_complaint(4, 'ACPI: IRQ 4 override to edge(!), high(!)')
    assert not kernel_log.is_complaint(None, '[    0.032000] tsc: Unable to calibrate against PIT')
    assert kernel_log.is_complaint(4, 'mlx5_core: tsc: not at the start')
    assert kernel_log.is_complaint(5, 'workqueue: x hogged CPU, Call Trace:')


def test_console_complaints(tmp_path: Path) -> None:
    """Of a console, every line but the machine's own and empty ones."""
    log = tmp_path / 'kernel.log'
    log.write_text(
        '[    0.1] mtrr: your CPUs had inconsistent MTRRdefType settings\r\n\r\n'
        '[    1.0] mlx5_core: no\r\n'
        '[    9.0] reboot: Power down\r\n')
    assert kernel_log.console_complaints(log) == ['[    1.0] mlx5_core: no']


CPUINFO = 'processor\t: 0\nflags\t\t: fpu vme {} sse2\nbugs\t\t:\n'


@pytest.mark.parametrize(
    ('cpuinfo', 'mode', 'usable'),
    [
        (CPUINFO.format('vmx'), 0o600, True),
        (CPUINFO.format('svm'), 0o600, True),
        # Under some hypervisors the device is there and the CPU's extensions are not.
        (CPUINFO.format('pae'), 0o600, False),
        (CPUINFO.format('vmxx'), 0o600, False),
        ('processor: 0\n', 0o600, False),
        (CPUINFO.format('vmx'), None, False),
        (None, 0o600, False)])
def test_kvm_usable(tmp_path: Path, cpuinfo: str | None, mode: int | None, usable: bool) -> None:
    """The device is not enough, nor are the CPU's extensions."""
    if cpuinfo is not None:
        (tmp_path / 'cpuinfo').write_text(cpuinfo)
    if mode is not None:
        (tmp_path / 'kvm').touch(mode)
    assert vm.kvm_usable(tmp_path / 'cpuinfo', tmp_path / 'kvm') == usable


@pytest.mark.parametrize(('asked', 'usable', 'words'),
                         [(None, True, ['-accel', 'kvm', '-cpu', 'host']),
                          (None, False, ['-accel', 'tcg,thread=multi', '-cpu', 'max,la57=off']),
                          ('tcg', True, ['-accel', 'tcg,thread=multi', '-cpu', 'max,la57=off']),
                          ('kvm', False, ['-accel', 'kvm', '-cpu', 'host'])])
def test_accelerator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: str | None,
                     usable: bool, words: list[str]) -> None:
    """KVM where it works, unless something else is asked for."""
    monkeypatch.setattr(vm, 'kvm_usable', lambda: usable)
    machine = Machine(qemu=[], virtiofsd=None, busybox=tmp_path, kernel=tmp_path, modules=tmp_path,
                      release='', mlx5_include=tmp_path, python='', card_python='',
                      rdma_core_source=tmp_path, rdma_core_build=tmp_path,
                      rdma_core_version='', path=tmp_path)
    assert vm.Vm(machine, [], Command([], '/'), tmp_path, accel=asked).accelerator() == words


def test_machine_description(tmp_path: Path) -> None:
    """A description that is absent or damaged is refused with the command that makes it."""
    with pytest.raises(MachineError, match=r'quickstart\.sh'):
        Machine.load(tmp_path / 'none.json')
    (tmp_path / 'bad.json').write_text('{"qemu": []}')
    with pytest.raises(MachineError, match='damaged'):
        Machine.load(tmp_path / 'bad.json')


def results(path: Path, *lines: list[object], cut: str = '') -> Path:
    """Write a results file."""
    path.write_text(''.join(json.dumps(line) + '\n' for line in lines) + cut)
    return path


def test_suite_results(tmp_path: Path) -> None:
    """A test that was started and has no outcome is what the guest died of; a line cut off is left
    out."""
    path = results(tmp_path / 'r', ['all', ['tests.a.A.x', 'tests.a.A.y']],
                   ['start', 'tests.a.A.x'], ['ok', 'tests.a.A.x', '', 1.0],
                   ['start', 'tests.a.A.y'], cut='["ok", "tests')
    ids, outcomes, open_test = suite.read_results(path)
    assert ids == ['tests.a.A.x', 'tests.a.A.y']
    assert outcomes == {'tests.a.A.x': suite.Outcome('ok', '', 1.0)}
    assert open_test == 'tests.a.A.y'


def test_suite_table() -> None:
    """A line a file, and each reason once with its tests."""
    outcomes = {
        'tests.f.A.x': suite.Outcome('ok', '', 1), 'tests.f.A.y': suite.Outcome(
            'failed', 'at 0x12', 1), 'tests.f.A.z': suite.Outcome('failed', 'at 0x34', 1),
        'tests.g.B.x': suite.Outcome('skipped', 'no card', 1)}
    lines = suite.table(list(outcomes), outcomes).splitlines()
    assert lines[1].split() == ['f', '1', '2', '0']
    assert lines[2].split() == ['g', '0', '0', '1']
    assert '  2 x at 0x..' in lines
    assert '  1 x no card' in lines


class Tables:
    """Just enough of a card for the control channel."""

    tables: ClassVar[dict[str, list[int]]] = {}

    class umems:
        """No umem at all."""

        @staticmethod
        def get(number: int) -> None:
            """Refuse."""
            raise Status('BAD_RES', f'no umem {number}')


def test_control_refuses() -> None:
    """What is no request, a private name, wrong arguments or the card's own refusal: an answer with
    the reason, every time."""
    service = control.Service(Tables(), lambda f: f())
    for request, says in ((b'nonsense', 'JSONDecodeError'), (b'["_card", {}]',
                                                             'no control request'),
                          (b'["serve", {}]', 'no control'), (b'["nothing", {}]',
                                                             'no control request'),
                          (b'["umem", {}]', 'TypeError'), (b'["umem", {"umem_id": 9}]', 'BAD_RES'),
                          (b'[1, 2]', 'no control request'), (b'[]', 'ValueError')):
        ok, reason = service.answer(request)
        assert not ok
        assert says in reason


def test_control_over_a_socket() -> None:
    """One answer a line, until the socket is closed."""
    ours, theirs = socket.socketpair()
    service = control.Service(Tables(), lambda f: f())
    thread = threading.Thread(target=service.serve, args=(theirs,), daemon=True)
    thread.start()
    with ours, ours.makefile('r') as lines:
        for _ in range(3):
            ours.sendall(b'["nothing", {}]\n')
            assert json.loads(lines.readline())[0] is False
        ours.shutdown(socket.SHUT_RDWR)
    thread.join(60)
    assert not thread.is_alive()
    theirs.close()


def test_control_outlives_a_card_that_does_not_answer() -> None:
    """A card that is too busy, or a defect of it, is an answer too: the guest waits for one, and
    asks again."""
    ours, theirs = socket.socketpair()
    ends: list[BaseException] = [RuntimeError('changed size'), TimeoutError('no answer')]

    def submit(question: Callable[[], object]) -> object:
        if ends:
            raise ends.pop()
        return question()
    service = control.Service(Tables(), submit)
    thread = threading.Thread(target=service.serve, args=(theirs,), daemon=True)
    thread.start()
    ours.settimeout(60)
    with ours, ours.makefile('r') as lines:
        for says in ('TimeoutError: no answer', 'RuntimeError: changed size', 'BAD_RES'):
            ours.sendall(b'["umem", {"umem_id": 9}]\n')
            ok, reason = json.loads(lines.readline())
            assert not ok
            assert says in reason
        ours.shutdown(socket.SHUT_RDWR)
    thread.join(60)
    # Nobody waits on a channel that is no longer served.
    assert theirs.fileno() == -1


def test_control_outside_a_guest() -> None:
    """Where there is no channel, available() says so."""
    if not os.path.exists(control.PORT):
        assert not control.available()
        with pytest.raises(FileNotFoundError):
            control.call('objects')


def test_suite_reports(tmp_path: Path) -> None:
    """Each test is a case of JUnit's, with its reason; a control character is none of XML's."""
    outcomes = {
        'tests.test_a.A.x': suite.Outcome('ok', '', 1.25),
        'tests.test_a.A.y': suite.Outcome('failed', 'at <here>\x00', 0.5),
        'tests.test_b.B.z': suite.Outcome('skipped', 'no card', 0)}
    about = {'rdma-core': '59.0', 'seconds': 2.5}
    suite_report.write_junit(tmp_path / 'r.xml', list(outcomes), outcomes, about)
    root = ElementTree.parse(tmp_path / 'r.xml').getroot()
    assert root.tag == 'testsuite'
    assert {k: root.get(k) for k in ('tests', 'failures', 'skipped', 'time')} == {
        'tests': '3', 'failures': '1', 'skipped': '1', 'time': '2.500'}
    assert [p.attrib for p in root.iter('property')] == [
        {'name': 'rdma-core', 'value': '59.0'}, {'name': 'seconds', 'value': '2.5'}]
    cases = [(c.get('classname'), c.get('name'), c.get('time'),
              [(e.tag, e.get('message')) for e in c]) for c in root.iter('testcase')]
    assert cases == [
        ('tests.test_a.A', 'x', '1.250', []),
        ('tests.test_a.A', 'y', '0.500', [('failure', 'at <here>?')]),
        ('tests.test_b.B', 'z', '0.000', [('skipped', 'no card')])]
    suite_report.write_json(tmp_path / 'r.json', list(outcomes), outcomes, about)
    found = json.loads((tmp_path / 'r.json').read_text())
    assert found['rdma-core'] == '59.0'
    assert found['tests']['tests.test_a.A.y'] == {
        'how': 'failed', 'reason': 'at <here>\x00', 'seconds': 0.5}


def test_suite_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests that want another card or guest run there after the others, and only they; what they do
    there counts."""
    asked = []

    def run(machine: object, options: vm_run.Options, patterns: list[str], name: str,
            script: str | None) -> tuple[list[str], dict[str, suite.Outcome]]:
        asked.append((options.profile, options.link_layer, options.caps, patterns, script))
        return patterns, {i: suite.Outcome('ok', '', 2) for i in patterns}
    monkeypatch.setattr(suite, 'run', run)

    def outcomes() -> dict[str, suite.Outcome]:
        reasons = {
            'x': 'The device does not support plaintext DEK', 'y': '', 'z': 'no card', 't':
            'Tag matching is not supported', 'r': 'ROCE must be disabled'}
        return {
            f'tests.a.A.{i}': suite.Outcome('skipped' if reason else 'ok', reason, 1)
            for i, reason in reasons.items()}
    plain = ['crypto.wrapped_import_method=0', 'crypto.wrapped_crypto_operational=0']
    got = outcomes()
    lines = suite.run_elsewhere(None, vm_run.Options(caps=['a.b=1']), got)  # type: ignore[arg-type]
    assert asked == [('connectx6dx', None, ['a.b=1', *plain], ['tests.a.A.x'], None),
                     ('connectx7', 'ib', ['a.b=1'], ['tests.a.A.t'], None),
                     ('connectx6dx', None, ['a.b=1'], ['tests.a.A.r'], 'guest_roce_off.sh')]
    assert [o.how for o in got.values()] == ['ok', 'ok', 'skipped', 'ok', 'ok']
    assert lines == [
        f'with --cap {plain[0]} --cap {plain[1]}: a.A.x',
        'with --profile connectx7 --link-layer ib: a.A.t', 'with guest_roce_off.sh: a.A.r']
    asked.clear()
    suite.run_elsewhere(None, vm_run.Options(profile='connectx7'),
                        outcomes())  # type: ignore[arg-type]
    assert [a[3] for a in asked] == [['tests.a.A.x'],
                                     ['tests.a.A.r']], 'it was on that card already'


def test_suite_forgives_what_is_known() -> None:
    """A test that is known to fail counts as skipped and keeps its reason; one that passes, and one
    that is not known, stay as they are."""
    outcomes = {
        'tests.a.A.test_flow_meter': suite.Outcome('failed', 'too slow', 1),
        'tests.a.A.test_flow': suite.Outcome('failed', 'wrong', 2),
        'tests.b.B.test_flow_meter': suite.Outcome('ok', '', 3)}
    suite.forgive(outcomes, ['test_flow_meter'])
    assert list(outcomes.values()) == [
        suite.Outcome('skipped', 'known to fail: too slow', 1), suite.Outcome('failed', 'wrong', 2),
        suite.Outcome('ok', '', 3)]
    suite.forgive(outcomes, [])
    assert outcomes['tests.a.A.test_flow'].how == 'failed'
