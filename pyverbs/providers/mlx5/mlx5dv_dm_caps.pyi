# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)

from collections.abc import Sequence
from typing import Any, NamedTuple

from pyverbs.device import Context
from pyverbs.pyverbs_error import PyverbsRDMAError

from pyverbs.providers.mlx5.mlx5dv_dm import mlx5dv_alloc_dm_type

__all__ = ['Mlx5DMCaps', 'Mlx5MemicCaps', 'Mlx5SwIcmCaps', 'main', 'process_capabilities',
           'refusal']

GENERAL: int
FLOW_TABLE: int
DEVICE_MEMORY: int
OBJ_TYPE_SW_ICM: int
OPERATIONS: dict[int, str]

class Mlx5MemicCaps(NamedTuple):
    size: int
    max_length: int
    granularity: int
    max_log_align_req: int
    operations: dict[int, tuple[int, ...]]
    missing: str | None

class Mlx5SwIcmCaps(NamedTuple):
    start: int
    size: int
    block_size: int
    missing: str | None

class Mlx5DMCaps(NamedTuple):
    device: str
    memic: Mlx5MemicCaps
    sw_icm: dict[mlx5dv_alloc_dm_type, Mlx5SwIcmCaps]
    @classmethod
    def query(cls, context: Context) -> Mlx5DMCaps: ...
    def missing(self, kind: mlx5dv_alloc_dm_type) -> str | None: ...
    def as_dict(self) -> dict[str, Any]: ...

def process_capabilities() -> int: ...
def refusal(context: Context, kind: int, length: int, log_align_req: int, largest: int,
            error: int, trouble: str = ...) -> PyverbsRDMAError: ...
def main(argv: Sequence[str] | None = ...) -> int: ...
