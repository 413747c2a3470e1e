# Sourced by the other scripts: a virtual environment with this package, made once and brought up to date after a change.
# Takes the extras to install as $1, such as "test"; sets $python.

if ! command -v "${PYTHON:=python3}" >/dev/null; then
    echo "python3 was not found. Install Python 3.11 or newer, or pass PYTHON=/path/to/python." >&2
    exit 2
fi
if ! "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "$("$PYTHON" --version) is too old. Install Python 3.11 or newer, or pass PYTHON=/path/to/python3.11." >&2
    exit 2
fi
environment=${VENV:-$root/.venv}
python=$environment/bin/python
# What is installed depends on these files alone: the package itself is installed as a link to the checkout.
wanted="$(cat "$root/setup.cfg" "$root/pyproject.toml" | cksum) $1"
if [ "$(cat "$environment/installed" 2>/dev/null)" != "$wanted" ]; then
    echo "Installing into $environment (TensorFlow is about 600 MB) ..."
    "$PYTHON" -m venv "$environment"
    "$python" -m pip install --quiet --disable-pip-version-check --editable "$root[$1]"
    echo "$wanted" >"$environment/installed"
fi
