#!/bin/bash
# Real Kafka by hand and for the tests: clusters of one or three brokers on loopback, each broker also a controller.
# Needs Java 17, and Maven the first time. Data, logs and process ids are in .kafka/run/NAME (or $ISTHMUS_KAFKA_HOME/run/NAME).
#
#   kafka.sh up NAME PORT[,PORT,PORT] [property=value…]   start what is down, with the data it has; controllers listen on PORT+10000
#   kafka.sh down NAME                                    stop in an orderly way; the data stays
#   kafka.sh kill NAME [BROKER]                           kill -9 all brokers of NAME, or the BROKERth
#   kafka.sh status                                       one line a broker
#   kafka.sh tool CLASS [argument…]                       a class of org.apache.kafka.tools, e.g. tool TopicCommand --help
#
# The Go package test/kafka manages its processes itself and uses these two:
#   kafka.sh configure DIR ID CLUSTER_ID PORTS CONTROLLER_PORTS [property=value…]   write DIR/server.properties
#   kafka.sh broker DIR                                                             become the broker of DIR
# Settings: ISTHMUS_KAFKA_VERSION (4.3.0), ISTHMUS_KAFKA_HOME (.kafka), ISTHMUS_KAFKA_HEAP_MB (512),
# ISTHMUS_KAFKA_JAVA_OPTIONS (more options of the brokers' Java, with blanks between them).
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
home=${ISTHMUS_KAFKA_HOME:-$here/../../.kafka}
java=${JAVA_HOME:+$JAVA_HOME/bin/}java

die() { echo "kafka.sh: $*" >&2; exit 1; }

# configure DIR ID CLUSTER_ID PORTS CONTROLLER_PORTS [property=value…]
configure() {
  local dir=$1 id=$2 cluster=$3 ports controllers voters= n
  IFS=, read -ra ports <<<"$4"
  IFS=, read -ra controllers <<<"$5"
  shift 5
  n=${#ports[@]}
  for i in "${!controllers[@]}"; do voters+=${voters:+,}$((i + 1))@127.0.0.1:${controllers[i]}; done
  mkdir -p "$dir"
  echo "$cluster" >"$dir/cluster.id"
  {
    cat "$here/broker.properties"
    cat <<EOF
node.id=$id
controller.quorum.voters=$voters
listeners=PLAINTEXT://127.0.0.1:${ports[id - 1]},CONTROLLER://127.0.0.1:${controllers[id - 1]}
advertised.listeners=PLAINTEXT://127.0.0.1:${ports[id - 1]}
log.dirs=$dir/data
default.replication.factor=$n
offsets.topic.replication.factor=$n
transaction.state.log.replication.factor=$n
share.coordinator.state.topic.replication.factor=$n
min.insync.replicas=$(((n + 1) / 2))
transaction.state.log.min.isr=$(((n + 1) / 2))
share.coordinator.state.topic.min.isr=$(((n + 1) / 2))
EOF
    # Of two lines for one property the broker takes the last.
    printf '%s\n' "${@//\{id\}/$id}"
  } >"$dir/server.properties"
}

# broker DIR: formats the data directory the first time, then becomes the Java process, so that the caller has its pid.
broker() {
  local dir=$1 libs
  libs=$("$here/fetch.sh")
  local small=(-XX:+UseSerialGC -XX:TieredStopAtLevel=1 "-Dlog4j2.configurationFile=$here/log4j2.properties" -cp "$libs/*")
  if [[ ! -e $dir/formatted ]]; then
    "$java" -Xmx128m "${small[@]}" kafka.tools.StorageTool format --ignore-formatted \
      -c "$dir/server.properties" -t "$(<"$dir/cluster.id")"
    touch "$dir/formatted"
  fi
  local more=()
  read -ra more <<<"${ISTHMUS_KAFKA_JAVA_OPTIONS:-}"
  # The serial collector: on two cores the helpers of the others take time from the test.
  exec "$java" "-Xmx${ISTHMUS_KAFKA_HEAP_MB:-512}m" -XX:+UseSerialGC -XX:+ExitOnOutOfMemoryError "${more[@]}" \
    "-Dlog4j2.configurationFile=$here/log4j2.properties" -cp "$libs/*" kafka.Kafka "$dir/server.properties"
}

# pid_of DIR: the process id of the broker of DIR if it runs; a pid file may outlive its process and its number be another's.
pid_of() {
  local pid
  [[ -e $1/pid ]] && pid=$(<"$1/pid") && [[ -r /proc/$pid/cmdline ]] &&
    tr '\0' ' ' <"/proc/$pid/cmdline" | grep -qF -e "$1/server.properties " -e "kafka.sh broker $1 " && echo "$pid"
}

up() {
  local name=$1 list=$2 ports controllers= dir cluster
  shift 2
  IFS=, read -ra ports <<<"$list"
  [[ ${#ports[@]} == 1 || ${#ports[@]} == 3 ]] || die "give one port or three, not ${#ports[@]}"
  for port in "${ports[@]}"; do controllers+=${controllers:+,}$((port + 10000)); done
  "$here/fetch.sh" >/dev/null
  dir=$home/run/$name
  mkdir -p "$dir"
  dir=$(cd "$dir" && pwd)
  cluster=$(cat "$dir/1/cluster.id" 2>/dev/null || { printf k; head -c 15 /dev/urandom; } | base64 | tr '+/' '-_' | tr -d '=') # k: never a dash first
  for i in "${!ports[@]}"; do
    local d=$dir/$((i + 1))
    if pid_of "$d" >/dev/null; then continue; fi # as after the kill of another
    configure "$d" $((i + 1)) "$cluster" "$list" "$controllers" "$@"
    setsid "$here/kafka.sh" broker "$d" >>"$d/log" 2>&1 </dev/null &
    echo $! >"$d/pid"
  done
  for i in "${!ports[@]}"; do
    for ((try = 0; try < 300; try++)); do
      (exec 3<>"/dev/tcp/127.0.0.1/${ports[i]}") 2>/dev/null && break
      pid_of "$dir/$((i + 1))" >/dev/null || break
      sleep 0.2
    done
    pid_of "$dir/$((i + 1))" >/dev/null || { tail -n 20 "$dir/$((i + 1))/log" >&2; die "broker $((i + 1)) of $name did not start"; }
  done
  echo "$name: 127.0.0.1:${list//,/,127.0.0.1:}"
}

# signal SIGNAL NAME [BROKER]: sends it and waits until the processes are gone.
signal() {
  local sig=$1 name=$2 only=${3:-'*'} pid
  [[ -d $home/run/$name ]] || die "there is no cluster $name"
  for dir in "$home"/run/"$name"/$only/; do
    dir=$(cd "$dir" && pwd)
    if pid=$(pid_of "$dir"); then kill "-$sig" "$pid"; fi
  done
  for dir in "$home"/run/"$name"/$only/; do
    dir=$(cd "$dir" && pwd)
    while pid_of "$dir" >/dev/null; do sleep 0.1; done
    rm -f "$dir/pid"
  done
}

status() {
  local state
  for dir in "$home"/run/*/*/; do
    [[ -d $dir ]] || continue
    dir=$(cd "$dir" && pwd)
    if state=$(pid_of "$dir"); then state="runs, pid $state"; else state="down"; fi
    echo "$(basename "$(dirname "$dir")")/$(basename "$dir") $(sed -n 's/^advertised.listeners=//p' "$dir/server.properties" | tail -1) $state"
  done
}

verb=${1:-}
shift || true
case $verb/$# in
  configure/0 | configure/[1-4]) die "usage: configure DIR ID CLUSTER_ID PORTS CONTROLLER_PORTS [property=value…]" ;;
  configure/*) configure "$@" ;;
  broker/1) broker "$@" ;;
  up/0 | up/1) die "usage: up NAME PORT[,PORT,PORT] [property=value…]" ;;
  up/*) up "$@" ;;
  down/1) signal TERM "$1" ;;
  kill/[12]) signal KILL "$@" ;;
  status/0) status ;;
  tool/[1-9]*)
    libs=$("$here/fetch.sh")
    class=$1
    shift
    exec "$java" -Xmx256m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -cp "$libs/*" "org.apache.kafka.tools.$class" "$@"
    ;;
  *) sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$here/kafka.sh"; exit 2 ;;
esac
