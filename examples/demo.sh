#!/bin/bash
# A pod from its manifest to its end, in a private view of this machine: what it shares, what it
# keeps apart, what its limits are, and that nothing is left when it is gone.
#
# usage: examples/demo.sh    (as root, after `make build`)
set -euo pipefail
cd "$(dirname "$0")/.."

# Everything below runs in a view that is removed at the end, whatever happens.
if [ -z "${SEEDPOD_TEST_PLACE:-}" ]; then
    exec timeout --foreground -k 20 120 tests/places/private-view "$PWD/examples/demo.sh"
fi

root=$TMPDIR/podctl state=/run/podctl pod=first
podctl() { target/bin/podctl --root "$root" --state "$state" "$@"; }

step() { printf '\n\033[1m%s\033[0m\n' "$*"; }
indent() { sed 's/^/    /'; }
# Shows the command as a person would type it, then what it says.
show() {
    printf '  \033[2m$ podctl %s\033[0m\n' "$*"
    podctl "$@" 2>&1 | indent
}

# An image of busybox, as an OCI layout in a tar archive.
make_image() {
    local work=$TMPDIR/image layer config manifest
    mkdir -p "$work/rootfs/bin" "$work/rootfs/tmp" "$work/layout/blobs/sha256"
    cp /bin/busybox "$work/rootfs/bin/"
    for applet in sh cat echo sleep ls id hostname readlink; do
        ln -s busybox "$work/rootfs/bin/$applet"
    done
    tar -C "$work/rootfs" --owner 0 --group 0 -cf "$work/layer.tar" .
    blob() { # FILE -> digest
        local digest
        digest=$(sha256sum "$1" | cut -d ' ' -f 1)
        cp "$1" "$work/layout/blobs/sha256/$digest"
        echo "sha256:$digest"
    }
    layer=$(blob "$work/layer.tar")
    cat >"$work/config.json" <<EOF
{"architecture":"amd64","os":"linux","config":{"Env":["PATH=/bin"],"Cmd":["sh"]},
 "rootfs":{"type":"layers","diff_ids":["$layer"]}}
EOF
    config=$(blob "$work/config.json")
    cat >"$work/manifest.json" <<EOF
{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",
 "config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"$config",
  "size":$(stat -c %s "$work/config.json")},
 "layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"$layer",
  "size":$(stat -c %s "$work/layer.tar")}]}
EOF
    manifest=$(blob "$work/manifest.json")
    echo '{"imageLayoutVersion":"1.0.0"}' >"$work/layout/oci-layout"
    cat >"$work/layout/index.json" <<EOF
{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json",
 "digest":"$manifest","size":$(stat -c %s "$work/manifest.json"),
 "annotations":{"org.opencontainers.image.ref.name":"busybox:demo",
  "io.containerd.image.name":"docker.io/library/busybox:demo"}}]}
EOF
    tar -C "$work/layout" -cf "$TMPDIR/busybox.tar" .
}

# What there is, to compare before and after: processes, mounts, cgroups, files of state.
inventory() {
    echo "processes $(find /proc -maxdepth 1 -name '[0-9]*' -exec cat {}/comm \; 2>/dev/null | grep -cvxE 'find|cat|bash|sort|grep|wc|sed|demo.sh')"
    echo "mounts $(wc -l </proc/self/mountinfo)"
    echo "cgroups $(find /sys/fs/cgroup -mindepth 1 -type d | wc -l)"
    echo "namespaces $(cat <(readlink /proc/[0-9]*/ns/* 2>/dev/null) | sort -u | wc -l)"
    echo "pods $(find "$state/pods" "$root/pods" -mindepth 1 -maxdepth 1 2>/dev/null | wc -l)"
}

trap 'podctl delete pod "$pod" >/dev/null 2>&1 || true' EXIT

step "An image, and what there is before the pod"
make_image
show image load "$TMPDIR/busybox.tar"
before=$(inventory)
indent <<<"$before"

step "The pod: two containers, a shared volume, limits, hostUsers: false"
show apply -f examples/first-pod.yaml
for _ in $(seq 100); do
    podctl logs "$pod" -c reader 2>/dev/null | grep -q . && break
    sleep 0.1
done
show get pods
show get pods -o wide

step "What both containers said; the reader has read what the writer wrote"
show logs "$pod" -c writer
show logs "$pod" -c reader

step "Root in the container is an ordinary user of the host"
show exec "$pod" -c writer -- cat /proc/self/uid_map

step "Namespaces: the same in both containers, and others than the host's"
printf '    %-6s %-22s %-22s %-22s\n' '' writer reader host
for kind in user net ipc uts pid mnt; do
    writer=$(podctl exec "$pod" -c writer -- readlink "/proc/self/ns/$kind")
    reader=$(podctl exec "$pod" -c reader -- readlink "/proc/self/ns/$kind")
    host=$(readlink "/proc/self/ns/$kind")
    printf '    %-6s %-22s %-22s %-22s\n' "$kind" "$writer" "$reader" "$host"
    [ "$writer" != "$host" ] || { echo "$kind is the host's" >&2; exit 1; }
    case $kind in
        user | net | ipc | uts) [ "$writer" = "$reader" ] || { echo "$kind differs" >&2; exit 1; } ;;
        mnt) [ "$writer" != "$reader" ] || { echo "$kind is shared" >&2; exit 1; } ;;
    esac
done

step "Limits, as the kernel has them"
limits=$(find /sys/fs/cgroup -mindepth 2 \( -name memory.max -o -name pids.max -o -name cpu.max \) 2>/dev/null |
    while read -r file; do
        value=$(cat "$file")
        case $value in max*) ;; *) echo "${file#/sys/fs/cgroup/}: $value" ;; esac
    done)
if [ -n "$limits" ]; then
    indent <<<"$limits"
elif [ -x /usr/bin/linux.uml ] && [ "${SEEDPOD_TEST_PLACE}" = private ]; then
    echo "    this machine's cgroup v2 tree has no controllers; once more in a test kernel:"
    echo "    (run: tests/places/uml 6.1 \$PWD/examples/demo.sh)"
else
    echo "    this machine's cgroup v2 tree has no controllers"
fi

step "The end"
show delete pod "$pod"
show get pods
after=$(inventory)
if [ "$before" = "$after" ]; then
    echo "    nothing is left:"
    indent <<<"$after"
else
    echo "    something is left:" >&2
    diff <(echo "$before") <(echo "$after") | indent >&2
    exit 1
fi
