# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
# shellcheck shell=bash
#
# A stage is one step of the set-up: a function that runs as a process group of its own, its output
# in a log, the lock of build/ held around all of them. What a stage makes it makes in $SCRATCH and
# renames into place as its last act, so a stage that was cut off, by whatever, has made nothing.

STAGE_PID=
STAGE_TITLE=
STAGE_FINISH=

say() { printf '%s\n' "quickstart: $*" >&2; }

# All that the set-up cannot do anything about ends here.
give_up() { say "$*"; exit 2; }

# Inside a stage: one line that says what to do, in place of a guess from the log.
stage_fails() {
  printf '%s\n' "$*" > "$SCRATCH/reason"
  exit 2
}

# What holds the lock is the open file, so it is released whatever becomes of us; the number in it
# is for the message.
take_lock() {
  mkdir -p "$BUILD/log" 2> /dev/null && [[ -w $BUILD && -w $BUILD/log ]] ||
    give_up "cannot write to $BUILD: run this as the user who owns $TOP, or in a clone of your own"
  exec 9>> "$BUILD/.lock" || give_up "cannot open $BUILD/.lock: remove it if it is not yours"
  if ! flock -n 9; then
    say "process $(tail -n 1 "$BUILD/.lock") is setting up in $BUILD: waiting for it" \
      "(Ctrl-C gives up)"
    flock 9
  fi
  echo $$ > "$BUILD/.lock"
  # We have the lock, so whoever made these is gone.
  rm -rf "$BUILD"/scratch.*
  SCRATCH=$(mktemp -d "$BUILD/scratch.XXXXXX") || give_up "cannot write to $BUILD: is the disk" \
    "full? (df -h $BUILD)"
  trap 'leave $?' EXIT
  trap 'interrupted INT 130' INT
  trap 'interrupted TERM 143' TERM
  trap 'interrupted HUP 129' HUP
}

release_lock() {
  trap - EXIT INT TERM HUP
  rm -rf "$SCRATCH"
  exec 9>&-
}

leave() {
  trap - EXIT
  rm -rf "$SCRATCH"
  exit "$1"
}

interrupted() {
  local signal=$1 status=$2
  trap '' INT TERM HUP
  clear_progress
  if [[ -n $STAGE_PID ]]; then
    if [[ -n $STAGE_FINISH ]]; then
      say "letting dpkg finish: stopped half-way it would leave the system's packages to be" \
        "repaired"
    else
      kill -TERM -- "-$STAGE_PID" 2> /dev/null
    fi
    while kill -0 -- "-$STAGE_PID" 2> /dev/null; do sleep 0.1; done
  fi
  say "$signal in '${STAGE_TITLE:-set-up}': nothing half-made is kept, the same command goes on" \
    "from here"
  exit "$status"
}

now_ms() { local t=${EPOCHREALTIME//[!0-9]/}; NOW=$((t / 1000)); }

seconds() { printf '%d.%d' $(($1 / 1000)) $(($1 % 1000 / 100)); }

clear_progress() { [[ -z $QUIET && -t 2 ]] && printf '\r\033[K' >&2; return 0; }

show_progress() {
  local line
  [[ -z $QUIET && -t 2 ]] || return 0
  line=$(tail -c 300 "$1" | tr '\r' '\n' | tail -n 1 | tr -cd '[:print:]')
  line="$STAGE_TITLE $(seconds "$2") s  $line"
  printf '\r\033[K%s' "${line:0:$((${COLUMNS:-80} - 1))}" >&2
}

# run_stage [--finish] NAME TITLE COMMAND...: --finish is for what must not be cut off.
run_stage() {
  STAGE_FINISH=
  if [[ $1 == --finish ]]; then STAGE_FINISH=1; shift; fi
  local log=$BUILD/log/setup-$1.log status=0 start said=
  STAGE_TITLE=$2
  shift 2
  rm -f "$SCRATCH/reason"
  now_ms; start=$NOW
  # Job control gives the stage a process group: Ctrl-C reaches only us, and we end the group as a
  # whole.
  set -m
  ( trap - EXIT INT TERM HUP; set -euo pipefail; "$@" ) > "$log" 2>&1 9>&- < /dev/null &
  STAGE_PID=$!
  set +m
  while kill -0 "$STAGE_PID" 2> /dev/null; do
    now_ms
    # What takes less than a second is not worth a line.
    if ((NOW - start > 1000)); then
      [[ -n $QUIET || -n $said || -t 2 ]] || say "$STAGE_TITLE ..."
      said=1
      show_progress "$log" $((NOW - start))
    fi
    sleep 0.1
  done
  wait "$STAGE_PID" || status=$?
  STAGE_PID=
  clear_progress
  now_ms
  [[ $status == 0 ]] || explain "$log" "$status"
  [[ -n $QUIET || -z $said ]] || say "$STAGE_TITLE: $(seconds $((NOW - start))) s"
}

# The reason that the stage gave, else what its log is known to mean, else the end of the log.
explain() {
  local log=$1 status=$2 reason=
  [[ -s $SCRATCH/reason ]] && reason=$(< "$SCRATCH/reason")
  if grep -qE 'No space left on device|ENOSPC|Disk quota exceeded' "$log"; then
    reason="the disk is full: $(free_gib) GiB left in $BUILD,"
    reason+=" $NEEDED_GIB GiB are needed for everything"
  elif grep -qiE 'certificate.?verif(y|ication).?failed' "$log"; then
    # pip goes on from here to "No matching distribution", which would be believed.
    reason="the certificate of a package archive was not accepted: a proxy that opens TLS signs by"
    reason+=" an authority of its own, or this machine's date is wrong. Give pip that authority by"
    reason+=" PIP_CERT=FILE, or add it to /etc/ssl/certs for all"
  elif [[ -z $reason ]] && grep -qiE \
    -e 'temporary failure (in name resolution|resolving)|could not resolve|network is unreachable' \
    -e 'connection (refused|timed out)|failed to establish a new connection|could not connect' \
    -e 'unable to connect|max retries exceeded|no route to host|name or service not known' \
    "$log"; then
    reason="no network: the package archive could not be reached;"
    reason+=" check the network and proxy settings and run it again"
  fi
  if [[ -z $reason ]]; then
    say "the end of $log:"
    tail -n 12 "$log" | sed 's/^/  | /' >&2
    reason="exit status $status"
  fi
  give_up "'$STAGE_TITLE' failed: $reason (log: $log)"
}

free_gib() { df -Pk "$BUILD" | awk 'NR == 2 { printf "%.1f", $4 / 1048576 }'; }

# Before the first stage that fills the disk: a full one in the middle costs minutes.
need_space() {
  local kib
  kib=$(df -Pk "$BUILD" | awk 'NR == 2 { print $4 }')
  ((kib >= NEEDED_GIB * 1048576)) ||
    give_up "$(free_gib) GiB free in $BUILD, $NEEDED_GIB GiB are needed: make room, or clone" \
      "onto another disk"
}
