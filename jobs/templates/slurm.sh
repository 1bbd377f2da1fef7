#!/usr/bin/env bash
# NOT RUN HERE: a template for Slurm. Tests parse it (bash -n) and its command lines; nobody has given it to a cluster.
#
#   sbatch jobs/templates/slurm.sh                          # from the folder of your project, on a shared file system
#
# Starts a Ray cluster on the nodes of the allocation, one process a node, checks it, trains, and ends it. Slurm sends
# SIGTERM five minutes before the time is up (--signal), which ends the job in order; the script then asks for another
# allocation (scontrol requeue), and the same --name continues from the newest checkpoint.
#SBATCH --job-name=i3d-kinetics400
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=96
#SBATCH --exclusive
#SBATCH --time=24:00:00
#SBATCH --signal=B:TERM@300
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=slurm-%j.log
set -euo pipefail

venv=${VENV:-$PWD/.venv} # with this package installed, seen by all nodes
storage=${STORAGE:-$PWD/runs}
source "$venv/bin/activate"

# The token of this allocation: in a file that only its owner can read, where all nodes see it.
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$PWD/.ray-token-$SLURM_JOB_ID
(umask 077 && python -c 'import secrets; print(secrets.token_hex(32))' > "$RAY_AUTH_TOKEN_PATH")

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
head=${nodes[0]}
address=$(srun --nodes=1 --ntasks=1 --nodelist="$head" hostname --ip-address)
address=${address%% *}
port=$((20000 + SLURM_JOB_ID % 20000)) # jobs that share a machine do not meet
server=$((port + 1))
export RAY_TMPDIR=/tmp/ray-$SLURM_JOB_ID
# Where nodes have several interfaces, name the fast one; train workers inherit both. NCCL finds InfiniBand by itself.
# export NCCL_SOCKET_IFNAME=ib0 GLOO_SOCKET_IFNAME=ib0

started=()
finish() {
  trap - EXIT
  kill "${started[@]}" 2> /dev/null || true
  wait || true
  rm -f "$RAY_AUTH_TOKEN_PATH"
}
trap finish EXIT

srun --nodes=1 --ntasks=1 --nodelist="$head" \
  ray start --head --block --node-ip-address="$address" --port="$port" --dashboard-host="$address" \
  --dashboard-port="$server" --num-cpus="$SLURM_CPUS_PER_TASK" --disable-usage-stats &
started+=($!)

at=http://$address:$server # given to our commands alone: Ray's own processes would take RAY_ADDRESS for theirs
for _ in $(seq 120); do
  if python -m jobs list --address "$at" > /dev/null 2>&1; then break; fi
  sleep 1
done

if [ "$SLURM_JOB_NUM_NODES" -gt 1 ]; then
  srun --nodes=$((SLURM_JOB_NUM_NODES - 1)) --ntasks=$((SLURM_JOB_NUM_NODES - 1)) --exclude="$head" \
    ray start --block --address="$address:$port" --num-cpus="$SLURM_CPUS_PER_TASK" --disable-usage-stats &
  started+=($!)
fi

# submit waits until the cluster has room for all workers, so for all nodes (the spec's start_timeout_s).
python -m jobs submit --address "$at" --spec jobs/configs/gpu_4x8.yaml --name "$SLURM_JOB_NAME" \
  --storage-path "$storage" --check --wait -- fit --config pipeline/configs/i3d_kinetics400.yaml &
submitted=$!

preempted() {
  python -m jobs stop "$SLURM_JOB_NAME" --address "$at" || true
  scontrol requeue "$SLURM_JOB_ID"
  exit 0
}
trap preempted TERM
wait "$submitted"
