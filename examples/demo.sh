#!/bin/bash
# A pod from its manifest to its end: what its containers share, what is kept apart, what its limits
# are, and that nothing is left when it is gone. What is printed is read from the system, most of it
# from the host's side and not through podctl.
#
# Images, volumes and state are in directories of the demo's own, which go with it. The machine's
# cgroup mounts stay as they are; the pod's cgroup is made in the version 2 tree, and removed.
#
# usage: examples/demo.sh               (as root, after `make build`)
#        examples/demo.sh limits TAR    only the limits, with the image in TAR
set -euo pipefail
cd "$(dirname "$0")/.."

[ "$(id -u)" = 0 ] || { echo "demo: it needs root: sudo make demo" >&2; exit 1; }
for program in target/bin/podctl target/bin/seedpod; do
    [ -x $program ] || { echo "demo: $program is not there: make build" >&2; exit 1; }
done
if [ -z "${SEEDPOD_DEMO:-}" ]; then
    SEEDPOD_DEMO=1 exec timeout --foreground -k 20 180 "$PWD/examples/demo.sh" "$@"
fi

work=$(mktemp -d "${TMPDIR:-/var/tmp}/seedpod-demo.XXXXXX")
state=$(mktemp -d /run/seedpod-demo.XXXXXX)
root=$work/root
podctl() { timeout 30 target/bin/podctl --root "$root" --state "$state" "$@"; }
seedpod() { timeout 30 target/bin/seedpod "$@"; }

clean_up() {
    podctl delete pod --grace-period 0 --ignore-not-found first-pod limits >/dev/null 2>&1 || true
    rm -rf --one-file-system "$work" "$state"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

if [ -t 1 ] && [ "${1:-}" != limits ]; then bold=$'\033[1m' dim=$'\033[2m' red=$'\033[31m' plain=$'\033[0m'; else bold='' dim='' red='' plain=''; fi
step() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }
indent() { fold -s -w 96 | sed -e 's/^/    /' -e 's/ *$//'; }
# Shows a command as a person would type it, then what it says.
show() {
    printf '  %s$ podctl %s%s\n' "$dim" "$*" "$plain"
    podctl "$@" 2>&1 | indent
}

checks=0 failures=0
# check TEXT COMMAND...: the command must succeed.
check() {
    local text=$1
    shift
    checks=$((checks + 1))
    if "$@"; then
        echo "    ok: $text"
    else
        failures=$((failures + 1))
        echo "    ${red}FAILED: $text${plain}"
    fi
}
same() { [ -n "$1" ] && [ "$1" = "$2" ]; }
differ() { [ -n "$1" ] && [ -n "$2" ] && [ "$1" != "$2" ]; }

# wait_for SECONDS COMMAND...
wait_for() {
    local end=$((SECONDS + $1))
    shift
    until "$@"; do
        [ $SECONDS -lt $end ] || return 1
        sleep 0.1
    done
}
has_said() { [ -n "$(podctl logs "$1" -c "$2" 2>/dev/null)" ]; }

# The version 2 tree, and whether it can limit anything.
case $(stat -f -c %T /sys/fs/cgroup) in
    cgroup2fs) tree=/sys/fs/cgroup ;;
    *) tree=/sys/fs/cgroup/unified ;;
esac
has_controllers() {
    local controller
    for controller in cpu memory; do
        grep -qw "$controller" "$tree/cgroup.controllers" 2>/dev/null || return 1
    done
}

# What a pod is made of, by its uid: read from the host.
pod_uid() { find "$state/pods" -mindepth 1 -maxdepth 1 -printf '%f\n'; }
pod_cgroup() { find "$tree" -type d -name "pod$1"; }
# The process id of a container of the pod, or of its sandbox, as the runtime knows it.
pid_of() { seedpod --root "$state/pods/$uid/containers" list | awk -v end="/bundles/$1" 'index($4, end) { print $2 }'; }

# The limits of a pod that runs, from the files of its cgroups.
show_limits() {
    local name directory
    uid=$(pod_uid)
    directory=$(pod_cgroup "$uid")
    printf '    %-9s %-15s %-11s %s\n' '' cpu.max cpu.weight memory.max
    for name in pod writer reader; do
        [ $name = pod ] || directory=$tree$(grep '^0::' "/proc/$(pid_of $name)/cgroup" | cut -d : -f 3)
        printf '    %-9s %-15s %-11s %s\n' $name "$(cat "$directory/cpu.max")" \
            "$(cat "$directory/cpu.weight")" "$(cat "$directory/memory.max")"
        # In the manifest: cpu: 500m, memory: 64Mi for each of two containers.
        [ $name = pod ] && count=2 || count=1
        same "$(cat "$directory/cpu.max")" "$((count * 50000)) 100000" || failures=$((failures + 1))
        same "$(cat "$directory/memory.max")" $((count * 64 << 20)) || failures=$((failures + 1))
    done
    check "they are those of examples/first-pod.yaml: 500m and 64Mi for each container" same $failures 0
}
# One that is exceeded.
show_excess() {
    show apply -f examples/limits.yaml
    ended() { podctl get pod limits -o yaml | grep -q 'phase: Failed'; }
    wait_for 20 ended || true
    show get pods limits
    reason() { podctl get pod limits -o yaml | grep 'reason:' | grep -o OOMKilled | head -n 1; }
    check "the kernel has ended the container that wanted more memory than its limit" same "$(reason)" OOMKilled
    podctl delete pod limits >/dev/null
}

finish() {
    echo
    if [ $failures -gt 0 ]; then
        echo "${red}$failures of $checks checks failed${plain}"
        exit 1
    fi
    echo "$1"
    exit 0
}

if [ "${1:-}" = limits ]; then
    podctl image load "$2" >/dev/null 2>&1
    podctl apply -f examples/first-pod.yaml >/dev/null
    wait_for 20 has_said first-pod reader || true
    show_limits
    podctl delete pod first-pod >/dev/null
    show_excess
    [ $failures = 0 ]
    exit
fi

step "1. An image: this machine's static busybox, as an OCI image in a tar"
examples/busybox-image.sh "$work/busybox.tar"
show image load "$work/busybox.tar"

step "2. A pod: an init container, then two containers; a shared volume; user ids of its own"
show apply -f examples/first-pod.yaml
wait_for 20 has_said first-pod reader || true
show get pods -o wide
uid=$(pod_uid)
pause=$(pid_of sandbox) writer=$(pid_of writer) reader=$(pid_of reader)
supervisor=$(grep -o '"pid":[0-9]*' "$state/pods/$uid/supervisor.json" | cut -d : -f 2)

step "3. What the containers said"
show logs first-pod -c writer
show logs first-pod -c reader
volume=$root/pods/$uid/volumes/shared
check "the reader has read what the writer wrote" same "$(podctl logs first-pod -c reader)" "$(cat "$volume/greeting")"

step "4. Root in the pod is nobody on the host"
show exec first-pod -c writer -- cat /proc/self/uid_map
first=$(awk '{ print $2 }' "/proc/$writer/uid_map")
on_host=$(awk '/^Uid:/ { print $2 }' "/proc/$writer/status")
inside=$(podctl exec first-pod -c writer -- id -u)
check "the writer is uid $inside in the pod and uid $on_host on the host" same "$inside $on_host" "0 $first"
check "that uid has no name on the host" test -z "$(getent passwd "$on_host")"
show exec first-pod -c writer -- ls -ln /shared/greeting
echo "  ${dim}$ cd ${volume/$root/ROOT} && ls -ln greeting${plain}"
(cd "$volume" && ls -ln greeting) | indent
check "its file belongs to uid 0 inside and on the disk: the volume's ids are mapped" \
    same "$(podctl exec first-pod -c writer -- stat -c %u /shared/greeting) $(stat -c %u "$volume/greeting")" "0 0"

step "5. Namespaces, from /proc/PID/ns on the host"
printf '    %-7s %12s %12s %12s %12s\n' '' sandbox writer reader host
number() { readlink "/proc/$1/ns/$2" | grep -o '[0-9]*'; }
shared=yes apart=yes
for kind in user net ipc uts pid mnt cgroup; do
    row=()
    for pid in "$pause" "$writer" "$reader" $$; do row+=("$(number "$pid" $kind)"); done
    printf '    %-7s %12s %12s %12s %12s\n' $kind "${row[@]}"
    case $kind in
        user | net | ipc | uts) same "${row[0]}" "${row[1]}" && same "${row[1]}" "${row[2]}" || shared=no ;;
        *) differ "${row[1]}" "${row[2]}" || apart=no ;;
    esac
    differ "${row[1]}" "${row[3]}" && differ "${row[2]}" "${row[3]}" || apart=no
done
check "user, net, ipc and uts are one for the whole pod" same $shared yes
check "pid, mnt and cgroup are each container's own, and none is the host's" same $apart yes

# All that makes up the pod, for the end.
pids="$supervisor $(cat "$(pod_cgroup "$uid")"/*/cgroup.procs | tr '\n' ' ')"
namespaces=$(for pid in $pause $writer $reader $supervisor; do readlink /proc/"$pid"/ns/*; done | sort -u |
    grep -vxFf <(readlink /proc/$$/ns/*) || true)
count_processes() { for pid in $pids; do [ ! -e "/proc/$pid/exe" ] || echo "$pid"; done | wc -l; }
# A namespace lives as long as a process is in it (or a mount holds it, and those are counted). Its
# number is then free for others of this machine, so only processes count that were there before.
count_namespaces() {
    for pid in $older; do readlink /proc/"$pid"/ns/* 2>/dev/null; done | sort -u | grep -cxF "$namespaces" || true
}
count_mounts() { cat /proc/[0-9]*/mountinfo 2>/dev/null | grep -F -e "$root/" -e "$state/" | awk '{ print $1 }' | sort -u | wc -l; }
count_cgroups() { find "$tree" -type d -path "*pod$uid*" | wc -l; }
count_files() { find "$root/pods" "$state/pods" -mindepth 1 | wc -l; }
counts() { printf '%-12s %12s %12s %12s %12s' "$1" "$(count_processes)" "$(count_namespaces)" "$(count_mounts)" "$(count_cgroups)"; printf ' %12s\n' "$(count_files)"; }
older=$(cd /proc && echo [0-9]*)
before=$(counts before)

step "6. Limits, as the kernel has them"
if has_controllers; then
    show_limits
    show_excess
elif [ -x /usr/bin/linux.uml ]; then
    echo "    The cgroup version 2 tree of this machine ($tree) has no cpu and memory controllers."
    echo "    The same pod once more in a test kernel, User-Mode Linux of Debian's package:"
    limits=0
    SEEDPOD_DEMO='' timeout --foreground -k 20 90 tests/places/uml 6.1 \
        examples/demo.sh limits "$work/busybox.tar" || limits=$?
    check "the limits in the test kernel" same $limits 0
else
    echo "    not shown: the cgroup version 2 tree of this machine ($tree) has no cpu and memory"
    echo "    controllers, and the test kernel (package user-mode-linux) is not installed"
fi

step "7. The end"
show delete pod first-pod
show get pods
# The last processes are dead by now, but it is the host's process 1 that buries them.
no_namespaces() { [ "$(count_namespaces)" = 0 ]; }
wait_for 5 no_namespaces || true
after=$(counts after)
printf '    %-12s %12s %12s %12s %12s %12s\n' '' processes namespaces mounts cgroups files
echo "$before" | indent
echo "$after" | indent
check "the pod was there" test "$(echo "$before" | tr -s ' ' '\n' | grep -cx 0)" = 0
check "nothing of it is left" test "$(echo "$after" | tr -s ' ' '\n' | grep -cx 0)" = 5

finish "All $checks checks passed. Next: README.md, or the other manifests in examples/."
