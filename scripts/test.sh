#!/usr/bin/env bash
# Everything that must hold before a change lands: ruff, mypy, the direction of imports, the test suite. `--slow` adds the
# proofs that take minutes; other words go to pytest.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
source "$root/scripts/environment.sh" "test"
cd "$root"
selection=(-m "not slow")
if [ "${1:-}" = "--slow" ]; then
    selection=()
    shift
fi
"$bin/python" -m ruff check .
"$bin/python" -m ruff format --check .
# mypy and lint-imports read folders, not setup.cfg's package_dir: they get the installed layout as links.
rm -rf build/types
mkdir -p build/types/zoo
ln -s "$root"/zoo/* "$root/datasets" "$root/export" "$root/scripts" build/types/zoo/
"$bin/python" -m mypy
# From there, as it looks into the current folder first.
env --chdir build/types "$(realpath "$bin/lint-imports")" --no-logo "$root/setup.cfg"
# -P: from the repository's root, `import datasets` would find this project's folder instead of Hugging Face's package.
# Two processes, a file at a time: fixtures are shared within a file. In the order of conftest.py, the longest first.
exec "$bin/python" -P -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder "${selection[@]}" "$@"
