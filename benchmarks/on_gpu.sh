#!/usr/bin/env bash
# Builds, tests and times everything on a machine with an NVIDIA GPU: offline, with torch, triton, numpy and pytest there.
# Logs and gpu.json go to $OUT, else below benchmarks/results. A step that fails does not stop the others.
set -u
cd "$(dirname "$0")/.."
name=$(python -c 'import torch; print(torch.cuda.get_device_name().replace(" ", "-") if torch.cuda.is_available() else "")')
[ -n "$name" ] || { echo "on_gpu.sh: torch sees no GPU here"; exit 1; }
out=${OUT:-$PWD/benchmarks/results/$name}
mkdir -p "$out"

# The package as setuptools would lay it out, of links.
site=$(mktemp -d)
trap 'rm -rf "$site"' EXIT
mkdir "$site/ro_fast"
ln -s "$PWD"/ro_fast/* "$PWD"/{benchmarks,configs,csrc,kernels} "$site/ro_fast/"
rm -f "$site"/ro_fast/*.so
export PYTHONPATH=$site PYTHONDONTWRITEBYTECODE=1
export CUDA_HOME=${CUDA_HOME:-/usr/local/cuda}

failed=0
step() { # NAME SECONDS COMMAND...
  local label=$1 limit=$2 start=$SECONDS
  shift 2
  if timeout "$limit" "$@" >"$out/$label.log" 2>&1; then
    echo "$label: done in $((SECONDS - start)) s; $(tail -n 1 "$out/$label.log")"
  else
    echo "$label: FAILED ($?) after $((SECONDS - start)) s; its last lines:"
    tail -n 12 "$out/$label.log"
    failed=1
  fi
}

step build 150 python -c 'from ro_fast.cli import main; main(["build"])'
step tests 150 python -m pytest -q -p no:cacheprovider tests/ops/test_gpu_ops.py tests/attacks/test_engines.py
command -v compute-sanitizer >/dev/null &&
  step sanitizer 60 compute-sanitizer --error-exitcode 1 python -m pytest -q -p no:cacheprovider tests/ops/test_gpu_ops.py -k "sanitized"
step timings 240 python -m ro_fast.benchmarks.gpu "$out"
grep -h "×" "$out/timings.log" 2>/dev/null
exit $failed
