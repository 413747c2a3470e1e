#!/usr/bin/env bash
# From nothing to a verified SavedModel that answers an image file. Needs Python 3.11 to 3.13, and pip's network.
# Words are options of `zoo train`, such as --config.epochs 5.
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

examples = arrays.load(f"{sys.argv[1]}/interface/examples.npz")  # of the test split, never trained on
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

\`source $bin/activate\` brings the command \`zoo\` into this shell.
END
