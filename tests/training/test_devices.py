"""Roles of the devices: what a configuration gets, and what is refused with which words."""

import jax
import pytest

from dicm_jax.ams import mesh
from dicm_jax.config import MeshConfig
from dicm_jax.errors import MeshError
from dicm_jax.training.devices import start_roles


def test_all_devices_serve_and_work_unless_asked_otherwise():
    roles = start_roles(MeshConfig(worker=2), 8)
    assert roles.colocated
    assert roles.servers.devices.shape == (2, 4)
    assert (roles.requesters, roles.workers_per_list) == (8, 1)


@pytest.mark.parametrize(
    ("config", "servers", "workers"),
    [
        (MeshConfig(placement="dedicated"), 4, 4),
        (MeshConfig(placement="dedicated", worker=3), 2, 6),
        (MeshConfig(placement="dedicated", worker=7), 1, 7),
        (MeshConfig(placement="dedicated", worker=1, server=4), 4, 4),
        (MeshConfig(placement="dedicated", worker=7, server=1), 1, 7),
    ],
)
def test_dedicated_servers_and_workers_share_no_device(config, servers, workers):
    roles = start_roles(config, workers)
    assert not roles.colocated
    assert (roles.servers.size, roles.workers.size) == (servers, workers)
    assert not set(roles.servers.devices.flat) & set(roles.workers.devices.flat)
    assert roles.workers_per_list == workers // servers


@pytest.mark.parametrize(
    ("config", "lanes", "message"),
    [
        (MeshConfig(), 12, "train.lanes=12 cannot be dealt out evenly to 8 devices: set"),
        (MeshConfig(placement="dedicated"), 6, "lanes=6 cannot be dealt out evenly to 4 devices"),
        (
            MeshConfig(placement="dedicated", server=3),
            8,
            "with 3 servers and 5 workers: every server feeds the same number of workers; choose",
        ),
        (
            MeshConfig(placement="dedicated", server=8),
            8,
            "with 8 servers and 0 workers: every server feeds the same number",
        ),
        (
            MeshConfig(placement="dedicated", server=9),
            8,
            r"with 9 servers of 8 devices in 1 process\(es\): every process needs the same number",
        ),
        (
            MeshConfig(placement="dedicated", worker=8),
            8,
            r"with 0 servers of 8 devices .* at least one; set mesh.server to a multiple of 1",
        ),
        (
            MeshConfig(placement="dedicated", servers_on="cpu"),
            8,
            r"placement 'dedicated' with \[.*\] as server and as worker: the two sets must be disj",
        ),
    ],
)
def test_devices_that_cannot_be_arranged_so(config, lanes, message):
    with pytest.raises(MeshError, match=message):
        start_roles(config, lanes)


def test_servers_that_do_not_divide_the_virtual_shards_are_refused_apart_too():
    devices = jax.devices()
    with pytest.raises(MeshError, match=r"mesh.server=3 does not divide the 1024 virtual shards"):
        mesh.dedicated(devices[:3], devices[3:6])


def test_a_device_is_not_server_and_worker():
    devices = jax.devices()
    with pytest.raises(MeshError, match=r"'.*0'?\] as server and as worker: .* use fewer servers"):
        mesh.dedicated(devices[:1], devices[:2])
