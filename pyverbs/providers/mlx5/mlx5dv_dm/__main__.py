# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
""" Show what device memory the mlx5 devices of this machine have: python3 -m
pyverbs.providers.mlx5.mlx5dv_dm

mlx5dv_dm is an extension module, and Python runs such a one by -m only if it is a package with this
file in it.
"""
import argparse
import json
import sys

from pyverbs.device import Context, get_device_list
from pyverbs.pyverbs_error import PyverbsError, PyverbsRDMAError

from pyverbs.providers.mlx5.mlx5dv_dm import Mlx5DM


def main(argv=None):
    """
    Print the capabilities, and on the error stream what could not be asked.
    :param argv: The command line after the program's name (default: the process's)
    :return: Exit status: 0, or 1 if a device could not be asked, or 2 if there is no such device
    """
    parser = argparse.ArgumentParser(
        prog='python3 -m pyverbs.providers.mlx5.mlx5dv_dm',
        description='Device memory that mlx5 devices have: MEMIC and SW ICM.')
    parser.add_argument('--dev', metavar='NAME', help='this device only (default: all of mlx5)')
    parser.add_argument('--json', action='store_true',
                        help='a list for programs: numbers in bytes or log2')
    options = parser.parse_args(argv)
    try:
        names = [device.name.decode() for device in get_device_list()]
    except PyverbsRDMAError:
        # libibverbs answers so when the kernel has no RDMA at all.
        names = []
    chosen = [
        name for name in names
        if name == options.dev or not options.dev and name.startswith('mlx5')]
    if not chosen:
        print(f'no RDMA device {options.dev or "of mlx5"}; there are: {", ".join(names) or "none"}',
              file=sys.stderr)
        return 2
    status, found = 0, []
    for name in chosen:
        try:
            with Context(name=name) as context:
                found.append(Mlx5DM.query_caps(context))
        except PyverbsError as ex:
            print(f'{name}: {ex}', file=sys.stderr)
            status = 1
    if options.json:
        print(json.dumps([caps.as_dict() for caps in found], indent=2))
    elif found:
        print('\n\n'.join(map(str, found)))
    return status


if __name__ == '__main__':
    sys.exit(main())
