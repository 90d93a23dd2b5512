# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
# shellcheck shell=bash
#
# build/cythons/VERSION: the Cythons of cythons.txt, each by itself for PYTHONPATH.

cythons_key() { printf '%s %s' "$("$VENV/bin/python" --version)" "$(sha256sum < \
  "$PARTS/cythons.txt")"; }

make_cythons() {
  local dir=$SCRATCH/cythons version
  mkdir "$dir"
  sed -n 's/^cython==\([^ ]*\) .*/\1/p' "$PARTS/cythons.txt" | while read -r version; do
    # From its name to the first line that is not continued.
    sed -n "/^cython==$version /,/[^\\\\]\$/p" "$PARTS/cythons.txt" > "$SCRATCH/cython.txt"
    "$VENV/bin/python" -m pip install --disable-pip-version-check --no-input --no-deps \
      --only-binary :all: --require-hashes --target "$dir/$version" -r "$SCRATCH/cython.txt"
  done
  cythons_key > "$dir/.stamp"
  rm -rf "$CYTHONS"
  mv -T "$dir" "$CYTHONS"
}

has_cythons() {
  [[ $COMMAND != test || -n $DEVICE ]] ||
    [[ -e $CYTHONS/.stamp && $(< "$CYTHONS/.stamp") == "$(cythons_key)" ]]
}

cythons() {
  has_cythons || run_stage cythons "other Cythons" make_cythons
}
