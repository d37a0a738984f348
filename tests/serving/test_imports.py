"""A servable is served without the code that trained it."""

import sys

from tests.serving import made

_RANK = """
import sys
from dicm_jax.serving import NewItem, Ranker, User
from dicm_jax.serving.buckets import Bucket
import numpy as np

ranker = Ranker(sys.argv[1], room=4, buckets=(Bucket(1, 32),))
ranker.add_items([NewItem("new", features={"image": np.ones(37)})])
print(ranker.rank(User(behaviors=["3"]), ["1", "new"]).scores, ranker.prerank(User(), 3))
import dicm_jax.serving.http.app, dicm_jax.serving.http.server, dicm_jax.serve
ours = sorted(name for name in sys.modules if name.startswith("dicm_jax."))
training = ("checkpoint", "config", "data", "exporting", "metrics", "nn", "training")
print(*[name for name in ours if name.split(".")[1] in training], sep=",")
others = ("flax", "grain", "optax", "orbax", "pyarrow", "tensorboard", "tensorflow_datasets")
print(*[name for name in others if name in sys.modules], sep=",")
"""


def test_serving_imports_no_training_code(servable):
    line = [sys.executable, "-c", _RANK, str(servable)]
    out, _ = made.ended(made.start(line))
    answers, ours, others = out.splitlines()[-3:]
    assert "[(" in answers
    assert ours == "", "of the project"
    assert others == "", "of other packages"
