#!/bin/bash
# fuzz.sh [TIME]: runs every fuzz target of the module for TIME (default 10s) each; go test itself takes one at a time.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
time=${1:-10s}
grep -rEo --include='*_test.go' '^func Fuzz[A-Za-z0-9_]*' . | sort | while IFS=: read -r file func; do
  dir=$(dirname "$file")
  echo "== $dir ${func#func }"
  go test -tags synctests -run '^$' -fuzz "^${func#func }\$" -fuzztime "$time" "$dir" </dev/null
done
