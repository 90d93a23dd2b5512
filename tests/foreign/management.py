# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Programs that look after a device: iproute2's rdma and devlink, ethtool, mstflint, and
infiniband-diags on InfiniBand ports."""

from __future__ import annotations

import re

from foreign.catalogue import program
from foreign.root import Failed, Root

PCI = 'pci/0000:01:00.0'


def holds(said: str, *patterns: str) -> str:
    """Return what a program said if it has all of these.

    :raises Failed: it lacks one
    """
    for pattern in patterns:
        if not re.search(pattern, said):
            raise Failed(f'{pattern} is not in: {said}')
    return said


@program('rdma', 'iproute2', 'rdma: links, resources, statistics', quick=True)
def rdma(root: Root) -> str:
    """It lists both devices, their ports and what the kernel keeps of them."""
    holds(root.run('rdma', 'link'), 'mlx5_0/1 state ACTIVE', 'mlx5_1/1 state ACTIVE')
    holds(root.run('rdma', 'dev'), r'mlx5_0: node_type ca .*fw \d+\.\d+\.\d+')
    holds(root.run('rdma', 'resource', 'show', 'qp'), 'type GSI state RTS')
    holds(root.run('rdma', 'statistic'), 'rx_write_requests')
    root.run('rdma', 'statistic', 'qp', 'set', 'link', 'mlx5_0/1', 'auto', 'type', 'on')
    root.run('rdma', 'statistic', 'qp', 'set', 'link', 'mlx5_0/1', 'auto', 'off')
    return ''


@program('devlink', 'iproute2', 'devlink: versions, parameters, health, switch mode, reload',
         quick=True)
def devlink(root: Root) -> str:
    """The firmware's version is the device's, each reporter is healthy, and a reload brings the
    device back."""
    said = holds(root.run('devlink', 'dev', 'info', PCI), 'running:', r'fw\.psid MT_')
    version = re.search(r'fw\.version (\d+\.\d+\.\d+)', said)
    if not version or f'fw {version[1]}' not in root.run('rdma', 'dev'):
        raise Failed(said)
    holds(root.run('devlink', 'dev', 'param', 'show'), 'name enable_rdma')
    healthy = root.run('devlink', 'health', 'show').count('state healthy error 0')
    if healthy < 6:
        raise Failed(f'{healthy} reporters are healthy')
    root.run('devlink', 'health', 'diagnose', PCI, 'reporter', 'fw')
    for mode in ('switchdev', 'legacy'):
        root.run('devlink', 'dev', 'eswitch', 'set', PCI, 'mode', mode)
        holds(root.run('devlink', 'dev', 'eswitch', 'show', PCI), f'mode {mode}')
    root.run('devlink', 'dev', 'reload', PCI)
    root.run('ip', 'link', 'set', 'eth0', 'up')
    root.run('ip', 'addr', 'add', '10.9.1.1/16', 'dev', 'eth0')
    return f'firmware {version[1]}'


@program('ethtool', 'ethtool', 'ethtool: link, pause, FEC, module, rings, RSS, rules, self-test',
         quick=True)
def ethtool(root: Root) -> str:
    """What it sets it shows again, and the self-test passes."""
    def run(*words: str) -> str:
        return root.run('ethtool', *words)
    holds(run('eth1'), 'Speed: 100000Mb/s', 'Link detected: yes')
    holds(run('-i', 'eth1'), 'driver: mlx5_core')
    run('-A', 'eth1', 'rx', 'off', 'tx', 'off')
    holds(run('-a', 'eth1'), r'RX:\s+off', r'TX:\s+off')
    run('-A', 'eth1', 'rx', 'on', 'tx', 'on')
    run('--set-fec', 'eth1', 'encoding', 'off')
    holds(run('--show-fec', 'eth1'), 'Active FEC encoding: Off')
    run('--set-fec', 'eth1', 'encoding', 'rs')
    holds(run('--show-fec', 'eth1'), 'Active FEC encoding: RS')
    holds(run('-m', 'eth1'), 'QSFP28', '100G Base-LR4', 'Vendor name *: mlx5emu')
    run('-G', 'eth1', 'rx', '512')
    holds(run('-g', 'eth1'), r'Current[^!]*RX:\s+512')
    # One after the other: Linux 6.1 takes the default when adaption ends.
    run('-C', 'eth1', 'adaptive-rx', 'off')
    run('-C', 'eth1', 'rx-usecs', '4')
    holds(run('-c', 'eth1'), r'rx-usecs:\s+4')
    holds(run('-x', 'eth1'), 'toeplitz: on')
    holds(run('-T', 'eth1'), 'hardware-transmit')
    rule = re.search(r'ID (\d+)', run('-N', 'eth1', 'flow-type', 'tcp4', 'dst-port', '80',
                                      'action', '0'))
    if not rule:
        raise Failed('the rule has no number')
    holds(run('-n', 'eth1'), 'Dest port: 80')
    run('-N', 'eth1', 'delete', rule[1])
    holds(run('-S', 'eth1'), 'rx_packets')
    holds(run('-t', 'eth1'), 'PASS')
    return ''


@program('mstflint', 'mstflint', 'mstflint: query of the firmware',
         fails="the card's gateway in configuration space has no address space; mstflint 4.31 "
         'sets no function to read by then, and calls it')
def mstflint(root: Root) -> str:
    """It tells version and board."""
    return holds(root.run('mstflint', '-d', '01:00.0', 'q'), 'FW Version')


#: Programs of infiniband-diags with what they print of the first port.
DIAGS = {
    'ibstat': (('ibstat',), ('State: Active', 'Link layer: InfiniBand')),
    'ibaddr': (('ibaddr',), ('GID fe80::', 'LID start 0x')),
    'smpquery-node': (('smpquery', '-D', 'nodeinfo', '0'), ('NodeType:.*Channel Adapter', )),
    'smpquery-port': (('smpquery', '-D', 'portinfo', '0', '1'), ('LinkState:.*Active', )),
    'smpquery-pkeys': (('smpquery', '-D', 'pkeys', '0', '1'), ('0xffff', )),
    'perfquery': (('perfquery', ), ('PortXmitData', )),
    'perfquery-x': (('perfquery', '-x'), ('PortXmitPkts', )),
    'iblinkinfo': (('iblinkinfo', ), ('CA: .*', )),
    'ibnetdiscover': (('ibnetdiscover', ), ('Ca', )), }
#: Those that ask the subnet manager, which answers no management datagram here.
OF_THE_MANAGER = {'sminfo': ('sminfo', ), 'saquery': ('saquery', ),
                  'ibqueryerrors': ('ibqueryerrors', )}


def declare(name: str, words: tuple[str, ...], patterns: tuple[str, ...], fails: str) -> None:
    """Register one of infiniband-diags."""
    @program(name, 'infiniband-diags', ' '.join(words), guest='infiniband', fails=fails,
             quick=name in ('ibstat', 'perfquery'))
    def run(root: Root) -> str:
        said = holds(root.run(*words), *patterns)
        # ibqueryerrors ends with 0 all the same.
        if 'Query SA failed' in said:
            raise Failed(said)
        return ''


for _name, (_words, _patterns) in DIAGS.items():
    declare(_name, _words, _patterns, '')
for _name, _words in OF_THE_MANAGER.items():
    declare(_name, _words, (), 'it asks the subnet manager, which is part of the bench and answers '
            'no management datagram')
