#!/bin/bash
# fetch.sh [VERSION]: brings the jars of Apache Kafka VERSION (default: $ISTHMUS_KAFKA_VERSION, else 4.3.0) with Maven
# and prints the folder they are in: .kafka/libs-VERSION of this repository, or $ISTHMUS_KAFKA_HOME/libs-VERSION.
# A folder of that name is always complete: it is filled under another name and renamed. So a second run does nothing,
# and of two that run at once one waits for the other.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
version=${1:-${ISTHMUS_KAFKA_VERSION:-4.3.0}}
home=${ISTHMUS_KAFKA_HOME:-$here/../../.kafka}
mkdir -p "$home"
home=$(cd "$home" && pwd)
libs=$home/libs-$version

if [[ ! -d $libs ]]; then
  exec 9>"$home/fetch.lock"
  flock 9
fi
if [[ ! -d $libs ]]; then # nobody else brought them while this run waited
  if ! command -v mvn >/dev/null; then
    echo "fetch.sh: Maven (mvn) is missing: install it, or put the jars of Kafka $version into $libs" >&2
    exit 1
  fi
  part=$(mktemp -d "$home/part-XXXXXX")
  trap 'rm -rf "$part"' EXIT
  echo "fetch.sh: bringing the jars of Kafka $version" >&2
  # Kafka 3 brings a second slf4j binding, which would win over log4j2 by chance.
  mvn -q -B -Dstyle.color=never -f "$here/pom.xml" "-Dkafka.version=$version" dependency:copy-dependencies \
    "-DoutputDirectory=$part/libs" -DincludeScope=runtime -DexcludeArtifactIds=slf4j-reload4j >&2
  mv "$part/libs" "$libs"
fi
echo "$libs"
