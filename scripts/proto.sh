#!/bin/bash
# proto.sh [--check]: generates the Go code of the admin API from its .proto, with tools that are pinned here and fetched by
# go run: nothing has to be installed. --check changes nothing and fails when the committed code is not what comes out.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

buf=github.com/bufbuild/buf/cmd/buf@v1.50.0
protoc_gen_go=google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.12
protoc_gen_go_grpc=google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.6.2

out=.
if [[ ${1:-} == --check ]]; then
  out=$(mktemp -d)
  trap 'rm -rf "$out"' EXIT
fi

# The template is in the command, so that versions and options stand beside each other. From the root, so that the file
# is registered under its whole path, which no other admin.proto has.
go run "$buf" generate --path admin/adminpb --template '{"version":"v2","plugins":[
  {"local":["go","run","'$protoc_gen_go'"],"out":"'$out'","opt":["paths=source_relative"]},
  {"local":["go","run","'$protoc_gen_go_grpc'"],"out":"'$out'","opt":["paths=source_relative"]}]}'

if [[ $out != . ]]; then
  for f in admin.pb.go admin_grpc.pb.go; do
    diff -q "admin/adminpb/$f" "$out/admin/adminpb/$f" || { echo "proto.sh: admin/adminpb/$f is not what admin.proto says; run make proto" >&2; exit 1; }
  done
fi
