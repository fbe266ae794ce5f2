#!/usr/bin/env bash
# bench/gpu.sh: correctness and speed on a machine with a Hopper GPU, which needs Python 3 and NVIDIA's driver, no compiler,
# no CUDA toolkit and no package registry. PyTorch and Triton are peers where they are there.
#
#   bench/gpu.sh pack [-o FOLDER]         here, after a build: everything that the other machine needs, at most 64 MiB
#   FOLDER/gpu.sh run [--out RESULTS]     there: the stages, correctness first; call again to go on; --help for more
#   bench/gpu.sh --dry-run                here, without a GPU: all that the emulator can run, at small sizes
#
# Parts are in bench/gpu: pack.py makes the folder, run.py runs the stages of stages.py, table.py prints.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
PYTHON=${PYTHON:-python3}
export PYTHONDONTWRITEBYTECODE=1

usage() { sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"; }

case ${1:-} in
  pack)
    shift
    exec "$PYTHON" "$HERE/gpu/pack.py" "$@" ;;
  run)
    shift
    pack=$HERE
    [ -f "$pack/pack.json" ] || pack=$HERE/../build/gpu-pack
    exec "$PYTHON" "$HERE/gpu/run.py" --pack "$pack" --out "${OUT:-gpu-results}" "$@" ;;
  --dry-run)
    shift
    folder=$HERE/../build/gpu-dry-run
    rm -rf "$folder"
    mkdir -p "$folder"
    "$PYTHON" "$HERE/gpu/pack.py" --small -o "$folder/pack" "$@"
    exec "$folder/pack/gpu.sh" run --emulator --out "$folder/out" ;;
  -h | --help) usage ;;
  *)
    usage >&2
    exit 1 ;;
esac
