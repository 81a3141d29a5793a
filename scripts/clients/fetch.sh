#!/bin/bash
# fetch.sh KIND [VERSION]: brings one client library and what it needs, builds its program of test/clients/programs, and prints a command that runs it.
# Kinds: franz sarama java confluent kafka-python aiokafka kafkajs kcat; versions are the library's, Go's are those of their go.mod.
# All of it is in .clients of this repository, or $ISTHMUS_CLIENTS_HOME. A library's folder is always complete: it is filled under another name and renamed.
# Needs, by kind: go, or java with javac and mvn, or python3 with pip, or node and npm, or kcat. What is missing is named on standard error.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
programs=$here/../../test/clients/programs
kind=${1:-} version=${2:-}
home=${ISTHMUS_CLIENTS_HOME:-$here/../../.clients}
mkdir -p "$home"
home=$(cd "$home" && pwd)
programs=$(cd "$programs" && pwd)

die() { echo "fetch.sh: $*" >&2; exit 1; }
needs() { for tool in "$@"; do command -v "$tool" >/dev/null || die "$kind: $tool is missing"; done; }

exec 9>"$home/$kind.lock"
flock 9

# brought FOLDER COMMAND…: the command fills the folder that it is given last, unless that is there.
brought() {
  local folder=$1 part
  shift
  [[ -d $folder ]] && return
  echo "fetch.sh: bringing $(basename "$folder")" >&2
  part=$(mktemp -d "$home/part-XXXXXX")
  if ! "$@" "$part/x" >&2; then
    rm -rf "$part"
    die "$kind: cannot bring $version"
  fi
  mv "$part/x" "$folder"
  rm -rf "$part"
}

# script NAME LINE: a program that becomes LINE; printed.
script() {
  printf '#!/bin/bash\nexec %s "$@"\n' "$2" >"$home/run-$1.part"
  chmod +x "$home/run-$1.part"
  mv "$home/run-$1.part" "$home/run-$1"
  echo "$home/run-$1"
}

with_go() {
  needs go
  (cd "$programs/$1" && go build -o "$home/$1" .) >&2
  echo "$home/$1"
}

jars() {
  mvn -q -B -Dstyle.color=never -f "$programs/java/pom.xml" "-Dkafka.version=$version" dependency:copy-dependencies "-DoutputDirectory=$1" -DincludeScope=runtime
}

with_java() {
  needs java javac mvn
  local libs=$home/java-$version classes
  brought "$libs" jars
  classes=$home/java-$version-$(cat "$programs"/java/*.java | cksum | cut -d' ' -f1)
  brought "$classes" javac -nowarn -Xlint:none -cp "$libs/*" "$programs"/java/*.java -d
  script "java-$version" "java -Xmx192m -Xshare:auto -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -cp '$classes:$libs/*' Client"
}

with_python() {
  needs python3
  python3 -m pip --version >/dev/null 2>&1 || die "$kind: pip of python3 is missing"
  local libs=$home/$kind-$version
  brought "$libs" python3 -m pip install -q --disable-pip-version-check --root-user-action ignore --no-warn-script-location --only-binary :all: "$2==$version" --target
  script "$kind-$version" "env PYTHONDONTWRITEBYTECODE=1 'PYTHONPATH=$libs' python3 -u '$programs/python/$1.py'"
}

packages() {
  mkdir -p "$1" && cd "$1" && npm install --silent --no-audit --no-fund --ignore-scripts --prefix . "$kind@$version"
}

with_node() {
  needs node npm
  local libs=$home/$kind-$version
  brought "$libs" packages
  script "$kind-$version" "env 'NODE_PATH=$libs/node_modules' KAFKAJS_NO_PARTITIONER_WARNING=1 node '$programs/node/$kind.js'"
}

case $kind/${version:+v} in
  franz/ | sarama/) with_go "$kind" ;;
  kcat/) needs kcat go && with_go kcat ;;
  java/v) with_java ;;
  confluent/v) with_python confluent confluent-kafka ;;
  kafka-python/v) with_python kafkapython kafka-python ;;
  aiokafka/v) with_python aio aiokafka ;;
  kafkajs/v) with_node ;;
  *) sed -n '2,5s/^# \{0,1\}//p' "$here/fetch.sh"; exit 2 ;;
esac
