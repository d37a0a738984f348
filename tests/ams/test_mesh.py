"""Mesh shapes: what is taken, what is refused and with which words."""

import pytest

from dicm_jax.ams.mesh import MeshShape, make_mesh, mesh_shape, shape_of
from dicm_jax.errors import MeshError


def test_servers_take_what_workers_leave():
    assert mesh_shape(8) == MeshShape(1, 8)
    assert mesh_shape(8, worker=2) == MeshShape(2, 4)
    assert mesh_shape(8, worker=8) == MeshShape(8, 1)
    assert mesh_shape(6, worker=3) == MeshShape(3, 2)
    assert mesh_shape(8, worker=2, server=4).devices == 8


def test_workers_that_do_not_divide_the_devices():
    with pytest.raises(MeshError, match=r"mesh.worker=3 does not divide the 8 devices"):
        mesh_shape(8, worker=3)


def test_axes_that_do_not_multiply_to_the_devices():
    with pytest.raises(MeshError, match=r"wants 4 devices, 8 are at hand: leave mesh.server unset"):
        mesh_shape(8, worker=2, server=2)


def test_servers_that_do_not_divide_the_virtual_shards():
    with pytest.raises(MeshError, match=r"mesh.server=6 does not divide the 1024 virtual shards"):
        mesh_shape(6)


@pytest.mark.parametrize("shape", [MeshShape(1, 1), MeshShape(1, 8), MeshShape(2, 4)])
def test_a_mesh_has_the_shape_it_was_made_with(shape):
    mesh = make_mesh(shape)
    assert shape_of(mesh) == shape
    assert mesh.devices.size == shape.devices
