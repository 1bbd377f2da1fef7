#!/usr/bin/env bash
# The main job from nothing, step by step, with the commands of docs/get-started.md. `make demo` calls it: demo.sh FOLDER
set -euo pipefail
cd "$(dirname "$0")"

demo=${1:-demo}
started=$SECONDS
shards=$demo/shards
run="--name demo --storage-path $demo/runs"
still="--name demo-still --storage-path $demo/runs"
own_data="--data.init_args.root $shards --trainer.logger.init_args.save_dir $demo"

# A cluster of its own, which ends with it, whatever happens.
export JOBS_STATE_DIR=$PWD/$demo/cluster WANDB_MODE=offline
trap 'python -m jobs down' EXIT

step() {
  printf '\n[%d s] %s\n' $((SECONDS - started)) "$1"
  shift
  printf '$ %s\n' "$*"
  "$@"
}

rm -rf "$demo"
mkdir -p "$demo"
step "1. Videos whose class is their motion" \
  python -m pipeline synthesize --root "$demo/videos" --train 100 --val 5 --test 10 --width 96 --height 72
step "2. Videos to shards" \
  python -m pipeline pack --annotations "$demo"/videos/{train,val,test}.csv --videos "$demo/videos" --out "$shards" \
  --short-side 72
step "3. Train C3D on a Ray cluster: 2 workers, DDP" \
  python -m jobs submit --spec jobs/configs/cpu_2_workers.yaml $run --wait -- \
  fit --config pipeline/configs/demo.yaml $own_data
step "3b. What the cluster says" python -m jobs list
step "4. Evaluate it on the test split" \
  python -m pipeline evaluate --checkpoint "$demo/runs/demo/last.ckpt" --data "$shards" --split test --num-clips 3 \
  --out "$demo/results/c3d"
step "5a. Export features of train" \
  python -m pipeline features --checkpoint "$demo/runs/demo/last.ckpt" --data "$shards" --split train --num-clips 1 \
  --out "$demo/results/train.parquet"
step "5b. Export features of test" \
  python -m pipeline features --checkpoint "$demo/runs/demo/last.ckpt" --data "$shards" --split test --num-clips 3 \
  --out "$demo/results/test.parquet"
step "5c. A linear SVM on them" \
  python -m pipeline linear --train "$demo/results/train.parquet" --test "$demo/results/test.parquet" \
  --out "$demo/results/linear"
step "6a. The control: the same network on one repeated frame" \
  python -m jobs submit --spec jobs/configs/cpu_2_workers.yaml $still --wait -- \
  fit --config pipeline/configs/demo.yaml $own_data --data.init_args.still true
step "6b. Evaluate the control" \
  python -m pipeline evaluate --checkpoint "$demo/runs/demo-still/last.ckpt" --data "$shards" --split test \
  --num-clips 3 --out "$demo/results/still"
wandb_run=$(ls -d "$demo"/wandb/offline-run-* | head -n 1)
step "6c. Side by side" \
  python -m pipeline summarize \
  --reports "C3D=$demo/results/c3d/report.json" "linear SVM on its fc6=$demo/results/linear/report.json" \
  "C3D on one repeated frame=$demo/results/still/report.json" \
  --paths "report=$demo/results/c3d/report.json" "checkpoint=$demo/runs/demo/last.ckpt" "shards=$shards" \
  "wandb run=$wandb_run"
printf '\nDone in %d s.\n' $((SECONDS - started))
