# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)

from collections.abc import Sequence
from typing import NamedTuple

from pyverbs.device import Context

__all__ = ['Mlx5Trial', 'names', 'table', 'try_all']

PAGE: int
FORK_DISABLED: int
FORK_ENABLED: int
CAP_IPC_LOCK: int

class Mlx5Trial(NamedTuple):
    name: str
    works: bool
    error: str | None
    why: str

def names() -> list[str]: ...
def try_all(context: Context) -> list[Mlx5Trial]: ...
def table(device: str, trials: Sequence[Mlx5Trial]) -> str: ...
