#!/usr/bin/env bash
# All checks that a change must pass: ruff, mypy, the import rules and the test suite. `--slow` also runs the tests that
# take minutes. Other arguments are passed to pytest.
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
# mypy and lint-imports do not read package_dir in setup.cfg, so links reproduce the installed layout for them.
rm -rf build/types
mkdir -p build/types/zoo
ln -s "$root"/zoo/* "$root/datasets" "$root/export" "$root/scripts" build/types/zoo/
"$bin/python" -m mypy
# lint-imports looks into the current folder first.
env --chdir build/types "$(realpath "$bin/lint-imports")" --no-logo "$root/setup.cfg"
unset PYTHONDONTWRITEBYTECODE  # or each of a hundred processes would compile the sources again
# -P: in the repository's root, `import datasets` would find this project's folder instead of Hugging Face's package.
# Two processes: on two cores, a third takes more for its own imports than it gains. Each runs whole files, because tests
# share fixtures within a file. conftest.py sorts them, longest first.
exec "$bin/python" -P -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder "${selection[@]}" "$@"
