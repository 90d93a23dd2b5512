# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""What a device says that it has: Mlx5DM.query_caps() and python3 -m
pyverbs.providers.mlx5.mlx5dv_dm_caps."""
import contextlib
import errno
import io
import json
import os
import subprocess
import sys

from pyverbs.device import AllocDmAttr, Context
from pyverbs.pyverbs_error import PyverbsRDMAError
from tests.mlx5_mem_base import PATIENCE, Mlx5MemTestCase, control

from pyverbs.providers.mlx5 import mlx5_trial, mlx5dv_dm_caps
from pyverbs.providers.mlx5.mlx5dv_dm import (
    Mlx5AllocDmAttr,
    Mlx5DM,
    mlx5dv_alloc_dm_type,
    query_hca_cap,
)
from pyverbs.providers.mlx5.mlx5dv_dm_caps import Mlx5DMCaps

MEMIC = mlx5dv_alloc_dm_type.MLX5DV_DM_TYPE_MEMIC
KERNEL = tuple(int(part) for part in os.uname().release.split('.')[:2])


class Mlx5DMCapsTest(Mlx5MemTestCase):
    def test_agrees_with_the_device(self):
        """What it tells is what allocations find."""
        caps = Mlx5DM.query_caps(self.ctx)
        self.assertIsInstance(caps, Mlx5DMCaps)
        self.assertEqual((caps.device, caps.memic.max_length),
                         (self.dev_name, self.attr_ex.max_dm_size))
        self.assertEqual([kind for kind in mlx5dv_alloc_dm_type if kind != MEMIC],
                         list(caps.sw_icm))
        for kind in mlx5dv_alloc_dm_type:
            with self.subTest(kind=kind.name):
                try:
                    Mlx5DM(self.ctx, AllocDmAttr(64), Mlx5AllocDmAttr(kind)).close()
                    self.assertIsNone(caps.missing(kind))
                except PyverbsRDMAError as ex:
                    self.assertEqual(ex.error_code, errno.EOPNOTSUPP)
                    # That the device has it and the kernel does not is for old kernels alone to
                    # say.
                    too_old = kind.name == 'MLX5DV_DM_TYPE_ENCAP_SW_ICM' and KERNEL < (6, 8)
                    self.assertEqual(caps.missing(kind) is None, too_old)
                    self.assertIn(
                        caps.missing(kind) or
                        'The device has the type, so the kernel is too old for it', str(ex))
        with Mlx5DM(self.ctx, AllocDmAttr(caps.memic.max_length)) as dm:
            for op in range(32):
                if op in caps.memic.operations:
                    dm.map_op_addr(op).close()
                else:
                    self.refused(errno.EOPNOTSUPP, dm.map_op_addr, op)

    def test_agrees_with_the_card(self):
        """Each field is read from its place: the emulated card has another value in each."""
        if not self.card:
            self.skipTest('the values are those of the emulated card')
        profile = control.call('summary')['profile']
        caps = Mlx5DM.query_caps(self.ctx)
        self.assertEqual((caps.memic.size, caps.memic.max_length, caps.memic.granularity,
                          caps.memic.max_log_align_req), (1 << 20, 256 << 10, 64, 18))
        self.assertEqual(caps.memic.operations, {0: (1, 2, 4, 8), 1: (1, 2, 4, 8)})
        ranges = [(icm.start, icm.size, icm.block_size) for icm in caps.sw_icm.values()]
        want = [(0x10_0000_0000, 1 << 28, 4096), (0x20_0000_0000, 1 << 24, 4096),
                (0x30_0000_0000, 1 << 22, 4096), (0x40_0000_0000, 1 << 24, 4096)]
        self.assertEqual(ranges, [(0, 0, 4096) if profile == 'connectx5' and number > 1 else each
                                  for number, each in enumerate(want)][:len(ranges)])

    def test_forms(self):
        """A table for people with a line a type; all of it for programs."""
        caps = Mlx5DM.query_caps(self.ctx)
        text = str(caps)
        self.assertIn(f'{self.dev_name}: device memory', text)
        self.assertEqual(len(text.splitlines()), 3 + len(caps.memic.operations) + len(caps.sw_icm))
        for kind, icm in caps.sw_icm.items():
            line = next(line for line in text.splitlines()
                        if line.split()[0] == kind.name.replace('MLX5DV_DM_TYPE_', ''))
            self.assertIn(icm.missing or f'{icm.start:#x}', line)
        back = json.loads(json.dumps(caps.as_dict()))
        self.assertEqual((back['device'], back['memic']['size']), (self.dev_name, caps.memic.size))
        self.assertEqual({name: icm['start'] for name, icm in back['sw_icm'].items()},
                         {kind.name: icm.start for kind, icm in caps.sw_icm.items()})
        self.assertRaises(AttributeError, setattr, caps, 'device', 'other')

    def test_wrong_pages_and_contexts_are_refused(self):
        self.assertRaises(TypeError, Mlx5DM.query_caps, None)
        self.assertRaises(TypeError, query_hca_cap, self.ctx, 'general')
        for page in (-1, 0x8000, 2**64):
            self.wrong(query_hca_cap, self.ctx, page)
        # The firmware knows no such page: its status and syndrome are in the text.
        self.assertRegex(self.refused(errno.EREMOTEIO, query_hca_cap, self.ctx, 0x7fff),
                         r'page 0x7fff \(status 0x[1-9a-f]')
        with Context(name=self.dev_name) as ctx:
            self.assertEqual(Mlx5DM.query_caps(ctx), Mlx5DM.query_caps(self.ctx))
        self.wrong(Mlx5DM.query_caps, ctx)
        self.wrong(query_hca_cap, Context.__new__(Context), 0)

    def shell(self, *words):
        return subprocess.run([sys.executable, '-m', 'pyverbs.providers.mlx5.mlx5dv_dm_caps',
                               *words],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              universal_newlines=True, timeout=PATIENCE, check=False)

    def without_trials(self, text):
        devices = json.loads(text)
        for device in devices:
            self.assertEqual([*device['works']], mlx5_trial.names())
            del device['works']
        return devices

    def test_shell(self):
        """The program prints the same table, or the same for programs, of one device or all."""
        caps = Mlx5DM.query_caps(self.ctx)
        done = self.shell('--dev', self.dev_name)
        self.assertEqual((done.returncode, done.stderr), (0, ''))
        self.assertTrue(done.stdout.startswith(f'{caps}\n\n{self.dev_name}: what works here\n'))
        done = self.shell('--json')
        self.assertEqual((done.returncode, done.stderr), (0, ''))
        self.assertIn(json.loads(json.dumps(caps.as_dict())), self.without_trials(done.stdout))
        done = self.shell('--dev', 'nowhere9')
        self.assertEqual((done.returncode, done.stdout), (2, ''))
        self.assertRegex(done.stderr, rf'no RDMA device nowhere9; there are: .*\b{self.dev_name}\b')
        self.assertEqual(self.shell('--nonsense').returncode, 2)

    def test_shell_of_nobody(self):
        """Asking takes no privilege: the same for a user without any."""
        caps = json.loads(json.dumps(Mlx5DM.query_caps(self.ctx).as_dict()))

        def ask():
            os.setgroups([])
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
            for words in (['--json'], ['--dev', self.dev_name]):
                out, err = io.StringIO(), io.StringIO()
                with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                    status = mlx5dv_dm_caps.main(words)
                self.assertEqual((status, err.getvalue()), (0, ''))
                if words == ['--json']:
                    self.assertIn(caps, self.without_trials(out.getvalue()))
                else:
                    self.assertIn(f'{self.dev_name}: device memory', out.getvalue())
        self.in_child(ask)
