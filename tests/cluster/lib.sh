# shellcheck shell=bash
# What up, down and kubectl share: where things are, and how a daemon is
# started, recognised and stopped. Sourced, never run.

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
STATE=${K8R_CLUSTER_STATE:-/var/lib/k8r-test-cluster}
CACHE=${K8R_CLUSTER_CACHE:-/var/cache/k8r-test-cluster}
API_PORT=${K8R_CLUSTER_API_PORT:-6443}
# The newest where none is named: a link says which.
KUBE_VERSION=$(readlink "$HERE/kube/go.mod")
KUBE_VERSION=${K8R_CLUSTER_VERSION:-${KUBE_VERSION%.mod}}

# Used by the scripts that source this file.
# shellcheck disable=SC2034
{
  KUBECONFIG_FILE=$STATE/kubeconfig
  LOGS=$STATE/logs
  PIDS=$STATE/pids
  SOCKETS=$STATE/run
  REGISTRY=127.0.0.1:5000
  BRIDGE=k8r-pods
  PODS_CIDR=10.88.0.0/16
  PODS_GATEWAY=10.88.0.1
  SERVICE_CIDR=10.96.0.0/16
  API_SERVICE_IP=10.96.0.1
  DOCKER_BRIDGE=k8r-docker
  DOCKER_BRIDGE_CIDR=10.89.0.1/24
  # Own folders in every cgroup hierarchy, so that nothing is shared with
  # another kubelet or dockerd and all of it can be removed.
  KUBE_CGROUP=k8r-test-cluster
  DOCKER_CGROUP=k8r-test-docker
  # Where some of the programs write whatever they are told. Inner ones first.
  STRAY_FOLDERS="/var/log/containers /var/lib/cni/results /var/lib/cni /var/lib/kubelet/device-plugins /var/lib/kubelet
    /run/docker/plugins /run/docker /run/containerd/s /run/containerd"
  # All daemons, in the order in which they are stopped. The cluster is whole
  # without the extras: it is not started anew because one of them has ended.
  DAEMONS="kubelet dockerd kube-scheduler kube-controller-manager forward kube-apiserver containerd registry etcd"
  EXTRAS="kueue coredns"
  # No setting of Kueue's moves this one: it becomes a link into our state.
  KUEUE_CERTS=/etc/kueue/metrics/certs
}

ELSEWHERE="K8R_TEST_KUBECONFIG can name the kubeconfig of any other cluster instead"

# Debian keeps daemons in sbin, which is not on every user's PATH.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

say() { printf 'cluster: %s\n' "$*" >&2; }

die() {
  printf 'cluster: error: %s\n' "$*" >&2
  exit 1
}

# One start or stop at a time. The lock file is beside the state, not in it:
# down removes the state while it holds the lock.
lock() {
  mkdir -p "$(dirname "$STATE")"
  exec 9>"$STATE.lock"
  if ! flock -n 9; then
    say "waiting for another start or stop to end"
    flock 9
  fi
}

# Else a stranger's answer could pass for that of a daemon of ours.
check_ports() {
  local port
  for port in "$@"; do
    if (exec 4<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
      die "port $port of 127.0.0.1 is taken by a program that is not ours; $ELSEWHERE"
    fi
  done
}

# The pid alone does not name a process for ever, since pids are used again;
# with the time at which the process started it does.
start_time() {
  local stat
  { read -r stat <"/proc/$1/stat"; } 2>/dev/null || return 1
  # The second field is a name in brackets that may hold blanks: cut past it.
  # shellcheck disable=SC2086
  set -- ${stat##*) }
  # A zombie has ended; nobody has asked for its exit code yet.
  [ "$1" != Z ] && echo "${20}"
}

alive() {
  local pid started
  { read -r pid started <"$PIDS/$1"; } 2>/dev/null || return 1
  [ "$(start_time "$pid")" = "$started" ]
}

# start NAME COMMAND...: a daemon of its own session, that holds none of our
# files open (a caller that reads our output until its end would wait for ever)
# and sees nothing of our environment (a proxy setting, say).
start() {
  local name=$1 pid
  shift
  (
    for fd in "/proc/$BASHPID/fd/"*; do
      fd=${fd##*/}
      if [ "$fd" -gt 2 ]; then eval "exec $fd>&-"; fi
    done
    cd / && exec setsid env -i PATH="$PATH" HOME="$STATE" "$@"
  ) </dev/null >"$LOGS/$name.log" 2>&1 &
  pid=$!
  echo "$pid $(start_time "$pid")" >"$PIDS/$name"
  disown "$pid"
}

# stop NAME...: at once, since what they might want to save is removed anyway
# (in good order the API server alone takes longer than all else here).
stop() {
  local name pid tries
  for name in "$@"; do
    if alive "$name"; then
      read -r pid _ <"$PIDS/$name"
      kill -KILL "$pid" 2>/dev/null || true
    fi
  done
  for name in "$@"; do
    for ((tries = 0; tries < 200; tries++)); do
      alive "$name" || break
      sleep 0.02
    done
    rm -f "$PIDS/$name"
  done
}

# api PATH: what the API server answers to its admin.
api() {
  curl --silent --fail --noproxy '*' --max-time 5 --cacert "$STATE/pki/ca.crt" \
    --header 'Authorization: Bearer admin' "https://127.0.0.1:$API_PORT$1"
}

# Every cgroup hierarchy's own folder: one of v2, or one for each of v1's.
cgroup_roots() { awk '$3 == "cgroup" || $3 == "cgroup2" {print $2}' /proc/self/mounts; }

# When wait_for gives up, in bash's SECONDS; for callers to set anew.
deadline=120

# wait_for WHAT NAME COMMAND...: until the command succeeds; the daemon NAME is
# the one to blame if it does not.
wait_for() {
  local what=$1 name=$2
  shift 2
  until "$@" >/dev/null 2>&1; do
    if ! alive "$name"; then
      tail -n 30 "$LOGS/$name.log"
      die "$name ended while it started; its log is above, and whole in $LOGS"
    fi
    if [ $SECONDS -gt "$deadline" ]; then
      tail -n 30 "$LOGS/$name.log"
      die "$what: not within 120 s; the log of $name is above, and whole in $LOGS"
    fi
    sleep 0.1
  done
}

# modfile MODULE: the name, less its ending, of the files that say of what that
# folder's Go module is built. Kubernetes has such for each of its versions.
modfile() { if [ "$1" = kube ]; then echo "$KUBE_VERSION"; else echo go; fi; }

# go_dir MODULE: where the build of that folder's Go module is kept, by its
# sources and nothing that differs by machine.
go_dir() {
  local sources mod
  mod=$(modfile "$1")
  sources=$(find "$HERE/$1" -maxdepth 1 -name '*.go' | LC_ALL=C sort)
  # shellcheck disable=SC2086
  echo "$CACHE/$1-$(cd "$HERE/$1" && cat "$mod.mod" "$mod.sum" $sources | sha256sum | cut -c1-16)"
}

kube_dir() { go_dir kube; }

# go_in MODULE ARG...: Go itself, in the folder of that module.
go_in() {
  local go module=$1
  shift
  for go in "$(command -v go || true)" /usr/local/go/bin/go /usr/lib/go/bin/go ""; do
    if [ -x "$go" ]; then break; fi
  done
  [ -n "$go" ] || die "Go is needed to build $module (not on PATH, not in /usr/local/go); $ELSEWHERE"
  # Go finds its folders by HOME; without one they go where we keep our own.
  if [ -z "${HOME:-}" ] || [ ! -w "$HOME" ]; then
    export HOME=$CACHE GOPATH=${GOPATH:-$CACHE/go} GOCACHE=${GOCACHE:-$CACHE/go-build}
  fi
  (cd "$HERE/$module" && CGO_ENABLED=0 GOFLAGS="-modfile=$(modfile "$module").mod" GOWORK=off "$go" "$@")
}

# go_build MODULE PACKAGE FLAGS HOW-LONG: build the program MODULE, once. FLAGS
# are for the linker.
go_build() {
  local dir started=$SECONDS
  dir=$(go_dir "$1")
  [ ! -x "$dir/$1" ] || return 0
  say "building $1 ($4 on two cores, once)"
  mkdir -p "$dir"
  go_in "$1" build -mod=readonly -buildvcs=false -trimpath -ldflags "-s -w $3" -o "$dir/$1.new" "$2" ||
    die "the build of $1 failed; $ELSEWHERE"
  mv "$dir/$1.new" "$dir/$1"
  say "built in $((SECONDS - started)) s"
}

# By up before the time that a start takes is counted, else by dns-up.
build_dns() { go_build coredns github.com/coredns/coredns "" "a minute"; }
