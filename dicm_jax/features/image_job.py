"""Images -> VGG16 FC6 -> a feature table; a run that was cut short goes on where it was.

Rows are kept in a work folder (`unfinished`) until all are there. The same images, weights and
batch size give the same files, byte for byte, however often the run was cut short.

Shape legend
    N   rows      D   width of FC6
"""

import contextlib
import dataclasses
from collections import Counter
from collections.abc import Iterator, Sized
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from dicm_jax.errors import DataError
from dicm_jax.features.encoder import Encoder
from dicm_jax.features.image_decoding import DecodedBatch, decode_batches
from dicm_jax.features.image_list import ImageList, list_images
from dicm_jax.features.output import Output
from dicm_jax.features.progress import progress_bar
from dicm_jax.features.unfinished import Unfinished, open_unfinished
from dicm_jax.features.vgg16 import Vgg16Shape
from dicm_jax.features.vgg16_weights import Weights, load_weights

_PART = 1024  # images after which work is safe


@dataclasses.dataclass(frozen=True)
class ImageJob:
    """What to make features of, and how.

    Attributes:
      source: a folder of images, or a list.
      weights: file of VGG16's weights.
      convention: name of the preprocessing; None takes that which the weights are known for.
      relu: take FC6 after its ReLU.
      bad_images: what to do about a file that cannot be decoded.
      batch_size: images together on the devices.
      threads: that decode.
      shape: of the network.
    """

    source: Path
    weights: Path
    convention: str | None
    relu: bool
    bad_images: Literal["skip", "fail"]
    batch_size: int
    threads: int
    shape: Vgg16Shape


def features_of_images(job: ImageJob, output: Output) -> dict[str, Any]:
    """Makes the table, or goes on making it; returns its record.

    Raises:
      DataError: images, weights, the output folder or unfinished work in it cannot be used; or a
        bad image, where those are not to be skipped.
    """
    images = list_images(job.source)
    weights = load_weights(job.weights, job.shape, job.convention)
    settings = _settings(job, images, weights)
    record = output.finished(settings)
    if record is not None:
        _check_skipped(job, output.skipped, record["skipped"])
        return record
    with open_unfinished(output.work, settings, job.shape.fc6) as work:
        _check_skipped(job, work.folder, work.skipped())
        _encode(job, images, weights, work)
        record = _finish(job, images, weights, settings, work, output)
    output.clear()
    return record


def _settings(job: ImageJob, images: ImageList, weights: Weights) -> dict[str, Any]:
    """All that rows depend on, but for the pixels of the images."""
    return {
        "encoder": f"VGG16 FC6 {'after' if job.relu else 'before'} ReLU",
        "width": job.shape.fc6,
        "image_size": job.shape.image_size,
        "preprocessing": str(weights.preprocessing),
        "weights_crc32": f"{weights.crc:08x}",
        "images": len(images.ids),
        "list_crc32": f"{images.crc:08x}",
    }


def _encode(job: ImageJob, images: ImageList, weights: Weights, work: Unfinished) -> None:
    """Computes the rows that are not there yet, a part at a time."""
    if work.sources == len(images.ids):
        return
    encoder = Encoder(
        job.shape,
        weights.parameters,
        weights.preprocessing,
        relu=job.relu,
        batch_size=job.batch_size,
    )
    batches = decode_batches(
        images,
        work.sources,
        batch_size=encoder.batch_size,
        image_size=job.shape.image_size,
        threads=job.threads,
    )
    rows: list[np.ndarray] = []
    skipped: list[dict[str, Any]] = []
    with (
        contextlib.closing(batches),
        progress_bar(len(images.ids), "images", "image", work.sources) as bar,
    ):
        for batch, rows_BD in _encoded(encoder, batches):
            if batch.bad and job.bad_images == "fail":
                raise _as_told(next(iter(batch.bad.values())))
            good_N = [place for place in range(batch.count) if place not in batch.bad]
            rows.append(rows_BD[good_N])
            skipped += _described(images, batch)
            done = batch.first + batch.count
            if done - work.sources >= _PART or done == len(images.ids):
                work.commit(done, np.concatenate(rows), skipped)
                rows, skipped = [], []
            bar.update(batch.count)


def _encoded(
    encoder: Encoder, batches: Iterator[DecodedBatch]
) -> Iterator[tuple[DecodedBatch, np.ndarray]]:
    """Each batch with its rows; the devices are given the next before rows of one are awaited."""
    running = None
    for batch in batches:
        started = batch, encoder(batch.pixels_BSSC)
        if running is not None:
            yield running[0], np.asarray(running[1])
        running = started
    if running is not None:
        yield running[0], np.asarray(running[1])


def _check_skipped(job: ImageJob, where: Path, skipped: Sized) -> None:
    """An earlier run may have skipped what this one must not."""
    if skipped and job.bad_images == "fail":
        raise DataError(
            f"{where}: an earlier run skipped images, and --bad-images=fail was asked for; repair "
            "the images listed there and begin anew with another --output, or leave them skipped"
        )


def _described(images: ImageList, batch: DecodedBatch) -> list[dict[str, Any]]:
    return [
        {
            "id": images.ids[batch.first + place],
            "path": images.paths[batch.first + place],
            "reason": error.reason,
            "error": str(error),
        }
        for place, error in sorted(batch.bad.items())
    ]


def _finish(
    job: ImageJob,
    images: ImageList,
    weights: Weights,
    settings: dict[str, Any],
    work: Unfinished,
    output: Output,
) -> dict[str, Any]:
    skipped = work.skipped()
    reasons = dict(sorted(Counter(line["reason"] for line in skipped).items()))
    if not work.rows:
        raise DataError(
            f"{job.source}: none of {len(images.ids)} images can be decoded: {reasons}, listed in "
            f"{work.folder / 'skipped.jsonl'}; give others"
        )
    without = {line["id"] for line in skipped}
    ids = pa.array([id_ for id_ in images.ids if id_ not in without], pa.string())
    work.copy_skipped(output.skipped)
    return output.write(
        work.map_rows(),
        None,
        ids,
        encoder=f"{settings['encoder']}; weights {job.weights.name} (CRC-32 {weights.crc:08x}); "
        f"{weights.preprocessing}",
        settings=settings,
        about={
            "source": str(job.source),
            "weights": str(job.weights),
            "skipped": reasons,
            "other_files": images.other_files,
        },
    )


def _as_told(error: DataError) -> DataError:
    return DataError(f"{error}; or skip such files with --bad-images=skip")
