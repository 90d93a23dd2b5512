# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""What works here, found by trying it: mlx5_trial, and mlx5dv_dm_caps as a program, which prints
it."""
import contextlib
import io
import json
import os
import resource

from pyverbs.device import Context
from pyverbs.fork import is_fork_initialized
from pyverbs.pyverbs_error import PyverbsRDMAError
from tests.mlx5_mem_base import Mlx5MemTestCase, control, drop_capability, mappings_of_device

from pyverbs.providers.mlx5 import mlx5_trial, mlx5dv_dm_caps
from pyverbs.providers.mlx5.mlx5dv_dm import Mlx5DM, mlx5dv_alloc_dm_type

CAP_NET_RAW, CAP_IPC_LOCK = 13, 14
SW_ICM = [kind.name[len('MLX5DV_DM_TYPE_'):].lower() for kind in mlx5dv_alloc_dm_type
          if kind.name.endswith('SW_ICM')]


def open_files():
    return len(os.listdir('/proc/self/fd'))


class Mlx5TrialTest(Mlx5MemTestCase):
    def tried(self):
        return {trial.name: trial for trial in mlx5_trial.try_all(self.ctx)}

    def program(self, *words):
        """Its exit status, what it printed and what it complained of."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = mlx5dv_dm_caps.main(['--dev', self.dev_name, *words])
        return status, out.getvalue(), err.getvalue()

    def test_what_works_is_said_to_work(self):
        """The privileged have all that the device has, and nothing stays."""
        before = open_files(), mappings_of_device()
        tried = self.tried()
        self.assertEqual([*tried], mlx5_trial.names())
        self.assertEqual((open_files(), mappings_of_device()), before)
        self.assert_live('memic', 0)
        self.assert_live('umem', 0)
        caps = Mlx5DM.query_caps(self.ctx)
        for name in ('devx', 'umem', 'umem_bitmap', 'umem_dmabuf', 'memic'):
            self.assertTrue(tried[name].works, tried[name])
        for kind in mlx5dv_alloc_dm_type:
            trial = tried[kind.name[len('MLX5DV_DM_TYPE_'):].lower()]
            if caps.missing(kind):
                self.assertFalse(trial.works)
                self.assertIn(caps.missing(kind), trial.why)
        self.assertEqual(tried['fork'].works, is_fork_initialized() != mlx5_trial.FORK_DISABLED)
        self.assertRaises(TypeError, mlx5_trial.try_all, None)
        closed = Context(name=self.dev_name)
        closed.close()
        self.wrong(mlx5_trial.try_all, closed)

    def test_capabilities_in_the_way(self):
        """SW ICM is for two capabilities, and each says which one is lacking."""
        have = [name for name in SW_ICM if self.tried()[name].works]
        if not have:
            self.skipTest('the device has no SW ICM')

        def without():
            drop_capability(CAP_NET_RAW)
            for name in have:
                trial = self.tried()[name]
                self.assertEqual((trial.works, trial.error), (False, 'EPERM'))
                self.assertIn('lacks CAP_NET_RAW', trial.why)
            self.assertTrue(self.tried()['memic'].works)
            status, out, err = self.program('--need', have[0], '--need', 'memic')
            self.assertEqual((status, err), (3, ''))
            self.assertRegex(out, f'(?m)^  {have[0]} +no +EPERM: Failed to allocate')
            self.assertEqual(self.program('--need', 'memic')[0], 0)
            self.assertEqual(self.program()[0], 0)
        self.in_child(without)

    def test_limit_in_the_way(self):
        """A limit of pinned memory is told, whether a page is still under it or not."""
        def limited():
            resource.setrlimit(resource.RLIMIT_MEMLOCK, (1 << 20, 1 << 20))
            trial = self.tried()['memlock']
            self.assertTrue(trial.works)
            self.assertIn('CAP_IPC_LOCK', trial.why)
            drop_capability(CAP_IPC_LOCK)
            tried = self.tried()
            self.assertEqual((tried['memlock'].works, tried['memlock'].error), (False, None))
            self.assertIn('1048576 bytes', tried['memlock'].why)
            self.assertTrue(tried['umem'].works)
            resource.setrlimit(resource.RLIMIT_MEMLOCK, (1, 1))
            for name in ('umem', 'umem_bitmap'):
                trial = self.tried()[name]
                self.assertEqual((trial.works, trial.error), (False, 'ENOMEM'))
                self.assertIn('ulimit -l', trial.why)
            # What an exporter pins does not count.
            self.assertTrue(self.tried()['umem_dmabuf'].works)
            status, out, err = self.program('--need=umem', '--json')
            self.assertEqual((status, err), (3, ''))
            found, = json.loads(out)
            self.assertEqual((found['works']['umem']['works'], found['works']['umem']['error']),
                             (False, 'ENOMEM'))
            resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, 0))
            self.assertEqual(self.tried()['umem'].error, 'EPERM')

        def unlimited():
            limit = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
            resource.setrlimit(resource.RLIMIT_MEMLOCK, limit)
            self.assertEqual(self.tried()['memlock'].why, 'no limit of pinned memory')
        self.in_child(limited)
        self.in_child(unlimited)

    def test_refusals_of_the_firmware(self):
        """What the card refuses is told with the errno; the rest is tried all the same."""
        if not self.card:
            self.skipTest('a real card refuses nothing')
        control.call('fault', opcode='CREATE_UMEM', status='NO_RES', count=-1)
        tried = self.tried()
        self.assertEqual((tried['umem'].works, tried['umem'].error), (False, 'EAGAIN'))
        self.assertIn('no resources left', tried['umem'].why)
        self.assertTrue(tried['memic'].works)

    def test_without_devx(self):
        """A device that cannot be asked is tried, and what it lacks is said."""
        if not self.card:
            self.skipTest('a real card answers')
        control.call('fault', opcode='QUERY_HCA_CAP', status='BAD_PARAM', count=-1)
        with self.assertRaises(PyverbsRDMAError):
            Mlx5DM.query_caps(self.ctx)
        tried = self.tried()
        self.assertFalse(tried['devx'].works)
        self.assertTrue(tried['umem'].works)
        # The program opens the device, for which the driver asks nothing.
        status, out, err = self.program('--json')
        self.assertEqual((status, err), (0, ''))
        self.assertEqual([*json.loads(out)[0]], ['device', 'works'])

    def test_as_a_table(self):
        """A line for each trial, wrapped at 100 columns."""
        trials = mlx5_trial.try_all(self.ctx)
        text = mlx5_trial.table(self.dev_name, trials)
        self.assertTrue(all(len(line) <= 100 for line in text.splitlines()))
        for trial in trials:
            answer = 'yes' if trial.works else 'no'
            self.assertRegex(text, rf'(?m)^  {trial.name} +{answer}\b')
        status, out, err = self.program()
        self.assertEqual((status, err), (0, ''))
        self.assertTrue(out.endswith(f'\n\n{text}\n'), out)
        self.assertRaises(SystemExit, self.program, '--need', 'everything')
