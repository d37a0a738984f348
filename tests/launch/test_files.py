"""The files of launch/ before their tools' own checkers, and run against stand-ins of the tools."""

import os
import re
import shutil
import stat
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.multiprocess import faulty
from tests.multiprocess.processes import ROOT, free_port

SLURM, TPU_VM = ROOT / "launch/slurm/train.sbatch", ROOT / "launch/tpu_vm/train.sh"
GKE = {name: ROOT / f"launch/gke/{name}.yaml" for name in ("tpu", "gpu")}
KUBERNETES = "1.34"

# ---- Shell


@pytest.mark.parametrize("script", [SLURM, TPU_VM], ids=lambda path: path.name)
def test_shell_scripts_pass_shellcheck(script):
    shellcheck = Path(sysconfig.get_path("scripts")) / "shellcheck"
    subprocess.run(["bash", "-n", script], check=True)
    ended = subprocess.run(
        [shellcheck, "--severity=style", script], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout


def _stand_in(folder: Path, name: str, script: str) -> None:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/usr/bin/env bash\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


# ---- Slurm

DIRECTIVES = {
    "job-name": r"[\w.-]+",
    "nodes": r"\d+",
    "ntasks-per-node": r"\d+",
    "gpus-per-node": r"(\w+:)?\d+",
    "cpus-per-task": r"\d+",
    "time": r"(\d+-)?\d{1,2}:\d{2}:\d{2}",
    "signal": r"([RB]{1,2}:)?[A-Z0-9]+(@\d{1,5})?",
    "requeue": None,
    "open-mode": r"append|truncate",
    "output": r"[\w%.-]+",
}
"""Options of sbatch, as its manual has them, and the form of their values."""


def _directives() -> dict[str, str | None]:
    lines = SLURM.read_text().splitlines()
    asked = [line.removeprefix("#SBATCH --") for line in lines if line.startswith("#SBATCH")]
    pairs = [line.partition("=")[::2] for line in asked]
    return {name: value or None for name, value in pairs}


def test_directives_are_options_of_sbatch():
    directives = _directives()
    assert len(directives) >= 9
    for name, value in directives.items():
        form = DIRECTIVES[name]
        assert value is None if form is None else re.fullmatch(form, value or ""), name


def test_directives_stand_before_the_first_command():
    """sbatch reads no further."""
    lines = SLURM.read_text().splitlines()
    command = next(n for n, line in enumerate(lines) if line and not line.startswith("#"))
    assert not [line for line in lines[command:] if line.startswith("#SBATCH")]


def test_the_time_to_save_is_given_to_the_processes_and_not_to_the_shell():
    name, _, seconds = (_directives()["signal"] or "").partition("@")
    assert name == "TERM"
    assert int(seconds) >= 120


@pytest.mark.parametrize(
    ("code", "restarts", "requeued"),
    [(0, 0, False), (75, 0, True), (75, 9, True), (1, 0, True), (1, 3, False), (137, 1, True)],
)
def test_the_job_is_put_back_where_it_should_go_on(code, restarts, requeued, tmp_path):
    _stand_in(tmp_path / "bin", "srun", f'echo "$@" > "{tmp_path}/asked"; exit {code}')
    _stand_in(tmp_path / "bin", "scontrol", f'echo "$@" > "{tmp_path}/requeued"')
    variables = {"SLURM_JOB_ID": "4711", "SLURM_RESTART_COUNT": str(restarts)}
    path = {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
    ended = subprocess.run(
        ["bash", SLURM, "--config=configs/dicm.py", "--workdir=/shared/a b"],
        env=os.environ | variables | path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == code, ended.stderr
    asked = (tmp_path / "asked").read_text()
    assert asked.endswith("-m dicm_jax.train --config=configs/dicm.py --workdir=/shared/a b\n")
    assert (tmp_path / "requeued").exists() == requeued
    if requeued:
        assert (tmp_path / "requeued").read_text() == "requeue 4711\n"


def test_processes_find_each_other_by_slurms_variables():
    """Two real processes, with what Slurm would tell them."""
    # JAX makes the port from the job's number.
    port = next(p for p in (free_port() for _ in range(1000)) if p < 2**16 - 2**12)
    job = (port * 7919) % 2**12
    shared = {
        "JAX_PLATFORMS": "cpu",
        "JAX_NUM_CPU_DEVICES": "1",
        "JAX_COORDINATOR_ADDRESS": "auto",
        "SLURM_JOB_ID": str(job),
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_STEP_NUM_NODES": "1",
        "SLURM_NTASKS": "2",
    }
    running = [
        subprocess.Popen(
            [sys.executable, "-m", faulty.__name__, "nothing", "0"],
            cwd=ROOT,
            env=os.environ | shared | {"SLURM_PROCID": str(n), "SLURM_LOCALID": str(n)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for n in range(2)
    ]
    for process in running:
        _, err = process.communicate(timeout=120)
        assert process.returncode == 0, err[-2000:]


def test_where_jax_knows_no_cluster_the_user_is_told():
    ended = subprocess.run(
        [sys.executable, "-m", faulty.__name__, "nothing", "0"],
        cwd=ROOT,
        env={n: v for n, v in os.environ.items() if not n.startswith(("SLURM", "OMPI", "KUBER"))}
        | {"JAX_PLATFORMS": "cpu", "JAX_COORDINATOR_ADDRESS": "auto"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 1
    assert "error: JAX_COORDINATOR_ADDRESS=auto, but JAX finds no cluster that it knows" in (
        ended.stderr
    )
    assert "set JAX_NUM_PROCESSES and JAX_PROCESS_ID" in ended.stderr


# ---- Kubernetes

JOB_SET = {
    "failurePolicy": {
        "maxRestarts": int,
        "rules": [
            {
                "name": str,
                "action": {"FailJobSet", "RestartJobSet", "RestartJobSetAndIgnoreMaxRestarts"},
                "onJobFailureReasons": [
                    {
                        "BackoffLimitExceeded",
                        "DeadlineExceeded",
                        "FailedIndexes",
                        "MaxFailedIndexesExceeded",
                        "PodFailurePolicy",
                    }
                ],
            }
        ],
    },
    "replicatedJobs": [{"name": str, "replicas": int, "template": dict}],
}
"""Of the fields of a JobSet's spec (v1alpha2), those that the files use, with what they may be."""


def _check(value: Any, form: Any, where: str) -> None:
    if isinstance(form, set):
        assert value in form, where
    elif isinstance(form, list):
        assert isinstance(value, list), where
        for n, element in enumerate(value):
            _check(element, form[0], f"{where}[{n}]")
    elif isinstance(form, dict):
        assert value.keys() <= form.keys(), where
        for name, element in value.items():
            _check(element, form[name], f"{where}.{name}")
    else:
        assert isinstance(value, form), where


@pytest.fixture(name="job_set", params=["tpu", "gpu"])
def _job_set(request) -> dict[str, Any]:
    return yaml.safe_load(GKE[request.param].read_text())


def _only_job(job_set: dict[str, Any]) -> dict[str, Any]:
    (job,) = job_set["spec"]["replicatedJobs"]
    return job


def _container(job_set: dict[str, Any]) -> dict[str, Any]:
    (container,) = _only_job(job_set)["template"]["spec"]["template"]["spec"]["containers"]
    return container


def test_the_job_set_has_the_fields_of_its_kind(job_set):
    assert job_set["apiVersion"] == "jobset.x-k8s.io/v1alpha2"
    assert job_set["kind"] == "JobSet"
    _check(job_set["spec"], JOB_SET, "spec")


def test_its_job_passes_the_schema_of_kubernetes(job_set):
    template = _only_job(job_set)["template"]
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": job_set["metadata"], **template}
    kubernetes_validate.validate(job, KUBERNETES, strict=True)
    job["spec"]["backofLimit"] = 0  # the checker does check
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(job, KUBERNETES, strict=True)


def test_a_lost_host_ends_the_job_and_a_preempted_one_is_not_counted(job_set):
    spec = _only_job(job_set)["template"]["spec"]
    assert spec["backoffLimit"] == 0
    assert spec["template"]["spec"]["restartPolicy"] == "Never"
    assert [75] in [
        r.get("onExitCodes", {}).get("values") for r in spec["podFailurePolicy"]["rules"]
    ]
    assert {r["action"] for r in spec["podFailurePolicy"]["rules"]} == {"FailJob"}
    (rule,) = job_set["spec"]["failurePolicy"]["rules"]
    assert rule["onJobFailureReasons"] == ["PodFailurePolicy"]
    assert spec["template"]["spec"]["terminationGracePeriodSeconds"] >= 60


def test_every_pod_has_its_number(job_set):
    spec = _only_job(job_set)["template"]["spec"]
    assert spec["completionMode"] == "Indexed"
    assert spec["completions"] == spec["parallelism"] > 1


def test_pods_on_gpus_are_told_where_process_0_is():
    job_set = yaml.safe_load(GKE["gpu"].read_text())
    job = _only_job(job_set)
    variables = {v["name"]: v for v in _container(job_set)["env"]}
    name = job_set["metadata"]["name"]
    host, _, port = variables["JAX_COORDINATOR_ADDRESS"]["value"].partition(":")
    assert host == f"{name}-{job['name']}-0-0.{name}"
    assert int(port) in [p["containerPort"] for p in _container(job_set)["ports"]]
    count = job["replicas"] * job["template"]["spec"]["parallelism"]
    assert variables["JAX_NUM_PROCESSES"]["value"] == str(count)
    field = variables["JAX_PROCESS_ID"]["valueFrom"]["fieldRef"]["fieldPath"]
    assert field == "metadata.annotations['batch.kubernetes.io/job-completion-index']"


def test_chips_of_the_hosts_are_those_of_the_slice():
    job_set = yaml.safe_load(GKE["tpu"].read_text())
    spec = _only_job(job_set)["template"]["spec"]
    topology = spec["template"]["spec"]["nodeSelector"]["cloud.google.com/gke-tpu-topology"]
    chips = 1
    for side in topology.split("x"):
        chips *= int(side)
    assert (
        _container(job_set)["resources"]["limits"]["google.com/tpu"] * spec["parallelism"] == chips
    )


def test_its_command_is_that_of_everywhere(job_set):
    from dicm_jax.command_line import parse_command_line
    from dicm_jax.config_file import load_config

    container = _container(job_set)
    assert container["command"] == ["python", "-u", "-m", "dicm_jax.train"]
    line = parse_command_line(container["args"])
    config = load_config(str(ROOT / line.path), line.overrides)
    assert config.checkpoint.every > 0
    (mount,) = [m for m in container["volumeMounts"] if line.workdir.startswith(m["mountPath"])]
    volumes = _only_job(job_set)["template"]["spec"]["template"]["spec"]["volumes"]
    assert mount["name"] in [v["name"] for v in volumes if "persistentVolumeClaim" in v]


# ---- Cloud TPU VMs


def _gcloud(tmp_path: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess:
    """The script against a `gcloud` that writes down what it is asked, an argument a line."""
    _stand_in(tmp_path / "bin", "gcloud", f'printf "%s\\n" "$@" >> "{tmp_path}/asked"')
    path = {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
    return subprocess.run(
        [TPU_VM, *arguments],
        cwd=ROOT,
        env=os.environ | path | variables,
        capture_output=True,
        text=True,
        check=False,
    )


SLICE = {"TPU_NAME": "my-slice", "ZONE": "us-central1-a"}


def test_all_hosts_of_a_slice_get_the_command(tmp_path):
    ended = _gcloud(tmp_path, "run", "--config=configs/dicm.py", "--workdir=/a b/c", **SLICE)
    assert ended.returncode == 0, ended.stderr
    asked = (tmp_path / "asked").read_text()
    assert asked.startswith("compute\ntpus\ntpu-vm\nssh\nmy-slice\n--zone=us-central1-a\n")
    assert "--worker=all\n" in asked
    command = asked.partition("--command=")[2]
    # What a host's shell makes of it: quoting has survived.
    (tmp_path / "dicm_jax/.venv/bin").mkdir(parents=True)
    _stand_in(tmp_path / "dicm_jax/.venv/bin", "python", 'echo "$JAX_COORDINATOR_ADDRESS|$5|$6"')
    shown = subprocess.run(
        ["bash", "-c", command],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout == "auto|--workdir=/a b/c|\n"


def test_setup_copies_and_installs_and_stop_sends_sigterm(tmp_path):
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("setup copies what git has; this is no checkout")
    assert _gcloud(tmp_path, "setup", **SLICE).returncode == 0
    asked = (tmp_path / "asked").read_text()
    assert "\nscp\n" in asked
    assert "my-slice:dicm_jax.tar.gz" in asked
    assert ".[tpu]" in asked
    (tmp_path / "asked").unlink()
    assert _gcloud(tmp_path, "stop", **SLICE).returncode == 0
    assert "--signal TERM" in (tmp_path / "asked").read_text()


@pytest.mark.parametrize(
    ("arguments", "variables", "message"),
    [
        ([], SLICE, "Train on all hosts"),
        (["walk"], SLICE, "Train on all hosts"),
        (["run"], {"ZONE": "z"}, "name the slice"),
        (["run"], {"TPU_NAME": "t"}, "name its zone"),
    ],
)
def test_wrong_usage_asks_for_what_is_missing(arguments, variables, message, tmp_path):
    ended = _gcloud(tmp_path, *arguments, **variables)
    assert ended.returncode != 0
    assert message in ended.stderr
    assert not (tmp_path / "asked").exists()
