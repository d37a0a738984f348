"""A servable gives the scores that evaluation gives, whatever the model is made of."""

import jax.export
import numpy as np
import pytest

from dicm_jax.checkpoint.restore import Restored
from dicm_jax.data.schema import Features
from dicm_jax.exporting import writer
from dicm_jax.exporting.check import queries_of, served_scores
from dicm_jax.serving import NewItem, Ranker
from dicm_jax.serving import format as files
from dicm_jax.serving.buckets import Bucket
from dicm_jax.training.evaluation import predictor
from tests import small_world
from tests.exporting.untrained import run_of

BUCKETS = (Bucket(1, 32), Bucket(8, 64))
MODELS = {
    "the paper's, one query by value": {"query_fields": ("category",), "storage": "int8"},
    "attentive, DIN, similarity, matches, wide vectors": {
        "aggregator": "attentive",
        "basic_net": "din",
        "similarity": True,
        "match": True,
        "match_fields": ("category",),
        "compressor_widths": (11, 6, 8),
        "compressor_output_norm": "rms",
    },
    "sum, LR, one compressor": {
        "aggregator": "sum",
        "basic_net": "lr",
        "share_compressor": True,
        "storage": "bfloat16",
    },
    "concat, images of behaviors only": {
        "aggregator": "concat",
        "images": "behavior",
        "concat_behaviors": 3,
        "behaviors": 5,
    },
    "no images": {"images": "none", "basic_net": "din", "din_activation": "prelu"},
}


def servable_of(run: Restored, folder, vectors: str = "float32", room: int = 0) -> Ranker:
    kept_N = np.ones(small_world.ITEMS, bool)
    draft = writer.begin(folder)
    writer.write(draft, {"dicm": run}, kept_N, vectors)  # type: ignore[arg-type]
    return Ranker(draft.publish(), room=room, buckets=BUCKETS)


@pytest.mark.parametrize("name", MODELS)
def test_scores_are_those_of_evaluation(tmp_path, name):
    run = run_of(small_world.log(), **MODELS[name])
    _assert_same(run, servable_of(run, tmp_path))


def test_scores_of_a_model_that_sees_images_and_texts(tmp_path):
    fields = ("category", "position")  # of the item, and of the circumstances
    run = run_of(
        small_world.log_with_texts(),
        query_fields=fields,
        normalizer="softmax",
        interaction="outer",
        storage="bfloat16",
    )
    _assert_same(run, servable_of(run, tmp_path))


def _assert_same(run: Restored, ranker: Ranker) -> None:
    log = run.job.log
    evaluated_B = predictor(run.job, "test", run.model)(run.state)
    served_B = served_scores(ranker, log, log.test, "dicm")
    np.testing.assert_allclose(served_B, evaluated_B, rtol=0, atol=1e-5)
    assert np.ptp(evaluated_B) > 0.05, "all scores are alike: nothing was shown"
    # One user at a time is another program.
    alone = [
        ranker.rank(q.user, q.candidates, q.context) for q in list(queries_of(log, log.test))[:15]
    ]
    alone_B = np.concatenate([ranking.scores for ranking in alone])
    np.testing.assert_allclose(alone_B, evaluated_B[: len(alone_B)], rtol=0, atol=1e-5)


@pytest.mark.parametrize("vectors", ["bfloat16", "int8"])
def test_vectors_of_fewer_bits_change_scores_a_little(tmp_path, vectors):
    run = run_of(small_world.log(), query_fields=("category",))
    ranker = servable_of(run, tmp_path, vectors, room=70)
    log = run.job.log
    evaluated_B = predictor(run.job, "test", run.model)(run.state)
    off_B = np.abs(served_scores(ranker, log, log.test, "dicm") - evaluated_B)
    assert 1e-6 < off_B.max() < 0.05
    stored = ranker.servable.models["dicm"].tables["ad_vectors"]
    assert str(stored.dtype) == vectors
    # An item that is added is rounded as one of the catalogue is.
    names, query = ranker.servable.names, next(queries_of(log, log.test))
    assert isinstance(log.features, Features)
    pictured = np.flatnonzero(log.items.image_N >= 0)[:60]
    fields = [field.name for field in log.fields_of("item")]
    ranker.add_items(
        [
            NewItem(
                f"twin {number}",
                dict(zip(fields, log.items.ids_NF[number].tolist(), strict=True)),
                {"image": log.features.rows_VD[log.items.image_N[number]]},
            )
            for number in pictured
        ]
    )
    context = {"position": [0] * len(pictured)}
    known, added = (
        ranker.rank(query.user, asked, context).scores
        for asked in ([names[n] for n in pictured], [f"twin {n}" for n in pictured])
    )
    assert np.ptp(known) > 1e-2
    # All but a few, whose elements lie between two steps.
    off_B = np.abs(added - known)
    assert np.median(off_B) < 1e-5
    assert off_B.max() < 0.02


def test_programs_are_for_every_platform_and_size(tmp_path):
    run = run_of(small_world.log(), query_fields=("category",))
    ranker = servable_of(run, tmp_path)
    programs = ranker.servable.models["dicm"].programs
    assert set(programs) == {
        files.RANK,
        files.RANK_MANY,
        files.ATTENTION,
        "embed_ad",
        "embed_behavior",
    }
    for name, code in programs.items():
        exported = jax.export.deserialize(bytearray(code))
        assert exported.platforms == ("cpu", "cuda", "tpu"), name
        sizes = {str(size) for aval in exported.in_avals for size in aval.shape}
        symbols = {size for size in sizes if not size.isdigit()}
        wanted = {"R"} if name.startswith("embed") else {"16*C", "L", "K", "N", "V"}
        assert symbols == wanted | ({"G"} if name == files.RANK_MANY else set()), name
