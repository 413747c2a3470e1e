#!/usr/bin/env bash
# Creates an environment, trains a model, verifies its SavedModel and classifies an image file. Needs Python 3.11 to 3.13
# and network access for pip. Arguments are options of `zoo train`, such as --config.epochs 5.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
source "$root/scripts/environment.sh" ""
cd "$root"
run=runs/quickstart

"$bin/zoo" train --config cnn_digits --run_directory "$run" --quiet "$@"

image=$run/test-image.png
"$bin/python" - "$run" "$image" <<'PYTHON'
import sys

from zoo.export.standalone import arrays

examples = arrays.load(f"{sys.argv[1]}/interface/examples.npz")  # from the test split
with open(sys.argv[2], "wb") as file:
    file.write(examples["requests/image_bytes"][0])
print("The image shows a", examples["targets/label"][0])
PYTHON
"$bin/zoo" predict "$run" "$image"

cat <<END

SavedModel  $run/saved_model/1
Proof       $run/saved_model/1/assets.extra/verification.json
Report      $run/evaluation.json
Plots       $run/plots/
Model card  $run/README.md

Run \`source $bin/activate\` to use the command \`zoo\` in this shell.
END
