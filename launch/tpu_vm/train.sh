#!/usr/bin/env bash
# Train on all hosts of a Cloud TPU slice, one process a host, from any machine with gcloud:
#
#     export TPU_NAME=my-slice ZONE=us-central1-a
#     launch/tpu_vm/train.sh setup       # once: copy this checkout to all hosts and install it there
#     launch/tpu_vm/train.sh run --config=configs/dicm.py --workdir=/shared/runs/dicm
#     launch/tpu_vm/train.sh stop        # SIGTERM to all hosts: save and end with 75
#
# --workdir must be a folder that all hosts share (Filestore, or a mounted bucket). Output comes back
# with every host's, so start `run` where the connection lasts, in tmux say. After 75, or a fault,
# the same `run` goes on from the last checkpoint.

set -euo pipefail

usage() {
    sed -n 's/^# \{0,1\}//p' "$0" >&2
    exit 2
}

on_all_hosts() {
    gcloud compute tpus tpu-vm ssh "$TPU_NAME" --zone="$ZONE" --worker=all --command="$1"
}

[[ $# -ge 1 ]] || usage
: "${TPU_NAME:?name the slice: export TPU_NAME=...}"
: "${ZONE:?name its zone: export ZONE=...}"
action=$1
shift

case $action in
setup)
    archive=$(mktemp --suffix=.tar.gz)
    trap 'rm -f "$archive"' EXIT
    git archive --format=tar.gz --output="$archive" HEAD
    gcloud compute tpus tpu-vm scp "$archive" "$TPU_NAME:dicm_jax.tar.gz" \
        --zone="$ZONE" --worker=all
    on_all_hosts "mkdir -p dicm_jax && tar -xzf dicm_jax.tar.gz -C dicm_jax &&
        cd dicm_jax && make env &&
        .venv/bin/python -m pip install --quiet -c constraints.txt -e '.[tpu]'"
    ;;
run)
    # JAX finds the hosts by the slice's own metadata.
    printf -v arguments ' %q' "$@"
    on_all_hosts "cd dicm_jax &&
        JAX_COORDINATOR_ADDRESS=auto .venv/bin/python -u -m dicm_jax.train$arguments"
    ;;
stop)
    on_all_hosts "pkill --signal TERM --full 'python -u -m dicm_jax[.]train'"
    ;;
*)
    usage
    ;;
esac
