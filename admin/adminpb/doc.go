// Package adminpb is the generated code of the admin API. admin.proto is its source and its documentation; scripts/proto.sh
// generates it anew.
package adminpb
