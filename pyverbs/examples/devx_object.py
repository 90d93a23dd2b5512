# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""An object by a command whose fields are named."""
from typing import Dict, Mapping, Tuple

from mlx5_ifc import Value, answer, answer_size, command
from pyverbs.providers.mlx5.mlx5dv import Mlx5Context, Mlx5DevxObj


def create(ctx: Mlx5Context, name: str,
           values: Mapping[str, Value]) -> Tuple[Mlx5DevxObj, Dict[str, int]]:
    """
    Create an object.
    :param name: Of the command
    :param values: As command() takes them
    :return: The object, and what the command answered
    """
    obj = Mlx5DevxObj(ctx, command(name, values), answer_size(name))
    return obj, answer(name, obj.out_view)
