"""Config files and overrides: what they set, and what each mistake is told."""

import dataclasses
import json
import re
from pathlib import Path

import pytest

from dicm_jax.config import Config
from dicm_jax.config_file import from_json_dict, load_config, settings, to_json_dict
from dicm_jax.errors import ConfigError

ROOT = Path(__file__).parents[1]
CONFIG_FILES = sorted((ROOT / "configs").glob("*.py"))


@pytest.fixture
def write(tmp_path):
    """Writes a config file whose get_config() has this body; returns its path."""

    def write(*lines: str) -> str:
        body = "\n".join(f"    {line}" for line in lines)
        path = tmp_path / "experiment.py"
        path.write_text(
            "import ml_collections\n\n"
            "def get_config():\n"
            "    config = ml_collections.ConfigDict()\n"
            f"{body}\n"
            "    return config\n"
        )
        return str(path)

    return write


@pytest.fixture
def defaults(write) -> str:
    """A config file that sets nothing."""
    return write("")


def message_of(path: str, *overrides: str) -> str:
    """The message that refuses a configuration."""
    with pytest.raises(ConfigError) as caught:
        load_config(path, overrides)
    return str(caught.value)


# --- What is set -------------------------------------------------------------------------------


def test_an_empty_file_gives_the_defaults(defaults):
    assert load_config(defaults) == Config()


def test_overrides_win_over_the_file_and_the_file_over_defaults(write):
    path = write("config.train = {'batch_size': 512, 'epochs': 7}")
    config = load_config(path, ["train.batch_size=256"])
    assert (config.train.batch_size, config.train.epochs) == (256, 7)
    assert config.train.log_every == Config().train.log_every


def test_the_last_of_two_overrides_wins(defaults):
    assert load_config(defaults, ["train.seed=1", "train.seed=2"]).train.seed == 2


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("train.batch_size=512", 512),
        ("train.batch_size=1_000", 1000),
        ("optimizer.learning_rate=1e-3", 0.001),
        ("optimizer.learning_rate=2", 2.0),
        ("optimizer.id_learning_rate=None", None),
        ("optimizer.id_learning_rate=.5", 0.5),
        ("train.baseline=true", True),
        ("train.baseline=False", False),
        ("train.baseline=1", True),
        ("model.images=ad", "ad"),
        ("model.head_widths=(1,8)", (1, 8)),
        ("model.head_widths=1,8", (1, 8)),
        ("model.head_widths=[1, 8]", (1, 8)),
        ("model.head_widths=8", (8,)),
        ("model.head_widths=()", ()),
        ("model.query_fields=category", ("category",)),
        ("model.query_fields=category,brand", ("category", "brand")),
        ("model.query_fields=('category', 'brand')", ("category", "brand")),
        ("model.query_fields='category'", ("category",)),
        ("data.world.items=500", 500),
    ],
)
def test_spelling_on_the_command_line(defaults, override, value):
    found = load_config(defaults, [override])
    for name in override.partition("=")[0].split("."):
        found = getattr(found, name)
    assert found == value
    assert type(found) is type(value)


def test_text_may_hold_any_sign(defaults):
    config = load_config(defaults, ["data.kind=hm", "data.path=a=b, (c)"])
    assert config.data.path == "a=b, (c)"


def test_the_file_gives_ints_for_floats_and_lists_for_tuples(write):
    path = write("config.optimizer = {'learning_rate': 1}", "config.model = {'head_widths': [9]}")
    config = load_config(path)
    assert repr(config.optimizer.learning_rate) == "1.0"
    assert config.model.head_widths == (9,)


def test_a_config_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().train.steps = 3  # pyright: ignore[reportAttributeAccessIssue]


def test_json_there_and_back(defaults):
    config = load_config(
        defaults, ["model.head_widths=5,6", "train.steps=9", "data.world.users=99"]
    )
    text = json.dumps(to_json_dict(config))
    assert from_json_dict(json.loads(text), source="config.json") == config


def test_json_is_checked_like_a_file():
    with pytest.raises(
        ConfigError, match=re.escape("run/config.json: there is no key train.stepz")
    ):
        from_json_dict({"train": {"stepz": 1}}, source="run/config.json")


# --- The files of the project ------------------------------------------------------------------


@pytest.mark.parametrize("path", CONFIG_FILES, ids=lambda path: path.stem)
def test_each_config_loads_and_its_docstring_is_a_claim(path):
    text = path.read_text()
    overrides = ["data.path=folder"] if "config.data.kind = " in text else []
    load_config(str(path), overrides)
    docstring = text.split('"""')[1]
    assert f"python -m dicm_jax.train --config=configs/{path.name}" in docstring
    for word in ("Claim", "data", "time", "GAUC"):
        assert word in docstring


@pytest.mark.parametrize("path", CONFIG_FILES, ids=lambda path: path.stem)
def test_each_line_of_a_config_says_its_unit_or_constraint(path):
    lines = re.findall(r"^ *config\.\w+\.\w.* = .*$", path.read_text(), flags=re.MULTILINE)
    assert lines
    assert [line for line in lines if "  # " not in line] == []


def test_each_setting_says_its_unit_or_constraint():
    own = {path: s for path, s in settings().items() if not path.startswith("data.world.")}
    assert [path for path, s in own.items() if not s.metadata.get("unit")] == []


def test_the_defaults_keep_their_own_rules():
    """Every default passes the checks that a value from a file has to pass."""
    assert from_json_dict(to_json_dict(Config()), source="defaults") == Config()


# --- Files that cannot be used -----------------------------------------------------------------


def test_a_missing_file():
    message = message_of("configs/dicn.py")
    assert message.startswith("--config=configs/dicn.py: there is no such file; name a Python file")


def test_a_folder_is_no_file(tmp_path):
    assert "there is no such file" in message_of(str(tmp_path))


def test_a_file_without_get_config(tmp_path):
    path = tmp_path / "empty.py"
    path.write_text("x = 1\n")
    assert message_of(str(path)).startswith(f"{path} has no function get_config(); define it")


def test_a_syntax_error(tmp_path):
    path = tmp_path / "broken.py"
    path.write_text("x = 1\ndef get_config(:\n")
    assert message_of(str(path)).startswith(f"{path}, line 2: SyntaxError: ")


def test_an_error_inside_get_config_names_its_line(write):
    path = write("config.train = {'steps': steps}")
    assert message_of(path) == (
        f"{path}, line 5: NameError: name 'steps' is not defined; mend the file"
    )


def test_get_config_returns_something_else(tmp_path):
    path = tmp_path / "list.py"
    path.write_text("def get_config():\n    return [1]\n")
    assert message_of(str(path)) == (
        f"{path}: get_config() returned [1] (list); return an ml_collections.ConfigDict"
    )


# --- Keys that do not exist --------------------------------------------------------------------


def test_an_unknown_key_gets_the_near_names(defaults):
    message = message_of(defaults, "train.bach_size=3")
    assert message.startswith(
        "--config.train.bach_size=3: there is no key train.bach_size; "
        "did you mean train.batch_size or "
    )
    assert "Keys of train: batch_size, lanes, groups_per_lane, whole_groups, epochs" in message


def test_an_unknown_key_of_the_file(write):
    path = write("config.optimiser = {'b1': 0.5}")
    message = message_of(path)
    assert message.startswith(f"{path}: there is no key optimiser; did you mean optimizer")
    assert "Keys of a config: data, features, model, optimizer, exchange, mesh, train" in message


def test_a_key_in_the_wrong_section(defaults):
    assert "did you mean train.batch_size or evaluate.batch_size?" in message_of(
        defaults, "batch_size=3"
    )
    assert "did you mean model.share_compressor" in message_of(defaults, "train.share_compressor=1")


def test_a_key_unlike_any_other(defaults):
    message = message_of(defaults, "mesh.qqq=3")
    keys = "placement, worker, server, servers_on, virtual_devices, join_s, heartbeat_s"
    assert f"there is no key mesh.qqq. Keys of mesh: {keys}" in message


def test_a_key_below_a_value(defaults):
    assert message_of(defaults, "train.steps.x=3").endswith(
        "there is no key train.steps.x: train.steps is a value and has no keys"
    )


def test_a_section_set_as_a_value(write, defaults):
    assert message_of(defaults, "mesh=3") == (
        "--config.mesh=3: mesh is a section, and '3' is no section; set its keys one by one: "
        "placement, worker, server, servers_on, virtual_devices, join_s, heartbeat_s"
    )
    path = write("config.data = {'world': 'small'}")
    assert f"{path}: data.world is a section, and 'small' is no section" in message_of(path)


def test_an_override_without_a_value(defaults):
    assert message_of(defaults, "train.steps") == (
        "--config.train.steps: no value given; write --config.train.steps=VALUE"
    )


# --- Values that cannot be ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.epochs=many", "must be int (passes over the train split); found 'many' (str)"),
        ("train.epochs=2.5", "must be int (passes over the train split); found '2.5' (str)"),
        ("train.steps=x", "must be int or None (steps to stop after"),
        ("train.baseline=maybe", "must be bool (also train"),
        ("optimizer.b1=nan", "must be finite float (decay of Adam's first moment, in [0, 1))"),
        ("optimizer.eps=inf", "found inf (float)"),
        ("model.images=add", "must be 'both' or 'ad' or 'behavior' or 'none' (images that"),
        (
            "model.head_widths=8,x",
            "must be tuple of int (dims of the hidden layers); found (8, 'x')",
        ),
        ("model.head_widths=8,2.5", "must be tuple of int"),
        ("train.batch_size=0", "must be at least 1 (impressions per global batch); found 0"),
        ("train.steps=-1", "must be at least 1 (steps to stop after"),
        ("optimizer.learning_rate=0", "must be above 0 (per step, before decay); found 0.0"),
        ("optimizer.b1=1", "must be below 1 (decay of Adam's first moment"),
        ("optimizer.decay_rate=1.5", "must be at most 1 (factor on the rates"),
        ("model.head_widths=8,0", "must be at least 1 (dims of the hidden layers); found (8, 0)"),
        ("model.compressor_widths=()", "must have at least 2 element(s) (dims of its layers"),
        ("model.compressor_widths=12,", "at least one hidden"),
        ("data.world.items=few", "must be int (items of the catalog"),
    ],
)
def test_a_wrong_value_on_the_command_line(defaults, override, message):
    path = override.partition("=")[0]
    found = message_of(defaults, override)
    assert found.startswith(f"--config.{override}: {path} must ")
    assert message in found


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("config.train = {'epochs': '3'}", "train.epochs must be int"),
        ("config.train = {'epochs': True}", "found True (bool)"),
        ("config.train = {'epochs': 3.0}", "found 3.0 (float)"),
        ("config.train = {'epochs': None}", "found None (NoneType)"),
        ("config.train = {'baseline': 1}", "train.baseline must be bool"),
        ("config.data = {'path': 3}", "data.path must be str or None"),
        ("config.model = {'head_widths': 8}", "model.head_widths must be tuple of int"),
        ("config.model = {'query_fields': 'brand'}", "must be tuple of str"),
        ("config.train = {'steps': {'x': 1}}", "train.steps must be int or None"),
        ("config.train = {'lanes': 0}", "train.lanes must be at least 1"),
    ],
)
def test_a_wrong_value_in_the_file(write, line, message):
    """A file says what it means: text is no number there, and no truth value either."""
    path = write(line)
    found = message_of(path)
    assert found.startswith(f"{path}: ")
    assert message in found


def test_an_impossible_world_is_placed(defaults):
    message = message_of(defaults, "data.world.items=5")
    assert message.startswith("--config.data.world.items=5: data.world.items must be at least 100")


# --- Settings that exclude each other ----------------------------------------------------------


def test_hm_needs_a_path(defaults):
    assert message_of(defaults, "data.kind=hm").startswith(
        "the config: data.kind='hm' with data.path=None: name the folder that holds the log"
    )


@pytest.mark.parametrize("asked", ["features.tier=host", "exchange.strategy=ps_worker"])
def test_rows_that_stay_on_the_host_need_files(defaults, asked):
    name, _, value = asked.partition("=")
    message = message_of(defaults, asked)
    assert f"{name}='{value}' with features.path=None: rows come from table files" in message
    assert "e.g. --config.features.path=runs/tables" in message
    load_config(defaults, [asked, "features.path=tables"])


@pytest.mark.parametrize("wire", ["exchange.wire=int8", "exchange.id_wire=bfloat16"])
def test_rounding_needs_lists_with_each_row_once(defaults, wire):
    name, _, value = wire.partition("=")
    message = message_of(defaults, wire, "exchange.dedup_worker=false")
    assert f"{name}='{value}' with exchange.dedup_worker=false: what rounding takes" in message
    assert "set exchange.dedup_worker=true, or float32" in message
    load_config(defaults, [wire, "exchange.dedup_server=false"])


def test_the_synthetic_world_takes_no_path(defaults):
    assert "the built-in world reads no files; set data.kind='hm'" in message_of(
        defaults, "data.path=folder"
    )


@pytest.mark.parametrize(
    ("overrides", "devices"),
    [(["mesh.worker=3"], 3), (["mesh.worker=2", "mesh.server=3"], 6), (["mesh.server=16"], 16)],
)
def test_lanes_that_the_mesh_cannot_share(defaults, overrides, devices):
    message = message_of(defaults, *overrides)
    assert f"8 lanes cannot be dealt out evenly to {devices} devices" in message
    assert f"set train.lanes to a multiple of {devices}" in message
    load_config(defaults, [*overrides, f"train.lanes={devices}"])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["model.aggregator=mean"],
            r"model.aggregator must be 'multi_query' or 'attentive' or 'sum' or 'max' or 'concat'"
            r".*found 'mean'",
        ),
        (
            ["model.basic_net=dnn"],
            r"model.basic_net must be 'embedding_mlp' or 'lr' or 'din'.*found 'dnn'",
        ),
        (
            ["model.stage=prerank", "model.aggregator=attentive"],
            r"model.aggregator='attentive' with model.stage='prerank': a behavior must not meet the"
            r" ad.*set model.aggregator='sum'",
        ),
        (
            ["model.stage=prerank"],
            r"model.aggregator='multi_query' with .*stage='prerank'.*set model.aggregator='sum'",
        ),
        (
            ["model.stage=prerank", "model.aggregator=sum", "model.basic_net=din"],
            r"model.basic_net='din' with model.stage='prerank'.*model.basic_net='embedding_mlp'",
        ),
        (
            ["model.stage=prerank", "model.aggregator=sum", "model.match=true"],
            r"model.match=True with model.stage='prerank'.*set model.match=False",
        ),
        (
            ["model.match=true", "model.aggregator=concat"],
            r"model.match=True with model.aggregator='concat'.*another aggregator",
        ),
        (
            ["model.query_fields=category,category"],
            r"query_fields=\('category', 'category'\): 'category' stands there 2 times.*leave one",
        ),
        (["model.match_fields=a,b,a"], r"model.match_fields=.*: 'a' stands there 2 times"),
        (
            ["train.patience=2"],
            r"train.patience=2 with evaluate.every=0.*set evaluate.every",
        ),
        (
            ["train.patience=2", "evaluate.every=10"],
            r"train.patience=2 with data.validation_share=0.0.*and data.validation_share",
        ),
    ],
)
def test_parts_of_the_family_that_do_not_go_together(defaults, overrides, message):
    with pytest.raises(ConfigError, match=message):
        load_config(defaults, overrides)
