#!/usr/bin/env bash
# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
#
# From a bare Debian to scripts on an emulated ConnectX, or with --device on a real one. See usage
# below.

# shellcheck source-path=SCRIPTDIR
set -euo pipefail

TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
PARTS=$TOP/buildlib/quickstart
BUILD=$TOP/build
VENV=$BUILD/venv
QEMU=$BUILD/qemu
PYPY=$BUILD/pypy
PERFTEST=$BUILD/perftest
VALGRIND=$BUILD/valgrind
TEST_PACKAGES=$BUILD/test-packages
NEEDED_GIB=3
RDMA_CORE=59.0
KERNEL_KIND=stable
DEVICE=
PROFILE=
QUIET=
VM_ONLY=
UNDER=()

# shellcheck source=quickstart/stage.sh
. "$PARTS/stage.sh"
# shellcheck source=quickstart/system_packages.sh
. "$PARTS/system_packages.sh"
# shellcheck source=quickstart/virtual_environment.sh
. "$PARTS/virtual_environment.sh"
# shellcheck source=quickstart/rdma_core_source.sh
. "$PARTS/rdma_core_source.sh"
# shellcheck source=quickstart/rdma_core_build.sh
. "$PARTS/rdma_core_build.sh"
# shellcheck source=quickstart/debian_packages.sh
. "$PARTS/debian_packages.sh"
# shellcheck source=quickstart/qemu.sh
. "$PARTS/qemu.sh"
# shellcheck source=quickstart/pypy.sh
. "$PARTS/pypy.sh"
# shellcheck source=quickstart/kernel.sh
. "$PARTS/kernel.sh"
# shellcheck source=quickstart/perftest.sh
. "$PARTS/perftest.sh"
# shellcheck source=quickstart/valgrind.sh
. "$PARTS/valgrind.sh"
# shellcheck source=quickstart/foreign.sh
. "$PARTS/foreign.sh"
# shellcheck source=quickstart/sanitize.sh
. "$PARTS/sanitize.sh"
# shellcheck source=quickstart/test_packages.sh
. "$PARTS/test_packages.sh"
# shellcheck source=quickstart/beside.sh
. "$PARTS/beside.sh"
# shellcheck source=quickstart/package.sh
. "$PARTS/package.sh"

usage() {
  cat << EOF
usage: bash buildlib/quickstart.sh COMMAND [options] [arguments]

  demo                 set up what is missing, then both classes on the card, with a table of what
                       happened
  test [pytest args]   set up, then every test
  run -- CMD...        CMD on the card: our pyverbs importable, your files at their paths, CMD's
                       exit status
  shell                an interactive shell there
  suite [-k PATTERN]   rdma-core's own tests there, with a scoreboard
  bench                the benchmarks
  foreign [NAME...]    programs that are not ours there, all or those with NAME in their name
  sanitize [pytest args]
                       set up, then the demo under memcheck, and the tests of both
                       classes under ASan and UBSan
  setup [--vm]         only set up; with --vm the virtual machine alone, without rdma-core: for an
                       image in which a checkout is built later (suite --rdma-core DIR)

  beside [deb|remove] [--python PYTHON] [--source DIR]
                       both classes into the pyverbs that PYTHON (default python3) has
                       installed, or into a .deb beside it; without the card
  package [--source DIR|FILE.src.rpm]
                       the distribution's rdma-core as its own .deb or .rpm, with both classes
                       in that of pyverbs; without the card

  --rdma-core VERSION|SUITE|DIR
                       which rdma-core: $(rdma_core_versions), or a source tree
                       (default $RDMA_CORE)
  --kernel stable|backports|oldstable
                       Debian 13's kernel, the newest in its backports, or Debian 12's
                       (default stable)
  --profile P          which card is emulated: connectx5, connectx6dx, connectx7
  --device NAME        the real device NAME of this machine in place of the emulated card, no
                       virtual machine
  -q                   no progress; logs are in build/log either way

Options of \`python3 -m mlx5emu run\` (--link-layer, --functions, --cpus, --fault, --times ...)
may stand before the \`--\` of run, and after shell and suite.
Exit status: that of what was run; 2 when something is missing or wrong that this script cannot
mend.
EOF
}

wrong_usage() {
  usage >&2
  give_up "$*"
}

parse() {
  COMMAND=
  ARGUMENTS=()
  while (($#)); do
    case $1 in
      --rdma-core | --kernel | --profile | --device)
        (($# > 1)) || wrong_usage "$1 takes a value"
        case $1 in
          --rdma-core) RDMA_CORE=$2 ;;
          --kernel) KERNEL_KIND=$2 ;;
          --profile) PROFILE=$2 ;;
          --device) DEVICE=$2 ;;
        esac
        shift 2
        ;;
      --rdma-core=* | --kernel=* | --profile=* | --device=*)
        set -- "${1%%=*}" "${1#*=}" "${@:2}"
        ;;
      -q)
        QUIET=1
        # For pytest it means the same.
        [[ $COMMAND != test ]] || ARGUMENTS+=(-q)
        shift
        ;;
      --vm)
        VM_ONLY=1
        shift
        ;;
      -h | --help)
        usage
        exit 0
        ;;
      --)
        ARGUMENTS+=("$@")
        break
        ;;
      *)
        if [[ -z $COMMAND ]]; then
          COMMAND=$1
        elif [[ $COMMAND == run && $1 != -* && ! " $* " =~ " -- " ]]; then
          # `run python3 x.py`: from here on it is the command's.
          ARGUMENTS+=(-- "$@")
          break
        else
          ARGUMENTS+=("$1")
        fi
        shift
        ;;
    esac
  done
  case $COMMAND in
    beside) parse_beside "${ARGUMENTS[@]}" ;;
    package) parse_package "${ARGUMENTS[@]}" ;;
    demo | shell | bench | foreign | setup | sanitize | suite | test) ;;
    run) [[ " ${ARGUMENTS[*]-} " == *" -- "[!\ ]* ]] || wrong_usage "run: name a command, as in:" \
      "run -- python3 myscript.py" ;;
    '') wrong_usage "name a command" ;;
    *) wrong_usage "no such command: $COMMAND" ;;
  esac
  [[ $COMMAND != setup || ${#ARGUMENTS[@]} == 0 ]] || wrong_usage "setup: ${ARGUMENTS[*]}: it" \
    "takes no arguments"
  [[ $COMMAND != @(sanitize|foreign) || -z $DEVICE ]] || wrong_usage "$COMMAND is for the" \
    "emulated card"
  [[ -z $VM_ONLY || $COMMAND == setup && -z $DEVICE ]] || wrong_usage "--vm is of setup for the" \
    "emulated card"
  case $KERNEL_KIND in
    stable | backports | oldstable) ;;
    *) wrong_usage "--kernel is stable, backports or oldstable" ;;
  esac
}

# The device is there before minutes are spent on building for it.
check_device() {
  [[ -n $DEVICE ]] || return 0
  [[ -e /sys/class/infiniband/$DEVICE ]] ||
    give_up "--device $DEVICE: this machine has no such RDMA device; it has:" \
      "$(ls -x /sys/class/infiniband 2> /dev/null || true)." \
      "Leave --device out for the emulated card"
}

has_virtual_machine() {
  [[ -z $DEVICE ]] || return 0
  local directory kind wanted=("$QEMU" "$PYPY")
  KERNELS=("$KERNEL_KIND")
  # What only tests need is fetched for them alone.
  if [[ $COMMAND == test ]]; then
    KERNELS=(backports "$KERNEL_KIND")
    wanted+=("$PERFTEST" "$VALGRIND")
  elif [[ $COMMAND == sanitize ]]; then
    wanted+=("$VALGRIND")
  fi
  for kind in "${KERNELS[@]}"; do has_kernel "$kind" || return 1; done
  for directory in "${wanted[@]}"; do [[ -d $directory ]] || return 1; done
  has_foreign
}

virtual_machine() {
  local kind suite
  ! has_virtual_machine || return 0
  run_stage lists "package lists of Debian 13" each_archive open_lists
  [[ -d $QEMU ]] || run_stage qemu "QEMU with vfio-user" make_qemu
  [[ -d $PYPY ]] || run_stage pypy "PyPy for the card" make_pypy
  for kind in "${KERNELS[@]}"; do
    has_kernel "$kind" || run_stage kernel "Debian's kernel ($kind)" make_kernel "$kind"
  done
  [[ $COMMAND != @(test|sanitize) || -d $VALGRIND ]] || run_stage valgrind "valgrind" make_valgrind
  [[ $COMMAND != test || -d $PERFTEST ]] || run_stage perftest "Debian's perftest" make_perftest
  has_foreign || for suite in $(foreign_suites); do
    run_stage "foreign-$suite" "programs that use RDMA ($suite)" make_foreign "$suite"
  done
  rm -rf "$LISTS"
}

# describe_kernel KIND: MACHINE is the file that tells the bench where everything is.
describe_kernel() {
  MACHINE=$BUILD/machine.json
  # Another choice gets a file of its own, so that two runs with different ones do not meet.
  [[ $RDMA_CORE_BUILD == "$BUILD/rdma-core-59.0-build" && $1 == stable ]] ||
    MACHINE=$BUILD/machine-$(basename "$RDMA_CORE_BUILD" -build)-$1.json
  "$VENV/bin/python" "$PARTS/machine_json.py" "$MACHINE" --qemu "$QEMU" \
    --card-python "$PYPY/bin/pypy3" --kernel "$BUILD/kernel-$1" --python "$VENV/bin/python" \
    --source "$RDMA_CORE_SOURCE" --build "$RDMA_CORE_BUILD" --version "$RDMA_CORE_VERSION"
}

describe_machine() {
  [[ -z $DEVICE ]] || return 0
  local kind
  # The one that was asked for is the last of them.
  for kind in "${KERNELS[@]}"; do describe_kernel "$kind"; done
}

# Whether another process that is setting up need not be waited for.
is_set_up() {
  [[ $COMMAND != sanitize ]] || return 1
  missing_packages
  ((${#MISSING[@]} == 0)) && has_venv && has_test_packages && has_virtual_machine || return 1
  [[ -n $VM_ONLY ]] || { choose_rdma_core && [[ -d $RDMA_CORE_SOURCE ]] && is_built; }
}

set_up() {
  if is_set_up; then
    if [[ -z $VM_ONLY ]]; then
      rdma_core_source
      describe_machine
    fi
    return
  fi
  take_lock
  [[ -e $BUILD/machine.json ]] || need_space
  system_packages
  virtual_environment
  test_packages
  if [[ -z $VM_ONLY ]]; then
    choose_rdma_core
    rdma_core_source
    rdma_core_build
  fi
  virtual_machine
  [[ -n $VM_ONLY ]] || describe_machine
  [[ $COMMAND != sanitize ]] || sanitized_build
  release_lock
}

# What `mlx5emu run` gives the guest, for this side.
enter_environment() {
  export PYTHONPATH=$RDMA_CORE_BUILD/python:$TOP/tests${PYTHONPATH:+:$PYTHONPATH}
  export LD_LIBRARY_PATH=$RDMA_CORE_BUILD/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
  export PATH=$VENV/bin:$RDMA_CORE_BUILD/bin:$PATH
  export PYTHONUNBUFFERED=1
}

# benchmarks [COMMAND...]: the benchmarks, by a command that runs another one where the device is;
# then what they measured as a table and a picture.
benchmarks() {
  "$@" "$VENV/bin/python" -m pytest -c "$TOP/pyproject.toml" --rootdir "$TOP" -s \
    -p no:cacheprovider --benchmark-json "$BUILD/bench.json" \
    --benchmark-columns min,median,iqr,rounds --benchmark-sort name "$TOP/tests/benchmarks" \
    "${ARGUMENTS[@]}" || exit
  exec "$VENV/bin/python" "$TOP/tests/benchmarks/chart.py" "$BUILD/bench.json" "$BUILD/bench.svg"
}

on_device() {
  enter_environment
  export MLX5_DEVICE=$DEVICE
  case $COMMAND in
    demo) exec "$VENV/bin/python" "$TOP/pyverbs/examples/demo.py" "${ARGUMENTS[@]}" ;;
    test) cd "$TOP" && exec "$VENV/bin/python" -m pytest "${ARGUMENTS[@]}" ;;
    run)
      [[ ${ARGUMENTS[0]} == -- ]] || give_up "run ${ARGUMENTS[0]}: an option of the emulated" \
        "card, --device has none"
      exec "${ARGUMENTS[@]:1}"
      ;;
    shell) exec "${SHELL:-/bin/bash}" -i ;;
    suite) exec "$RDMA_CORE_BUILD/bin/run_tests.py" --dev "$DEVICE" -v "${ARGUMENTS[@]}" ;;
    bench) benchmarks ;;
  esac
}

on_card() {
  local emu=("$PYPY/bin/pypy3" -m mlx5emu) profile=() card_args=() paths=0 tests=tests argument
  export MLX5EMU_MACHINE=$MACHINE PYTHONPATH=$TOP/tests${PYTHONPATH:+:$PYTHONPATH} \
    PYTHONUNBUFFERED=1
  if [[ -n $PROFILE ]]; then
    profile=(--profile "$PROFILE")
    card_args=("${profile[@]}")
  fi
  case $COMMAND in
    demo)
      exec "${emu[@]}" run "${profile[@]}" --times -- "$VENV/bin/python" \
        "$TOP/pyverbs/examples/demo.py" "${ARGUMENTS[@]}"
      ;;
    test | sanitize)
      # Paths given are from where the user stands; without one it is all of them.
      for argument in "${ARGUMENTS[@]}"; do
        [[ $argument == -* || ! -e ${argument%%::*} ]] || paths=1
      done
      if [[ $COMMAND == sanitize ]]; then
        tests=tests/classes
        ((paths)) || memcheck "${emu[@]}" run "${profile[@]}" --memory 2048 --
        # What ASan keeps for itself does not fit in the usual guest.
        card_args+=(--memory 3072)
        sanitizers
      fi
      ((paths)) || ARGUMENTS+=("$TOP/$tests")
      # The tests that run in the guest are collected here.
      enter_environment
      exec "${UNDER[@]}" "$VENV/bin/python" -m pytest -c "$TOP/pyproject.toml" --rootdir "$TOP" \
        --on-card "--card-args=${card_args[*]}" "${ARGUMENTS[@]}"
      ;;
    run) exec "${emu[@]}" run "${profile[@]}" "${ARGUMENTS[@]}" ;;
    shell) exec "${emu[@]}" shell "${profile[@]}" "${ARGUMENTS[@]}" ;;
    suite) exec "${emu[@]}" suite "${profile[@]}" "${ARGUMENTS[@]}" ;;
    bench)
      benchmarks "${emu[@]}" run "${profile[@]}" --write "$BUILD" --
      ;;
    foreign) exec "$VENV/bin/python" -m foreign "${profile[@]}" "${ARGUMENTS[@]}" ;;
  esac
}

parse "$@"
case $COMMAND in
  beside | package)
    "$COMMAND"
    exit
    ;;
esac
check_device
set_up
[[ $COMMAND != setup ]] || exit 0
if [[ -n $DEVICE ]]; then on_device; else on_card; fi
