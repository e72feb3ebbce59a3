# shellcheck shell=bash
# What up, down and kubectl share: where things are, and how a daemon is
# started, recognised and stopped. Sourced, never run.

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
STATE=${K8R_CLUSTER_STATE:-/var/lib/k8r-test-cluster}
CACHE=${K8R_CLUSTER_CACHE:-/var/cache/k8r-test-cluster}
API_PORT=${K8R_CLUSTER_API_PORT:-6443}

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
  # All daemons, in the order in which they are stopped.
  DAEMONS="kubelet dockerd kube-scheduler kube-controller-manager forward kube-apiserver containerd registry etcd"
}

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

# The key of the Go build: the sources, and nothing that differs by machine.
kube_dir() {
  echo "$CACHE/kube-$(cat "$HERE"/kube/go.mod "$HERE"/kube/go.sum "$HERE"/kube/*.go | sha256sum | cut -c1-16)"
}
