# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
# shellcheck shell=bash
#
# Packages of Debian 13 (trixie) for use under build/ on any Debian: an apt whose lists, cache and
# idea of what is installed are ours, so that neither root is needed nor anything of the system is
# touched. Its archive is the one that this machine is configured for; what it serves has to be
# signed by Debian.

DEBIAN_KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg

trixie_apt() {
  local command=$1
  shift
  "$command" -c "$TRIXIE/apt.conf" "$@"
}

# The archive first in the machine's sources that has trixie.
open_trixie() {
  local main security found=
  rm -rf "$TRIXIE"
  mkdir -p "$TRIXIE/lists/partial" "$TRIXIE/archives/partial"
  : > "$TRIXIE/status"
  # The system's hooks are about the system's cache: they are not for us, and a user could not run
  # them.
  cat > "$TRIXIE/apt.conf" << EOF
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Pre-Invoke;
#clear DPkg::Post-Invoke;
#clear DPkg::Pre-Install-Pkgs;
Dir::Etc::sourcelist "$TRIXIE/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Dir::State "$TRIXIE";
Dir::State::lists "$TRIXIE/lists";
Dir::State::status "$TRIXIE/status";
Dir::State::extended_states "$TRIXIE/extended_states";
Dir::Cache "$TRIXIE";
Dir::Cache::archives "$TRIXIE/archives";
Dir::Log "$TRIXIE";
APT::Architecture "amd64";
APT::Architectures { "amd64"; };
APT::Default-Release "";
APT::Sandbox::User "";
APT::Install-Recommends "false";
APT::Update::Error-Mode "any";
Acquire::Languages "none";
Acquire::Retries "3";
EOF
  while read -r main security; do
    {
      # Lower than trixie's by their versions: they are taken only where they are named.
      for suite in trixie trixie-updates trixie-backports \
        $([[ $KERNEL_KIND != oldstable ]] || echo bookworm); do
        echo "deb [signed-by=$DEBIAN_KEYRING] $main $suite main"
      done
      [[ $RDMA_CORE != sid ]] || echo "deb-src [signed-by=$DEBIAN_KEYRING] $main sid main"
      [[ $security == - ]] || echo "deb [signed-by=$DEBIAN_KEYRING] $security trixie-security main"
    } > "$TRIXIE/sources.list"
    if trixie_apt apt-get update; then
      found=1
      break
    fi
  done < <("$VENV/bin/python" "$PARTS/debian_mirrors.py")
  [[ -n $found ]] && return 0
  grep -q NO_PUBKEY "$BUILD/log/setup-$1.log" &&
    stage_fails "$DEBIAN_KEYRING is too old to know trixie's keys; as root: apt-get update &&" \
      "apt-get install debian-archive-keyring"
  # Without a line of ours the log is searched for a network failure.
  [[ -s $TRIXIE/sources.list ]] ||
    stage_fails "no Debian archive in /etc/apt/sources.list or /etc/apt/sources.list.d: QEMU and" \
      "the kernel come from one"
  exit 1
}

# unpack_closure STAGE RELEASE DIRECTORY PACKAGE... -- [tar arguments]: packages and all that they
# need. Without a release ('') the newest of trixie and its security archive wins.
unpack_closure() {
  local stage=$1 release=$2 directory=$3 packages=() deb
  shift 3
  while [[ $1 != -- ]]; do
    packages+=("$1")
    shift
  done
  shift
  rm -f "$TRIXIE"/archives/*.deb
  trixie_apt apt-get install -y --download-only ${release:+-t "$release"} "${packages[@]}" ||
    archive_lacks "$stage" "${packages[@]}"
  for deb in "$TRIXIE"/archives/*.deb; do
    echo "unpacking $(basename "$deb")"
    unpack_deb "$deb" "$directory" --exclude=./etc --exclude=./var "$@"
  done
  rm -f "$TRIXIE"/archives/*.deb
}

# What a program runs by that has the C library that it was built for.
NO_DATA=(--exclude=./usr/share --exclude='./usr/lib/x86_64-linux-gnu/gconv'
  --exclude='./usr/lib/x86_64-linux-gnu/perl-base')

# unpack DEB DIRECTORY [tar arguments]
unpack_deb() {
  local deb=$1 directory=$2
  shift 2
  dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$directory" --no-same-owner "$@"
}
