#!/usr/bin/env bash
# Checks that need a GPU: trains every model family in every precision, with XLA, with cuDNN and on two devices, compares
# the results with the CPU, and runs the SavedModel without the GPU. `--device cpu` tests this script without a GPU.
# INSTALL=no VENV=FOLDER uses an existing environment.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
source "$root/scripts/environment.sh" "gpu"
exec "$bin/python" -P -m zoo.scripts.gpu_check "$@"
