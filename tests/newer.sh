#!/bin/sh
# Run the quick tests, and the whole line under kill -9, again on the newest Python found here: on the PATH, or
# installed with pyenv.
# usage: sh tests/newer.sh UV
set -eu
uv=$1
for minor in 14 13 12; do
    for python in "python3.$minor" "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3."$minor".*/bin/python; do
        "$python" -c "import sys; sys.exit(sys.version_info[:2] != (3, $minor))" 2>/dev/null || continue
        echo "== Python 3.$minor"
        UV_PROJECT_ENVIRONMENT=".cache/python3.$minor" "$uv" sync --quiet --frozen --python "$python" \
            --all-extras --all-groups
        ".cache/python3.$minor/bin/python" -m pytest -q -n 2 --dist loadfile -m "not slow" -p no:cacheprovider
        ".cache/python3.$minor/bin/python" -m pytest -q tests/test_loop_kills.py -p no:cacheprovider
        exit
    done
done
echo "no Python newer than 3.11 found here; the tests ran on one Python only"
