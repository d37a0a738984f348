"""Make a feature table: of images by VGG16 up to FC6, or of any other encoder's array.

    python -m dicm_jax.features --images=photos --weights=vgg16.safetensors --output=features
    python -m dicm_jax.features --array=vectors.npy --ids=ids.txt --output=features

``OUTPUT/<content>/`` is the table, ``OUTPUT/<content>.keys.parquet`` says whose row is which, and
``OUTPUT/<content>.json`` comes when both are whole. Images that cannot be decoded are listed in
``OUTPUT/<content>.skipped.jsonl``. Run the same command again after a stop and it goes on. The last
line on stdout is the result as one JSON object.
"""

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dicm_jax.cli import DONE, PREEMPTED, run_command
from dicm_jax.features.array_job import ArrayJob, features_of_array
from dicm_jax.features.image_job import ImageJob, features_of_images
from dicm_jax.features.output import Output
from dicm_jax.features.preprocessing import CONVENTIONS
from dicm_jax.features.vgg16 import Vgg16Shape

_OF_IMAGES = ("weights", "weights_convention", "relu", "bad_images", "batch_size", "threads")
_OF_ARRAY = ("ids", "id_name", "encoder")
_DESCRIPTION = """\
Make a feature table: of images by VGG16 up to FC6 (--images), or of rows that another encoder made
(--array). Stopped, it goes on when the same command is run again.
"""
_EXAMPLE = """\
example:
  python -m dicm_jax.features --images=photos --weights=vgg16.safetensors --output=features
  python -m dicm_jax.features --array=clip.npy --ids=ids.txt --encoder='CLIP ViT-B/32' \\
      --output=features

weights: the original ones (converted Caffe, or Keras's vgg16_weights_tf_dim_ordering_tf_kernels.h5)
or torchvision's (timm/vgg16.tv_in1k has them as safetensors). Colors, means and scaling are those
of the file; --weights-convention names others.
"""


def main(argv: Sequence[str] | None = None, shape: Vgg16Shape | None = None) -> int:
    """The command line; returns the exit code.

    Args:
      argv: arguments; None takes those of the process.
      shape: of the network; None is VGG16's, another is for tests.
    """
    parser = _parser()
    arguments = parser.parse_args(argv)
    _check_usage(parser, arguments)
    before = signal.signal(signal.SIGTERM, _stop)
    try:
        return run_command(lambda: _make(arguments, shape or Vgg16Shape()), debug=arguments.debug)
    finally:
        signal.signal(signal.SIGTERM, before)


def _check_usage(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    """Ends with exit code 2 where arguments do not go together."""
    if (arguments.images is None) == (arguments.array is None):
        parser.error("give one of --images and --array")
    if arguments.images is not None and arguments.weights is None:
        parser.error("--images wants --weights=FILE: random weights would give no features")
    group, wrong = ("--images", _OF_ARRAY) if arguments.array is None else ("--array", _OF_IMAGES)
    for name in wrong:
        if getattr(arguments, name) != parser.get_default(name):
            parser.error(f"--{name.replace('_', '-')} has no meaning with {group}")
    if Path(arguments.content).name != arguments.content or arguments.content.startswith("."):
        parser.error(f"--content={arguments.content!r} is not the name of a file")


def _make(arguments: argparse.Namespace, shape: Vgg16Shape) -> int:
    """The whole command."""
    started = time.perf_counter()
    output = Output(arguments.output, arguments.content, arguments.storage)
    if arguments.array is not None:
        record = features_of_array(_array_job(arguments), output)
    else:
        record = features_of_images(_image_job(arguments, shape), output)
    print(json.dumps(_result(output, record, time.perf_counter() - started)))
    return DONE


def _image_job(arguments: argparse.Namespace, shape: Vgg16Shape) -> ImageJob:
    return ImageJob(
        source=arguments.images,
        weights=arguments.weights,
        convention=arguments.weights_convention,
        relu=arguments.relu,
        bad_images=arguments.bad_images,
        batch_size=arguments.batch_size,
        threads=arguments.threads,
        shape=shape,
    )


def _array_job(arguments: argparse.Namespace) -> ArrayJob:
    return ArrayJob(
        source=arguments.array,
        ids=arguments.ids,
        id_name=arguments.id_name,
        encoder=arguments.encoder,
    )


def _result(output: Output, record: dict[str, Any], seconds: float) -> dict[str, Any]:
    wanted = ("encoder", "rows", "width", "storage", "skipped")
    result = {name: record[name] for name in wanted if name in record}
    return {"output": str(output.folder / output.content), **result, "seconds": round(seconds, 1)}


def _stop(*_: object) -> None:
    """Ends the process as one that can be run again: what is done is on disk at any time."""
    print("stopped: run the same command again to go on", file=sys.stderr)
    sys.exit(PREEMPTED)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m dicm_jax.features",
        description=_DESCRIPTION,
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--output", required=True, type=Path, metavar="DIR", help="made if missing")
    parser.add_argument("--content", default="image", help="name of the table (default: image)")
    parser.add_argument(
        "--storage",
        choices=("int8", "bfloat16", "float32"),
        default="int8",
        help="rows at rest (default: int8, with a factor for each row)",
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of errors")
    _add_images(parser.add_argument_group("images"))
    _add_array(parser.add_argument_group("another encoder's array"))
    return parser


def _add_images(group: Any) -> None:
    group.add_argument(
        "--images",
        type=Path,
        metavar="SOURCE",
        help="a folder, searched to the bottom, where an image's ID is its file name without the"
        " suffix; or a .csv or .parquet list with columns id and path",
    )
    group.add_argument(
        "--weights", type=Path, metavar="FILE", help="VGG16's, as .safetensors, .npz or .h5"
    )
    group.add_argument(
        "--weights-convention",
        choices=tuple(CONVENTIONS),
        help="how images are prepared: caffe (BGR, 0 to 255, minus the mean), caffe_rgb (the same"
        " for a first convolution turned to RGB), torchvision (RGB, 0 to 1, standardised); default:"
        " what the file's names and values are known for",
    )
    group.add_argument(
        "--relu",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="take FC6 after its ReLU, as Caffe's blob fc6 is, or before it (default: after)",
    )
    group.add_argument(
        "--bad-images",
        choices=("skip", "fail"),
        default="skip",
        help="files that cannot be decoded are listed and left out, or end the run (default: skip)",
    )
    group.add_argument(
        "--batch-size",
        type=_positive,
        default=32,
        metavar="N",
        help="images together, over all devices (default: 32)",
    )
    group.add_argument(
        "--threads",
        type=_positive,
        default=os.cpu_count() or 1,
        metavar="N",
        help="threads that decode (default: one for each CPU)",
    )


def _add_array(group: Any) -> None:
    group.add_argument(
        "--array",
        type=Path,
        metavar="FILE",
        help=".npy, .npz, .parquet or .safetensors with rows and IDs, or the Amazon review sets'"
        " image_features_*.b; rows are mapped or streamed, never loaded whole",
    )
    group.add_argument(
        "--ids",
        type=Path,
        metavar="FILE",
        help="the ID of each row, where the array has none: .txt with one a line, .npy, or .csv or"
        " .parquet with a column id",
    )
    group.add_argument(
        "--id-name",
        default="id",
        metavar="NAME",
        help="what the IDs are called in the array, e.g. article_id (default: id)",
    )
    group.add_argument("--encoder", metavar="WORDS", help="what made the rows, for the record")


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
