#!/usr/bin/env bash
# What can only be checked where a GPU is: every family of models trained on it, in every precision, with XLA, cuDNN and two
# devices, against the numbers of the processor; its SavedModel run without the GPU. `--device cpu` rehearses it anywhere.
# INSTALL=no VENV=FOLDER uses an environment that is there.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
source "$root/scripts/environment.sh" "gpu"
exec "$bin/python" -P -m zoo.scripts.gpu_check "$@"
