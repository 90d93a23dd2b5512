#!/bin/bash
# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
#
# What a job of somebody's CI does, by the variables RDMA_CORE, PROFILE, KERNEL, COMMAND and RESULTS
# that the files for GitHub and Azure fill in.
set -euo pipefail

quickstart=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)/quickstart.sh
read -ra words <<< "${COMMAND:-suite}"
options=(--rdma-core "${RDMA_CORE:?directory of the rdma-core checkout}"
  --kernel "${KERNEL:-stable}" --profile "${PROFILE:-connectx6dx}")
if [[ ${words[0]} == suite ]]; then
  mkdir -p "${RESULTS:=suite-results}"
  words+=(--junit "$RESULTS/suite.xml" --json "$RESULTS/suite.json")
fi
exec bash "$quickstart" "${options[@]}" "${words[@]}"
