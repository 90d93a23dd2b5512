# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
# shellcheck shell=bash
#
# build/test-packages: what only tests need of the package index, each by itself for PYTHONPATH: the
# Cythons of cythons.txt as cython-VERSION, the checkers of files for others' CI as
# workflow-linters, what makes the reference as sphinx, and what completes in editors as editors.

test_packages_key() {
  printf '%s %s' "$("$VENV/bin/python" --version)" \
    "$(cat "$PARTS"/{cythons,editors,sphinx,workflow_linters}.txt | sha256sum)"
}

# install_alone DIRECTORY REQUIREMENTS
install_alone() {
  "$VENV/bin/python" -m pip install --disable-pip-version-check --no-input --no-deps \
    --only-binary :all: --require-hashes --target "$1" -r "$2"
}

make_test_packages() {
  local dir=$SCRATCH/test-packages version
  mkdir "$dir"
  sed -n 's/^cython==\([^ ]*\) .*/\1/p' "$PARTS/cythons.txt" | while read -r version; do
    # From its name to the first line that is not continued.
    sed -n "/^cython==$version /,/[^\\\\]\$/p" "$PARTS/cythons.txt" > "$SCRATCH/cython.txt"
    install_alone "$dir/cython-$version" "$SCRATCH/cython.txt"
  done
  install_alone "$dir/workflow-linters" "$PARTS/workflow_linters.txt"
  install_alone "$dir/sphinx" "$PARTS/sphinx.txt"
  install_alone "$dir/editors" "$PARTS/editors.txt"
  test_packages_key > "$dir/.stamp"
  rm -rf "$TEST_PACKAGES"
  mv -T "$dir" "$TEST_PACKAGES"
}

has_test_packages() {
  [[ $COMMAND != test || -n $DEVICE ]] ||
    [[ -e $TEST_PACKAGES/.stamp && $(< "$TEST_PACKAGES/.stamp") == "$(test_packages_key)" ]]
}

test_packages() {
  has_test_packages || run_stage test-packages "other Cythons, checkers" make_test_packages
}
