"""One servable on one device: its tables, and its programs compiled for the shapes of calls.

Shape legend
    B   candidates     L   behaviors per user     P   width of Pre-rank's vectors
    R   content rows   D   content width
"""

import concurrent.futures
import dataclasses
from collections.abc import Mapping, Sequence, Set
from typing import Any

import jax
import jax.export
import numpy as np

from dicm_jax.errors import ServableError
from dicm_jax.serving import format as files
from dicm_jax.serving.buckets import USUAL, Bucket, Call, Encoded, filled, packed
from dicm_jax.serving.lookup import Lookup
from dicm_jax.serving.request import NOTHING, Query
from dicm_jax.serving.servable import Servable, ServedModel

Tables = dict[str, jax.Array]
EMBEDDED_AT_ONCE = 16
"""Content rows that a call of a compressor takes."""
_STEP = 16_384
"""Tables have a multiple of so many places, so that programs seldom meet a new shape."""
_COMPILER_OPTIONS = {"cpu": {"xla_backend_optimization_level": 1}}
"""By platform. On CPUs LLVM's second level takes a sixth longer for programs that are no faster."""
_RANKING = frozenset({files.RANK, files.RANK_MANY})
_STATISTICS = ("mean", "deviation")
"""Of a compressor's table, beside the parameters."""


@dataclasses.dataclass(frozen=True)
class Program:
    """A program of a servable, compiled once for each shape it is called with."""

    run: Any

    @classmethod
    def of(cls, serialized: bytes, where: str, platform: str) -> "Program":
        """From StableHLO as `jax.export` serializes it.

        Args:
          serialized: the program.
          where: it lies, for messages.
          platform: that it will run on.

        Raises:
          ServableError: it is none, or that of a JAX which this one does not understand.
        """
        try:
            call = jax.export.deserialize(bytearray(serialized)).call
            return cls(jax.jit(call, compiler_options=_COMPILER_OPTIONS.get(platform)))
        except Exception as error:  # the parser's, which are of many types
            raise ServableError(
                f"{where}: no program that JAX {jax.__version__} can read ({error}): serve with the"
                " version that the model card names, or export again with this one"
            ) from error

    def __call__(self, *arguments: Any) -> Any:
        return self.run(*arguments)


class Engine:
    """Answers queries by one servable.

    Args:
      servable: as it was read.
      device: where tables lie and programs run; None for the first one.
      room: new items that can be added.
      buckets: shapes that programs are compiled for.
      known: programs of another engine, with what they have been compiled for.
    """

    def __init__(
        self,
        servable: Servable,
        *,
        device: Any = None,
        room: int = 10_000,
        buckets: Sequence[Bucket] = USUAL,
        known: Mapping[bytes, Program] = NOTHING,
    ):
        self.servable, self.buckets = servable, tuple(buckets)
        # Some programs are for one user only.
        self._of_one_user = tuple(b for b in self.buckets if b.users == 1) or USUAL
        self.lookup = Lookup(servable)
        self.device = jax.local_devices()[0] if device is None else device
        self.room = room
        self.tables = {name: self._tables_of(model) for name, model in servable.models.items()}
        self._without_images = self._put(
            {
                f"{name}_rows": np.full(self._capacity(rows_N), files.MISSING_AD, np.int32)
                for name, rows_N in servable.rows_N.items()
            }
        )
        self.programs = {
            name: {
                kind: known.get(code)
                or Program.of(code, f"{servable.folder}: {name}/{kind}", self.device.platform)
                for kind, code in model.programs.items()
            }
            for name, model in servable.models.items()
        }
        self.compressors = {
            name: {kind: self._put(arrays) for kind, arrays in model.compressors.items()}
            for name, model in servable.models.items()
        }

    @property
    def known(self) -> dict[bytes, Program]:
        """Its programs, for the next engine."""
        return {
            code: self.programs[name][kind]
            for name, model in self.servable.models.items()
            for kind, code in model.programs.items()
        }

    # ---- Answers

    def encode(self, query: Query) -> tuple[Encoded, list[str], int]:
        """A query as places, the behaviors that are seen, and how many are not known."""
        place_B = self.lookup.candidates(query.candidates)
        behavior_L, seen, unknown = self.lookup.behaviors(query.user.behaviors)
        encoded = Encoded(
            user_F=self.lookup.user(query.user),
            behavior_L=behavior_L,
            item_B=place_B,
            context_BF=self.lookup.context(query, place_B),
        )
        return encoded, seen, unknown

    def scores(
        self, queries: Sequence[Encoded], *, model: str, images: bool = True
    ) -> list[np.ndarray]:
        """Click probabilities of each query's candidates, float32 ``[B]``."""
        calls = list(packed([len(query.item_B) for query in queries], self.buckets))
        made = [self._call(call, queries, model, _kind(call), images=images) for call in calls]
        into = [np.empty(len(query.item_B), np.float32) for query in queries]
        for call, probability_B in zip(calls, made, strict=True):
            _take_apart(call, np.asarray(probability_B), into)
        return into

    def attention(self, query: Encoded, *, model: str) -> dict[str, np.ndarray]:
        """What each behavior counts for each candidate, ``[B, L]`` by content and query."""
        names = self.servable.models[model].signature["attention"]
        shape = (len(query.item_B), self.servable.behaviors)
        into = {name: [np.empty(shape, np.float32)] for name in names}
        if not names:
            return {}
        # For people to look at: a little at a time, so that one shape is compiled.
        for call in packed([len(query.item_B)], self._of_one_user[:1]):
            weights = self._call(call, [query], model, files.ATTENTION, images=True)
            for name, weight_BL in weights.items():
                _take_apart(call, np.asarray(weight_BL), into[name])
        return {name: made[0][:, : len(query.behavior_L)] for name, made in into.items()}

    def user_vector(self, user_F: np.ndarray, behavior_L: np.ndarray) -> np.ndarray:
        """Pre-rank's vector of a user, float32 ``[P]``."""
        query = self._nothing(user_F, behavior_L)
        call = Call(self._of_one_user[0], ((0, 0, 0),))
        asked = filled(call, [query], self.servable.behaviors)
        return np.asarray(self._run(files.PRERANK, files.USER, asked))[0]

    def item_vectors(self, place_B: np.ndarray, context_BF: np.ndarray) -> np.ndarray:
        """Pre-rank's vectors of items, float32 ``[B, P]``."""
        query = dataclasses.replace(self._nothing(), item_B=place_B, context_BF=context_BF)
        made = []
        for call in packed([len(place_B)], self._of_one_user[:1]):
            asked = filled(call, [query], self.servable.behaviors)
            (_, first, end), *_ = call.pieces
            made.append(np.asarray(self._run(files.PRERANK, files.ITEM, asked))[: end - first])
        return np.concatenate(made)

    def _nothing(
        self, user_F: np.ndarray | None = None, behavior_L: np.ndarray | None = None
    ) -> Encoded:
        """A query without candidates, of a user who may be nobody."""
        fields = len(self.servable.fields_of("user"))
        return Encoded(
            user_F=np.zeros(fields, np.int32) if user_F is None else user_F,
            behavior_L=np.zeros(0, np.int32) if behavior_L is None else behavior_L,
            item_B=np.zeros(0, np.int32),
            context_BF=np.zeros((0, self.lookup.context_fields()), np.int32),
        )

    def embed(self, model: str, name: str, rows_RD: np.ndarray) -> np.ndarray:
        """Vectors of at most `EMBEDDED_AT_ONCE` feature rows by one of the compressors."""
        arrays = self.compressors[model][name]
        params = {part: array for part, array in arrays.items() if part not in _STATISTICS}
        full_RD = np.zeros((EMBEDDED_AT_ONCE, rows_RD.shape[1]), np.float32)
        full_RD[: len(rows_RD)] = rows_RD
        program = self.programs[model][f"{files.EMBED}_{name}"]
        made = program(params, arrays["mean"], arrays["deviation"], full_RD)
        return np.asarray(made)[: len(rows_RD)]

    def _call(
        self, call: Call, queries: Sequence[Encoded], model: str, kind: str, *, images: bool
    ) -> Any:
        asked = filled(call, queries, self.servable.behaviors)
        return self._run(model, kind, asked, images=images)

    def _run(self, model: str, kind: str, asked: Mapping[str, Any], *, images: bool = True) -> Any:
        tables = self.tables[model]
        if not images:
            tables = tables | {n: t for n, t in self._without_images.items() if n in tables}
        return self.programs[model][kind](tables, asked)

    # ---- Compilation

    def warm_ranking(self) -> None:
        """Compiles the programs that rank, for every bucket, several at a time."""
        self._warm_all(_RANKING)

    def warm_rest(self) -> None:
        """Compiles the other programs: attention, Pre-rank, compressors."""
        others = {kind for programs in self.programs.values() for kind in programs}
        self._warm_all(others - _RANKING)

    def _warm_all(self, kinds: Set[str]) -> None:
        tasks = []
        for name, programs in self.programs.items():
            for kind in sorted(kinds & programs.keys()):
                if kind.startswith(files.EMBED):
                    tasks.append((self._warm_embed, (name, kind)))
                else:
                    tasks += [(self._warm, (name, kind, b)) for b in self._buckets_of(kind)]
        with concurrent.futures.ThreadPoolExecutor() as pool:
            for done in [pool.submit(task, *arguments) for task, arguments in tasks]:
                done.result()

    def _buckets_of(self, kind: str) -> Sequence[Bucket]:
        """The shapes that a program is called with."""
        if kind == files.RANK_MANY:
            return [bucket for bucket in self.buckets if bucket.users > 1]
        if kind == files.RANK:
            return [bucket for bucket in self.buckets if bucket.users == 1]
        return self._of_one_user[:1]

    def _warm(self, model: str, kind: str, bucket: Bucket) -> None:
        asked = filled(Call(bucket, ((0, 0, 0),)), [self._nothing()], self.servable.behaviors)
        jax.block_until_ready(self._run(model, kind, asked))

    def _warm_embed(self, model: str, kind: str) -> None:
        name = kind.removeprefix(f"{files.EMBED}_")
        width = len(self.compressors[model][name]["mean"])
        self.embed(model, name, np.zeros((1, width), np.float32))

    # ---- Tables

    def _tables_of(self, model: ServedModel) -> Tables:
        rows = {
            f"{seen['content']}_rows": self.servable.rows_N[seen["content"]]
            for seen in model.inputs
        }
        of_items = {"items": self.servable.items_NF} | rows
        fixed = {n: array for n, array in model.tables.items() if files.is_weight(n)}
        of_rows = {n: array for n, array in model.tables.items() if n not in fixed}
        growing = {n: self._with_room(array) for n, array in (of_items | of_rows).items()}
        return self._put(fixed | growing)

    def _capacity(self, array: np.ndarray) -> int:
        """Places for an array and new items; often the same for the next version of a servable."""
        return -(-(len(array) + self.room) // _STEP) * _STEP

    def _with_room(self, array: np.ndarray) -> np.ndarray:
        made = np.zeros((self._capacity(array), *array.shape[1:]), array.dtype)
        made[: len(array)] = array
        return made

    def _put(self, arrays: Mapping[str, np.ndarray]) -> Tables:
        return {name: jax.device_put(array, self.device) for name, array in arrays.items()}


def _kind(call: Call) -> str:
    """The program that ranks a call's candidates."""
    return files.RANK if call.bucket.users == 1 else files.RANK_MANY


def _take_apart(call: Call, made_B: np.ndarray, into: Sequence[np.ndarray]) -> None:
    at = 0
    for number, first, end in call.pieces:
        into[number][first:end] = made_B[at : at + end - first]
        at += end - first
