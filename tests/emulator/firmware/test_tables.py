# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Object tables: numbers, owners, use counts, quotas, fault rules."""
import pytest
from mlx5emu import prm
from mlx5emu.firmware.faults import Faults
from mlx5emu.firmware.status import CODES, Status
from mlx5emu.firmware.tables import SHARED_UID, NumberSpace, Object, Quota, Table


def status_of(call, *args) -> str:
    """Status name that a call raises."""
    with pytest.raises(Status) as e:
        call(*args)
    return e.value.name


def test_numbers_come_back_late() -> None:
    t = Table('thing', NumberSpace(5, 4), Quota(1000))
    objects = [Object() for _ in range(4)]
    assert [t.alloc(o) for o in objects] == [5, 6, 7, 8]
    assert status_of(t.alloc, Object()) == 'EXCEED_LIM'
    t.free(6)
    assert t.alloc(Object()) == 6
    t.free(5)
    t.free(7)
    t.free(8)
    assert [t.alloc(Object()) for _ in range(3)] == [7, 8, 5]
    t.free(7)
    t.free(5)
    assert t.alloc(Object()) == 7, 'a number just freed is the last to be used again'
    assert t.numbers() == [6, 7, 8] and len(t) == 3 and 5 not in t


def test_owners() -> None:
    t = Table('thing', NumberSpace(1, 10), Quota(1000))
    mine, kernels, shared = (t.alloc(Object(), uid) for uid in (7, 0, SHARED_UID))
    assert t.get(mine, 7).number == mine and t.get(mine, 0).uid == 7
    assert status_of(t.get, mine, 8) == 'BAD_RES'
    assert status_of(t.get, kernels, 7) == 'BAD_RES'
    assert t.get(shared, 7).number == shared
    assert status_of(t.free, mine, 8) == 'BAD_RES'
    assert status_of(t.get, 9, 0) == 'BAD_RES'
    assert [o.number for o in t.owned_by(7)] == [mine]
    t.free(mine, 7)
    assert status_of(t.free, mine, 7) == 'BAD_RES'
    assert t.find(mine) is None and t.find(kernels).number == kernels


def test_an_object_in_use_stays() -> None:
    t = Table('thing', NumberSpace(1, 10), Quota(1000))
    base, user = Object(), Object()
    t.alloc(base)
    t.alloc(user)
    user.use(base, None, base)
    assert base.refs == 2
    assert status_of(t.free, base.number) == 'BAD_RES_STATE'
    assert base.number in t
    t.free(user.number)
    assert base.refs == 0
    t.free(base.number)
    assert len(t) == 0


def test_tables_that_share_numbers() -> None:
    space = NumberSpace(1, 3)
    a, b = Table('a', space, Quota(1000)), Table('b', space, Quota(1000))
    x, y = Object(), Object()
    assert a.alloc(x) == 1 and b.alloc(y) == 2
    assert space.lookup(2) is y and y.kind == 'b' and a.find(2) is None
    assert status_of(a.get, 2) == 'BAD_RES'
    b.clear()
    assert space.lookup(2) is None and len(b) == 0 and len(a) == 1


def test_quota() -> None:
    q = Quota(100)
    q.charge(60)
    assert status_of(q.charge, 41) == 'EXCEED_LIM'
    assert q.used == 60
    q.charge(40)
    q.release(100)
    assert q.used == 0


def test_an_object_gives_back_what_it_was_charged() -> None:
    quota, used = Quota(100), Object()
    t, small = Table('thing', NumberSpace(1, 2), quota), Object()
    t.alloc(used)
    t.alloc(small, cost=60)
    small.charge(quota, 10)
    assert (quota.used, small.cost) == (70, 70)
    # One that is refused, for want of bytes or of numbers, is charged nothing and uses nothing.
    for cost in (31, 30):
        refused = Object()
        refused.use(used)
        assert status_of(t.alloc, refused, 0, cost) == 'EXCEED_LIM'
        assert (quota.used, refused.cost, used.refs, len(t)) == (70, 0, 0, 2)
    quota.charge(30)
    small.recharge(30)
    assert quota.used == 30
    t.free(small.number)
    assert (quota.used, small.cost) == (0, 0)


def test_status() -> None:
    assert {
        n: CODES[n]
        for n in ('BAD_OP', 'BAD_PARAM', 'BAD_SYS_STATE', 'BAD_RES', 'RES_BUSY', 'EXCEED_LIM',
                  'BAD_RES_STATE', 'BAD_INDEX', 'NO_RES', 'BAD_INP_LEN', 'BAD_OUTP_LEN')} == {
                      'BAD_OP': 2, 'BAD_PARAM': 3, 'BAD_SYS_STATE': 4, 'BAD_RES': 5, 'RES_BUSY': 6,
                      'EXCEED_LIM': 8, 'BAD_RES_STATE': 9, 'BAD_INDEX': 10, 'NO_RES': 15,
                      'BAD_INP_LEN': 0x50, 'BAD_OUTP_LEN': 0x51}
    a, b = Status('BAD_PARAM', 'one reason'), Status('BAD_PARAM', 'another')
    assert 0 < a.syndrome < 1 << 24 and a.syndrome != b.syndrome and a.syndrome == Status(
        3, 'one reason').syndrome
    assert Status('BAD_RES', 0x123).syndrome == 0x123


def test_fault_rules() -> None:
    prm.load()
    f = Faults()
    f.add('CREATE_UMEM', 'EXCEED_LIM', count=2, skip=1)
    f.add(0x400, 3, count=-1, op_mod=1)
    op = prm.OPCODES['CREATE_UMEM']
    assert [getattr(f.match(op, 0), 'status', None) for _ in range(4)] == [None, 8, 8, None]
    assert f.match(0x400, 0) is None
    assert [f.match(0x400, 1).status for _ in range(3)] == [3, 3, 3]
    with pytest.raises(KeyError):
        f.add('NO_SUCH_COMMAND')
    with pytest.raises(KeyError):
        f.add('CREATE_CQ', 'NO_SUCH_STATUS')
    f.clear()
    assert f.match(0x400, 1) is None
