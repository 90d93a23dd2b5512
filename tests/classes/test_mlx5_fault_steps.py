# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Each step of each operation fails in turn, by everything that can become of it: class and errno
are right, the object is as before and of use, and nothing is left on the card, in the kernel or in
the process."""
import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

from tests.mlx5_mem_base import Mlx5MemTestCase
from tests.mlx5_mem_umem import LENGTH, sealable_memory, udmabuf

HERE = os.path.dirname(os.path.realpath(__file__))


class Mlx5FaultStepsTest(Mlx5MemTestCase):
    def test_each_step_of_each_operation(self):
        source = os.path.join(HERE, 'mlx5_mem_faults.c')
        compiler = shutil.which('cc') or shutil.which('gcc')
        if compiler is None or not os.path.exists(source):
            raise unittest.SkipTest('No C compiler, or no source, of what makes calls fail')
        memory = sealable_memory(bytes(LENGTH))
        self.addCleanup(os.close, memory)
        dmabuf = udmabuf(memory)
        self.addCleanup(os.close, dmabuf)
        with tempfile.TemporaryDirectory() as directory:
            library = os.path.join(directory, 'faults.so')
            subprocess.run([compiler, '-shared', '-fPIC', '-O1', '-o', library, source, '-ldl'],
                           check=True)
            done = subprocess.run(
                [sys.executable, '-X', 'faulthandler',
                 os.path.join(HERE, 'mlx5_mem_fault_steps.py'), self.dev_name, library,
                 str(dmabuf)], pass_fds=[dmabuf], stdout=subprocess.PIPE, universal_newlines=True,
                env={**os.environ, 'PYTHONPATH': os.pathsep.join(sys.path),
                     'LD_PRELOAD': f'{os.environ.get("LD_PRELOAD", "")} {library}'},
                timeout=1200, check=False)
        self.assertEqual(done.returncode, 0, done.stdout)
        told = json.loads(done.stdout)
        self.assertFalse(told['found'], '\n'.join(told['found']))
        # A sanitizer stands in front of the library.
        if self.card and 'LD_PRELOAD' not in os.environ:
            self.assertGreater(sum(told['pairs'].values()), 1500, told['pairs'])
            self.assertGreater(told['repeated'], 10000)


if __name__ == '__main__':
    unittest.main()
