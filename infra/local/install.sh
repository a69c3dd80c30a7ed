#!/usr/bin/env bash
# Makes the virtual environment, fetches the broker and promtool: all that needs a registry happens here.
#   install.sh PYTHON VENV
set -euo pipefail
python=$1 venv=$2
started=$SECONDS

version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])') || {
    echo "ratchet: no Python found as '$python'; install Python 3.11 or say which: make PYTHON=/path/to/python3.11" >&2
    exit 2
}
tested="3.11"
case " $tested " in
    *" $version "*) ;;
    *)
        echo "ratchet: Python $version is not among the versions that the tests have run on ($tested); say which to use: make PYTHON=python3.11" >&2
        exit 2
        ;;
esac

echo "installing into $venv (Python $version) …"
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check -c constraints.txt uv
"$venv/bin/uv" pip install --quiet --system-certs --compile-bytecode --python "$venv/bin/python" -c constraints.txt -e '.[local,learn,dev]' -e api/client
"$venv/bin/python" -P -m infra.local.broker fetch
bash infra/local/promtool.sh "$venv/bin"
echo "$((SECONDS - started))" > "$venv/.installed"
echo "installed in $((SECONDS - started)) s"
