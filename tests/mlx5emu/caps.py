# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Capability pages and profiles: the only place with capability values."""
from dataclasses import dataclass
from typing import Any

from . import prm

PAGE_SIZE = 4096

#: Capability types of QUERY_HCA_CAP by name: (type, layout).
PAGES = {
    'general': (0x0, 'cmd_hca_cap'),
    'ethernet': (0x1, 'per_protocol_networking_offload_caps'),
    'atomic': (0x3, 'atomic_caps'),
    'roce': (0x4, 'roce_cap'),
    'flow_table': (0x7, 'flow_table_nic_cap'),
    'device_memory': (0xf, 'device_mem_cap'),
}
BY_TYPE = {number: name for name, (number, _) in PAGES.items()}


@dataclass(frozen=True)
class Profile:
    """What tells one card from another."""
    name: str
    device_id: int
    fw_major: int
    fw_minor: int
    fw_subminor: int
    psid: str


PROFILES = {p.name: p for p in (
    Profile('connectx5', 0x1017, 16, 35, 4030, 'MT_0000000012'),
    Profile('connectx6dx', 0x101d, 22, 41, 1000, 'MT_0000000359'),
    Profile('connectx7', 0x1021, 28, 41, 1000, 'MT_0000000838'),
)}


class Capabilities:
    """Maximal and current values of every page."""

    def __init__(self, profile: Profile, link_layer: str) -> None:
        self.maximal: dict[str, prm.View] = {}
        self.current: dict[str, prm.View] = {}
        for name, (_, layout) in PAGES.items():
            self.maximal[name] = prm.View(layout, bytearray(PAGE_SIZE))
        for name, values in _values(profile, link_layer).items():
            for field, value in values.items():
                self.maximal[name][field] = value
        for name, view in self.maximal.items():
            self.current[name] = prm.View(view.name, bytearray(view.buf))

    def page(self, name: str) -> prm.View:
        """Current values of a page."""
        return self.current[name]

    def get(self, field: str) -> Any:
        """Current value of a general capability."""
        return self.current['general'][field]


def _values(profile: Profile, link_layer: str) -> dict[str, dict[str, int]]:
    return {
        'general': {'log_max_eq_sz': 16, 'uctx_cap': 3, 'log_max_cq_sz': 22, 'log_max_qp_sz': 15, 'log_max_srq_sz': 15, 'max_wqe_sz_sq': 1024,
                    'max_wqe_sz_rq': 512, 'log_max_msg': 30},
        'device_memory': {'memic': 1},
    }
