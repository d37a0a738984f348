"""Photos that are sent to a service: the same rows as the command makes of files."""

import io

import numpy as np
import pytest
from PIL import Image

from dicm_jax.errors import DataError, RequestError
from dicm_jax.features.image_job import ImageJob, features_of_images
from dicm_jax.features.output import Output
from dicm_jax.features.table_files import open_table
from dicm_jax.serving.photo_encoder import vgg16_encoder
from tests.features import tiny_vgg16


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    return tiny_vgg16.save(folder, "torchvision.safetensors", tiny_vgg16.parameters())


def photo(seed: int, size: tuple[int, int]) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize("relu", [False, True])
def test_rows_are_those_of_the_command(weights, tmp_path, relu):
    photos = {f"{n}.png": photo(n, size) for n, size in enumerate([(20, 31), (64, 40), (12, 12)])}
    images = tmp_path / "images"
    images.mkdir()
    for name, data in photos.items():
        (images / name).write_bytes(data)
    job = ImageJob(images, weights, None, relu, "fail", 2, 1, tiny_vgg16.SHAPE)
    output = Output(tmp_path / "features", "image", "float32")
    features_of_images(job, output)
    table = open_table(output.folder / "image")
    encode = vgg16_encoder(weights, relu=relu, shape=tiny_vgg16.SHAPE)
    encoded_VD = np.stack([encode(data) for data in photos.values()])
    stats = table.statistics
    standard_VD = (encoded_VD - stats.mean_D) / stats.deviation_D
    np.testing.assert_allclose(standard_VD, table.values(np.arange(3)), atol=1e-4)
    assert (encoded_VD.min() >= 0) == relu


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "the photo: an empty file"),
        (b"GIF87a, they said", "the photo: (not an image|cannot be decoded)"),
        (photo(0, (30, 30))[:-200], "the photo: cannot be decoded"),
    ],
)
def test_what_is_no_photo(weights, data, words):
    with pytest.raises(RequestError, match=words):
        vgg16_encoder(weights, shape=tiny_vgg16.SHAPE)(data)


def test_weights_that_are_not_there(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        vgg16_encoder(tmp_path / "weights.safetensors", shape=tiny_vgg16.SHAPE)
