#!/bin/bash
# All that a few minutes on a GPU should tell: bash bench/gpu_check.sh [DIRECTORY], about 170 s on an H200.
#
# First, side by side, the tests and two layers of each kind of weights, which compiles the kernels and compares them with
# the plain modules; then the whole model. Each part goes on where another fails, and writes its figures as it has them.
out=${1:-${OUT:-bench/results/gpu_check}}
mkdir -p "$out"
export PYTHONPATH=. PYTHONUNBUFFERED=1 OMP_NUM_THREADS=3 PYTORCH_CUDA_ALLOC_CONF=expandable_segments:False
step() { timeout -k 3 "$1" python3 bench/gpu_step.py --in-flight --tune 5 "${@:2}"; }

check() { timeout -k 3 65 python3 -m pytest -p no:cacheprovider "${@:2}" >"$out/$1.log" 2>&1; }
whole="passes or reading or uniforms"
check passes tests/gpu -k "$whole" &
check products tests/gpu -k "not ($whole)" &
check modules tests/model/test_gpu.py &
for dtype in bf16 fp8 int4; do
  step 65 --dtype $dtype --layers 2 --prefix 64 --rounds 2 >"$out/small-$dtype.log" 2>&1 &
done
wait
for log in passes products modules small-bf16 small-fp8 small-int4; do
  echo "== $log, at $SECONDS s"
  grep -v ' ms in ' "$out/$log.log" | tail -n 30 | cut -c1-300
done
step 105 --dtype fp8 int4 bf16 --rounds 10 --out "$out/gpu_step.json" 2>&1 | tee "$out/gpu_step.log" | grep -v ' ms in '  # kernels are in the log
echo "== done at $SECONDS s"
