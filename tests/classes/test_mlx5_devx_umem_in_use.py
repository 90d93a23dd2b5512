# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
""" Umems that DEVX objects use: the device refuses to let go of them, whichever object it is, and
whatever is closed in which order.
"""
import contextlib
import errno
import itertools
import sys
import unittest

from pyverbs.cq import CQ
from pyverbs.pd import PD
from pyverbs.providers.mlx5.mlx5_enums import _MLX5DV_UAR_ALLOC_TYPE_NC, mlx5dv_obj_type
from pyverbs.providers.mlx5.mlx5dv import Mlx5DevxObj, Mlx5UAR
from pyverbs.providers.mlx5.mlx5dv_objects import Mlx5DvObj
from pyverbs.pyverbs_error import PyverbsRDMAError
from tests.mlx5_mem_base import devx_cq
from tests.mlx5_mem_umem import LENGTH, PAGE, PATTERN, WRITE, Mlx5DevxUmemTestCase, devx_mkey

import pyverbs
from pyverbs.providers.mlx5.mlx5dv_devx_umem import Mlx5DevxUmem


def devx_qp(ctx, umem, dbr_umem, pd, cq, uars):
    """
    A DEVX queue pair of type RC, in RESET.
    :param umem: Where its queues go, at least 4096 bytes
    :param dbr_umem: Where its doorbell record is
    :param cq: Its completion queue, of verbs: pyverbs closes DEVX objects in no order, and a CQ
        goes after its QP
    :param uars: A list to which the UAR is added, for the caller to keep
    """
    from tests.mlx5_prm_structs import CreateQpIn, CreateQpOut, DevxOps, SwQpc
    uars.append(Mlx5UAR(ctx, _MLX5DV_UAR_ALLOC_TYPE_NC))
    cqn = Mlx5DvObj(mlx5dv_obj_type.MLX5DV_OBJ_CQ, cq=cq).dvcq.cqn
    qpc = SwQpc(st=DevxOps.MLX5_QPC_ST_RC, pd=Mlx5DvObj(mlx5dv_obj_type.MLX5DV_OBJ_PD,
                                                        pd=pd).dvpd.pdn,
                pm_state=DevxOps.MLX5_QPC_PM_STATE_MIGRATED, log_rq_size=3, log_sq_size=3,
                log_rq_stride=2, ts_format=1, uar_page=uars[-1].page_id, cqn_snd=cqn, cqn_rcv=cqn,
                dbr_umem_id=dbr_umem.umem_id, dbr_umem_valid=1)
    return Mlx5DevxObj(ctx, CreateQpIn(sw_qpc=qpc, wq_umem_id=umem.umem_id, wq_umem_valid=1),
                       len(CreateQpOut()))


#: rdma-core before 60 returns a CQ's pointer as if it were a Python object, which from Python 3.12
#: on leaves the CQ broken every other time; pyverbs tells its version from 65 on.
with_whole_cqs = unittest.skipIf(
    sys.version_info >= (3, 12) and not hasattr(pyverbs, '__version__'),
    "this rdma-core's Mlx5DvObj breaks CQs with this Python")


class Mlx5DevxUmemInUseTest(Mlx5DevxUmemTestCase):
    def users(self, ctx):
        """
        A DEVX CQ, QP and memory key, each on umems of its own.
        :return: Name of each object to it and its umems, and what else keeps them going
        """
        pd, cq, uars = PD(ctx), CQ(ctx, 16), []

        def umem(size=LENGTH):
            made = Mlx5DevxUmem(ctx, size, access=WRITE)
            memoryview(made)[:] = PATTERN[:size]
            return made
        cq_umems = [umem(), umem(8)]
        qp_umems = [umem(), umem(8)]
        key_umem = umem()
        return {
            'cq': (devx_cq(ctx, *cq_umems, uars), cq_umems), 'qp': (devx_qp(
                ctx, *qp_umems, pd, cq, uars), qp_umems), 'key': (devx_mkey(ctx, key_umem, pd), [
                    key_umem])}, (*uars, cq, pd)

    @with_whole_cqs
    def test_u4_u5_refused_under_each_object(self):
        """ U4, U5: queue and doorbell record of a CQ and of a QP, and the pages of a key: closing
        raises with the errno, the umem stays open with all it had, the card reads and writes it,
        and closes it later.
        """
        before = self.live().get('umem')
        found, others = self.users(self.ctx)
        for name in ('key', 'qp', 'cq'):
            user, umems = found.pop(name)
            for i, umem in enumerate(umems):
                with self.subTest(user=name, umem=i):
                    had = umem.umem_id, umem.size, umem.addr, self.live().get('umem')
                    for _ in range(2):
                        with self.assertRaises(PyverbsRDMAError) as caught:
                            umem.close()
                        self.assertIn(caught.exception.error_code, (errno.EBUSY, errno.EINVAL))
                        self.assertIn('DEVX object', str(caught.exception))
                    self.assertEqual((umem.umem_id, umem.size, umem.addr, self.live().get('umem')),
                                     had)
                    self.assertFalse(umem.closed)
                    with memoryview(umem) as view:
                        self.assertEqual(bytes(view[PAGE:]), PATTERN[PAGE:umem.size])
                        if name == 'key':
                            self.assert_both_ways(umem, view)
            user.close()
            with self.destroyed(len(umems) if self.card else 0):
                for umem in umems:
                    umem.close()
                    self.assertTrue(umem.closed)
        self.assertEqual(self.live().get('umem'), before)
        for thing in others:
            thing.close()

    @contextlib.contextmanager
    def destroyed(self, count):
        """This many umems are destroyed within, by one command each."""
        before = self.commands('DESTROY_UMEM'), self.live().get('umem', 0)
        yield
        self.assertEqual(
            (self.commands('DESTROY_UMEM') - before[0], before[1] - self.live().get('umem', 0)),
            (count, count))

    @with_whole_cqs
    def test_context_closes_in_every_order(self):
        """ CQ, QP and key are on umems, some of which are closed beforehand in any order, each
        refused first; the context closes what is left. No command is refused but those, each umem
        is destroyed once, and the memory is given back.
        """
        for order in [
                order for n in range(4)
                for order in itertools.permutations(('cq', 'qp', 'key'), n)]:
            with self.subTest(closed=order):
                ctx, refused, before = self.open_context(), 0, self.commands('DESTROY_UMEM')
                found, (*uars, cq, pd) = self.users(ctx)
                for name in order:
                    user, umems = found[name]
                    for umem in umems:
                        self.assertRaises(PyverbsRDMAError, umem.close)
                        self.assertFalse(umem.closed)
                        refused += 1
                    user.close()
                    for umem in umems:
                        umem.close()
                # pyverbs' UARs must go before their context, which does not know them.
                for uar in uars:
                    uar.close()
                every = [umem for _, umems in found.values() for umem in umems]
                ctx.close()
                del cq, pd
                self.assertEqual([umem.closed for umem in every], [True] * 5)
                self.assert_live('umem', 0)
                if self.card:
                    self.assertEqual(self.commands('DESTROY_UMEM') - before, 5 + refused)
