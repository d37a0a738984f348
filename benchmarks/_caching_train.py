"""`dicm_jax.train`, every process of which writes the programs that it compiles to the cache.

JAX lets process 0 alone write them, and those of the others differ, so that they would compile at
every start again. Nothing of the run itself is touched.
"""

from typing import Any

from jax._src import compiler, distributed

from dicm_jax.train import main


class _WritesLikeTheFirst:
    """The state of the processes as JAX's compiler sees it, but for the number of this one."""

    process_id = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(distributed.global_state, name)


class _Distributed:
    """JAX's module, as far as its compiler uses it."""

    global_state = _WritesLikeTheFirst()


if __name__ == "__main__":
    compiler.distributed = _Distributed  # pyright: ignore[reportPrivateImportUsage]
    main()
