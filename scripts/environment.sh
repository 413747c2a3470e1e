# Sourced by the other scripts. Creates a virtual environment with this package, and updates it when its requirements
# change. $1 names the extras to install, such as "test". Sets $bin, the folder of the environment's commands.
# VENV sets the environment's folder; INSTALL=no uses an existing environment without changes.

: "${PYTHON:=python3}"
if ! command -v "$PYTHON" >/dev/null; then
    echo "$PYTHON was not found. Install Python 3.11, 3.12 or 3.13, or pass PYTHON=/path/to/python." >&2
    exit 2
fi
fit=$("$PYTHON" -c 'import sys; v = sys.version_info; print("old" if v < (3, 11) else "new" if v >= (3, 14) else "")')
if [ -n "$fit" ]; then
    echo "$("$PYTHON" --version) is too $fit: TensorFlow 2.21 runs on Python 3.11 to 3.13. Install one of them, or pass" \
        "PYTHON=/path/to/python3.11." >&2
    exit 2
fi
environment=${VENV:-$root/.venv}
bin=$environment/bin
# Only these files decide what is installed, because the package itself is a link to the checkout.
stamp="$environment/installed-${1:-base}"
wanted=$( (echo "$root" && cat "$root/setup.cfg" "$root/pyproject.toml") | cksum)
if [ "${INSTALL:-yes}" = yes ] && [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
    echo "Installing into $environment (about 3 GB with TensorFlow) ..."
    "$PYTHON" -m venv "$environment"
    "$bin/python" -m pip install --quiet --disable-pip-version-check --editable "$root${1:+[$1]}"
    echo "$wanted" >"$stamp"
fi
