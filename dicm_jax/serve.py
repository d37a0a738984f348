"""An HTTP service over a servable.

    python -m dicm_jax.serve --servable=servables/dicm

Listens on the loopback interface; see ``/docs`` for its paths and ``/`` for a page to look at.
Newer versions that appear in the folder are taken up without a failed request.
"""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dicm_jax.cli import DONE, FAILED, run_command
from dicm_jax.errors import ServableError

_EXAMPLE = """examples:
  python -m dicm_jax.serve --servable=servables/dicm
  DICM_TOKEN=secret python -m dicm_jax.serve --servable=servables/dicm --host=0.0.0.0 --port=8080

  curl -s localhost:8000/v1/rank -d '{"user": {"behaviors": ["17", "4"]}, "candidates": ["5", "9"]}'
"""
_TOKEN = "DICM_TOKEN"


def serve(arguments: argparse.Namespace) -> int:
    """The whole command: set up, serve until a signal ends it."""
    # Imported late: `--help` needs none of it.
    import jax

    from dicm_jax.serving.http.app import Settings, create_app
    from dicm_jax.serving.http.server import run
    from dicm_jax.serving.http.service import Service
    from dicm_jax.serving.ranker import Ranker
    from dicm_jax.serving.servable import newest

    newest(arguments.servable)  # a folder that is none is said at once
    if not arguments.no_cache:
        jax.config.update("jax_compilation_cache_dir", str(arguments.cache))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    token = os.environ.get(_TOKEN) or None
    if token is None and arguments.host not in ("127.0.0.1", "localhost", "::1"):
        print(
            f"warning: --host={arguments.host} without a token: whoever reaches this machine can"
            f" ask, and add items; set {_TOKEN}, or keep to the loopback interface",
            file=sys.stderr,
        )
    service = Service(
        arguments.servable,
        lambda folder: Ranker(folder, room=arguments.room, hurry=True),
        waiting=arguments.waiting,
        timeout_s=arguments.timeout,
    )
    settings = Settings(token=token, reload_s=arguments.reload_every, encode=_encoder(arguments))
    run(create_app(service, settings), host=arguments.host, port=arguments.port)
    return DONE if service.started else FAILED


def _encoder(arguments: argparse.Namespace) -> Callable[[bytes], Any] | None:
    if arguments.vgg16 is None:
        return None
    from dicm_jax.serving.photo_encoder import vgg16_encoder

    return vgg16_encoder(arguments.vgg16, relu=arguments.vgg16_relu)


def _cache() -> Path:
    """Where JAX was told to keep compiled programs, or the user's folder for such things."""
    if told := os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        return Path(told)
    caches = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    return Path(caches) / "dicm_jax"


def parse(argv: list[str]) -> argparse.Namespace:
    """The arguments of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m dicm_jax.serve",
        description="Serve a servable over HTTP.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--servable", required=True, type=Path, help="folder of the servable")
    parser.add_argument("--host", default="127.0.0.1", help="default %(default)s")
    parser.add_argument("--port", type=int, default=8000, help="default %(default)s")
    parser.add_argument(
        "--room", type=int, default=10_000, help="new items that can be added; default %(default)s"
    )
    parser.add_argument(
        "--waiting",
        type=int,
        default=64,
        help="requests at work or waiting, at most; more get 429; default %(default)s",
    )
    parser.add_argument(
        "--timeout", type=float, default=5.0, help="seconds for an answer; default %(default)s"
    )
    parser.add_argument(
        "--reload-every",
        type=float,
        default=2.0,
        help="seconds between looks for a newer version, 0 for none; default %(default)s",
    )
    parser.add_argument(
        "--cache",
        type=Path,
        default=_cache(),
        help="folder for compiled programs, for later starts; default %(default)s",
    )
    parser.add_argument("--no-cache", action="store_true", help="compile at every start")
    parser.add_argument("--vgg16", type=Path, help="weights of VGG16, to add items by their photos")
    parser.add_argument(
        "--vgg16-relu",
        action="store_true",
        help="rows after FC6's ReLU, where the features were made so",
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of errors")
    arguments = parser.parse_args(argv)
    if not 0 <= arguments.port < 65536:
        parser.error(f"--port={arguments.port}: give one of 0 to 65535")
    for name in ("room", "reload_every"):
        if not getattr(arguments, name) >= 0:  # nor NaN
            parser.error(f"--{name.replace('_', '-')}: give 0 or more")
    if arguments.waiting < 1 or not arguments.timeout > 0:
        parser.error("--waiting and --timeout: give more than 0")
    return arguments


def main() -> None:
    """The command line."""
    arguments = parse(sys.argv[1:])
    try:
        import fastapi  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        missing = ServableError(
            f"python -m dicm_jax.serve needs {error.name}: pip install 'dicm-jax[serve]'"
        )
        print(f"error: {missing}", file=sys.stderr)
        sys.exit(FAILED)
    sys.exit(run_command(lambda: serve(arguments), debug=arguments.debug))


if __name__ == "__main__":
    main()
