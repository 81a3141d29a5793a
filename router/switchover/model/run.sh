#!/bin/bash
# Has spin look at the model: all states with one ballot; with two, as many as MINUTES are enough for, by hashes (bitstate), since all of them fit into no
# memory of 4 GB. Then the model is broken on purpose, and must fail. Needs spin and gcc.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
minutes=${MINUTES:-2}
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cp switch.pml "$dir"
cd "$dir"

# search NAME MODEL-FLAGS GCC-FLAGS PAN-FLAGS…: prints how it went, and leaves pan's output in out.
search() {
  local name=$1 model=$2 cc=$3
  shift 3
  spin -a $model switch.pml >spin.out || { cat spin.out; return 1; }
  gcc -w -O2 -DSAFETY -DMEMLIM=3800 $cc -o pan pan.c
  ./pan -m4000000 "$@" >out 2>&1 || true
  rm -f ./*.trail
  printf '%-46s %s states, depth %s, %s\n' "$name" "$(sed -n 's/^ *\([0-9e.+]*\) states, stored.*/\1/p' out)" \
    "$(sed -n 's/.*depth reached \([0-9]*\),.*/\1/p' out)" "$(how)"
}

how() {
  if grep -q 'Search not completed' out && grep -q 'errors: 0' out; then
    echo 'time is over'
  elif grep -q 'errors: 0' out; then
    echo 'all'
  else
    echo 'until it fails'
  fi
}

holds() {
  search "$@"
  grep -q 'errors: 0' out && ! grep -qE 'out of memory|max search depth too small' out || { cat out; echo "the model does not hold: $1"; exit 1; }
}

fails() {
  search "$@"
  grep -q 'assertion violated' out || { cat out; echo "the model holds, and must not: $1"; exit 1; }
  sed -n 's/^pan:1: \(assertion violated .*\) (at.*/    \1/p' out
}

holds "one ballot, all states" "-DBALLOTS=1" "-DCOLLAPSE"
fails "without waiting for leases" "-DBALLOTS=1 -DNO_WAIT" "-DCOLLAPSE"
fails "a commit before the final mirror" "-DBALLOTS=1 -DEARLY" "-DCOLLAPSE"
fails "answers that pass without a lease" "-DBALLOTS=1 -DNO_ANSWER" "-DCOLLAPSE"
fails "generation 2, and a tail of the home before" "-DBALLOTS=2 -DSMALL -DREACH" "-DCOLLAPSE"
holds "two ballots, SMALL" "-DBALLOTS=2 -DSMALL" "-DBITSTATE" -w32 "-Q$minutes"
