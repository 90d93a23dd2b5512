# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Out-of-order data placement: who may ask for it, and that messages arrive whole."""
import pytest
from emulator.driver.guest import DCI, RC, UC, UD, XRC, Guest, GuestCq, GuestQp, GuestRmp, sge
from mlx5emu.prm.wqe import Op

ORDERING = {'dp_ordering_1': 1, 'dp_ordering_force': 1}


@pytest.mark.parametrize(('profile', 'st', 'want'), [('connectx6dx', RC, 'OK'),
                                                     ('connectx7', DCI, 'OK'),
                                                     ('connectx7', XRC, 'OK'),
                                                     ('connectx7', UC, 'BAD_PARAM'),
                                                     ('connectx7', UD, 'BAD_PARAM'),
                                                     ('connectx5', RC, 'BAD_PARAM')])
def test_which_queues_have_it(profile: str, st: int, want: str) -> None:
    """By card and transport; a refused command changes nothing."""
    g = Guest(profile=profile)
    qp = GuestQp(g, st)
    qp.to_init()
    fields = {'mtu': 5, 'log_msg_max': 30, 'remote_qpn': 1, **ORDERING}
    assert g.fails('INIT2RTR_QP', qpn=qp.number,
                   **{f'qpc.{k}': v for k, v in fields.items()}) == want
    c = g.cmd('QUERY_QP', qpn=qp.number).sub('qpc')
    assert [c[f] for f in ORDERING
            ] == [int(want == 'OK')] * 2 and c['state'] == (2 if want == 'OK' else 1)


@pytest.mark.parametrize(('profile', 'want'), [('connectx6dx', 'OK'), ('connectx5', 'BAD_PARAM')])
def test_targets(profile: str, want: str) -> None:
    """A DC target asks in its context."""
    g = Guest(profile=profile)
    context = {
        'pd': g.pd, 'cqn': GuestCq(g).number, 'srqn_xrqn': GuestRmp(g).number, 'mtu': 5, **ORDERING}
    assert g.fails('CREATE_DCT',
                   **{f'dct_context_entry.{k}': v for k, v in context.items()}) == want


def test_messages_arrive() -> None:
    """Every message in a receive WQE of its own, completions in the order of the WQEs."""
    g = Guest()
    a, b = GuestQp(g), GuestQp(g, rcq=GuestCq(g))
    memory = g.alloc(8192)
    key = g.mkey(memory, 8192)
    for qp, peer in ((a, b), (b, a)):
        qp.to_init()
        qp.to_rtr(peer.number, **ORDERING)
        qp.to_rts()
    for k in range(4):
        g.write(memory + 64 * k, bytes([k + 1]) * 64)
        b.post_recv((memory + 4096 + 64 * k, 64, key))
        a.post_send(Op.SEND, sge(memory + 64 * k, 64, key), ring=k == 3)
    assert [c['wqe_counter'] for c in b.rcq.poll()] == [0, 1, 2, 3]
    assert g.read(memory + 4096, 256) == g.read(memory, 256)
    assert g.card.internal_errors == 0
