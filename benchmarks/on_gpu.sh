#!/usr/bin/env bash
# Builds, tests and measures everything on a machine with an NVIDIA GPU: offline, with torch, triton, numpy and pytest there.
# Logs and gpu.jsonl go to $OUT, else below benchmarks/results. A step that fails does not stop the others.
# With --dry all steps but the build are gone through on a CPU, so that a mistake in them costs no time of a GPU.
set -u
root=$(cd "$(dirname "$0")/.." && pwd)
dry=
[ "${1:-}" = --dry ] && dry=--dry
name=$(python -c 'import torch; print(torch.cuda.get_device_name().replace(" ", "-").lower() if torch.cuda.is_available() else "")')
[ -n "$name$dry" ] || { echo "on_gpu.sh: torch sees no GPU here; --dry goes through the steps on a CPU"; exit 1; }
out=${OUT:-$root/benchmarks/results/${name:-dry}}
mkdir -p "$out" && out=$(cd "$out" && pwd)

# The package as setuptools would lay it out, of links; run from there, since the checkout's own ro_fast lacks what lies beside it.
site=$(mktemp -d)
trap 'rm -rf "$site"' EXIT
mkdir "$site/ro_fast"
ln -s "$root"/ro_fast/* "$root"/{benchmarks,configs,csrc,kernels} "$site/ro_fast/"
[ -n "$dry" ] || rm -f "$site"/ro_fast/*.so
cd "$site" || exit 1
export PYTHONPATH=$site PYTHONSAFEPATH=1 PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
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
tests() { # FILE...: in as many processes as there are cores, where pytest-xdist is; Triton's kernels compile in each
  local files=("${@/#/$root/tests/}") many=(${dry:+--collect-only})
  python -c 'import xdist' 2>/dev/null && [ -z "$dry" ] && many=(-n "$(nproc)")
  python -m pytest -q -rf --tb=short -p no:cacheprovider --rootdir "$root" "${many[@]}" "${files[@]}"
}
export -f tests
export root dry

[ -n "$dry" ] || step build 150 python -c 'from ro_fast._build import build_in_place; print(build_in_place())'
step tests 150 bash -c 'tests ops/test_gpu_ops.py attacks/test_engines.py ops/test_pgd_mlp.py'
# Without torch's cache of memory each tensor is an allocation of its own, so that a step beyond its end is seen.
command -v compute-sanitizer >/dev/null && for tool in memcheck racecheck initcheck; do
  step "$tool" 60 env PYTORCH_NO_CUDA_MEMORY_CACHING=1 compute-sanitizer --tool "$tool" --error-exitcode 1 \
    python -m pytest -q -p no:cacheprovider --rootdir "$root" "$root/tests/ops/test_gpu_ops.py" -k sanitized
done
step measurements 480 python -m ro_fast.benchmarks.gpu $dry --out "$out"
grep -E '^(G[0-9]+|S1)|^error:' "$out/measurements.log"
exit $failed
