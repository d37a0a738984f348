"""A search on the built-in world: learning rates, the sizes of attention and the normaliser.

Trials are judged by GAUC on the newest tenth of the train groups, which they do not train on.

    command    python -m dicm_jax.search --config=configs/search/dicm.py --workdir=runs/search \
                   --trials=20
    shorter    --config.train.epochs=1
"""

from typing import Any


def suggest(trial: Any) -> dict[str, Any]:
    """Settings of one trial (`optuna.trial.Trial`), by dotted name."""
    return {
        "optimizer.learning_rate": trial.suggest_float("learning_rate", 3e-4, 1e-2, log=True),
        "optimizer.compressor_learning_rate": trial.suggest_float(
            "compressor_learning_rate", 1e-4, 1e-2, log=True
        ),
        # Optuna's categories are numbers and texts; a text is read as on a command line.
        "model.attention_widths": trial.suggest_categorical("attention_widths", ["64,16", "32,8"]),
        "model.normalizer": trial.suggest_categorical("normalizer", ["none", "softmax"]),
    }


def get_config() -> dict[str, Any]:
    """Where trials start from, what is varied, and what it is judged by."""
    return {
        "base": "configs/dicm.py",  # a run's config file, from the folder of the command
        "settings": {
            "data.validation_share": 0.1,  # of the train groups, the newest
            "evaluate.split": "validation",
            "train.baseline": False,
        },
        "suggest": suggest,
        "objective": "gauc",
        "seed": 0,  # of the suggestions
    }
