#!/usr/bin/env bash
# From nothing to a verified SavedModel that answers an image file. Needs Python 3.11 or newer, and pip's network.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
source "$root/scripts/environment.sh" ""
cd "$root"
run=${1:-runs/quickstart}
zoo=$root/.venv/bin/zoo
[ -x "$zoo" ] || zoo=$(dirname "$python")/zoo

"$zoo" train --config cnn_digits --run_directory "$run" --quiet
image=$run/test-image.png
# A test image that the model has not seen in training, as a file.
"$python" -c "import sys; from zoo.datasets.interface import Interface as I; \
    e = I.load(sys.argv[1]).examples; open(sys.argv[2], 'wb').write(e.requests['image_bytes'][0]); \
    print('The image shows a', e.targets[0])" "$run/interface" "$image"
"$zoo" predict "$run" "$image"
echo
echo "SavedModel  $run/saved_model/1"
echo "Proof       $run/saved_model/1/assets.extra/verification.json"
echo "Report      $run/evaluation.json, $run/plots/"
echo "Model card  $run/README.md"
