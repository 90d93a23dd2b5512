# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
# shellcheck shell=bash
#
# build/venv: nothing goes into the system's Python. A virtual environment holds its own path and
# cannot be renamed into place, so here a stamp, written last, tells a whole one from a beginning.

venv_key() { printf '%s %s' "$VENV" "$(sha256sum < "$PARTS/requirements.txt")"; }

make_venv() {
  rm -rf "$VENV"
  # The name python3 may be a chooser that depends on the directory; venv keeps the interpreter
  # behind it.
  "$PYTHON" -m venv "$VENV"
  "$VENV/bin/python" -m pip install --disable-pip-version-check --no-input --only-binary :all: \
    --require-hashes \
    -r "$PARTS/requirements.txt" || pip_failed
  venv_key > "$VENV/.stamp"
}

pip_failed() {
  local log=$BUILD/log/setup-venv.log
  grep -q 'THESE PACKAGES DO NOT MATCH THE HASHES' "$log" &&
    stage_fails "the package index serves other files than requirements.txt names: use another" \
      "index (PIP_INDEX_URL)"
  grep -q 'No matching distribution found' "$log" &&
    stage_fails "the package index has no" \
      "$(sed -n 's/.*No matching distribution found for \([^ ]*\).*/\1/p' "$log" |
         tail -n 1): use another index (PIP_INDEX_URL), or Python $MIN_PYTHON to 3.14"
  exit 1
}

has_venv() {
  [[ -x $VENV/bin/python && -e $VENV/.stamp && $(< "$VENV/.stamp") == "$(venv_key)" ]]
}

virtual_environment() {
  has_venv && return 0
  choose_python || give_up "no Python $MIN_PYTHON or later with venv and headers"
  run_stage venv "virtual environment" make_venv
}
