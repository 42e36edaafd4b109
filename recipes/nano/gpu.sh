#!/bin/bash
# nano's everyday stages and its tower on one GPU, within a number of seconds:
#   recipes/nano/gpu.sh OUT SECONDS [DATA]
# DATA (runs) holds what a machine without a network lacks: cache/ (seed puzzles), corpora/ (WordNet's package) and
# digits.npz (`python -m recipes.nano digits`). The tower learns first, beside the compiler, which leaves the GPU idle.
# OUT gets everyday/, own/ and tower/, each a model that `refit` and `run --model` take, and a log of each.
set -u
out=$1 seconds=$2 data=${3:-runs}
workers=${WORKERS:-13} batch=${BATCH:-512} compile=${COMPILE---compile} device=${DEVICE:-cuda}
nano=diffusiongemma/assets/nano
export PYTHONPATH=$PWD PYTHONUNBUFFERED=1 TOKENIZERS_PARALLELISM=false
mkdir -p "$out"
began=$(date +%s)

left() { echo $((seconds - $(date +%s) + began)); }

# stage NAME SECONDS ARGUMENTS...: once more without --compile where that breaks
stage() {
  local name=$1 budget=$2
  shift 2
  local plain=(python3 -m recipes.nano train "$out/$name" "$@" --device "$device" --workers "$workers" --batch "$batch"
    --capture --cache "$data/cache" --corpora "$data/corpora" --written "$data/written")
  "${plain[@]}" $compile --budget "$budget" >"$out/$name.log" 2>&1 && return
  tail -3 "$out/$name.log"
  rm -rf "${out:?}/$name"
  compile=
  "${plain[@]}" --budget "$budget" >"$out/$name.log" 2>&1
}

if [ -e "$data/digits.npz" ]; then
  python3 -m recipes.nano tower "$out/tower" --init $nano --digits "$data/digits.npz" --device "$device" --batch 64 --sizes 2 \
    --easy 0.1 --ema 0.998 --learning-rate 2e-2 --budget $((seconds / 4)) >"$out/tower.log" 2>&1 &
fi
stage everyday $((seconds / 2)) --recipe everyday --grow --init $nano --noise-bias 2 --learning-rate 1.5e-2 --seed 21
stage own $(($(left) - 20)) --recipe own-everyday --init "$out/everyday" --rollouts 3 --pool 8 --noise-bias 4 \
  --learning-rate 8e-3 --seed 22
wait
tail -n 2 "$out"/*.log
