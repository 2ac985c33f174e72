#!/bin/sh
# Makes a busybox image as a tar of an OCI image layout, from a static busybox on this machine.
#
#   busybox-image.sh OUT.tar [NAME]
#
# OUT.tar  the archive to write, for `podctl image load OUT.tar`
# NAME     the image's full name (docker.io/library/busybox:latest)
# BUSYBOX  environment: the static busybox to take (/bin/busybox, of Debian's busybox-static)
#
# Needs coreutils and GNU tar. The same busybox gives the same archive, byte for byte.
set -eu
LC_ALL=C
export LC_ALL
umask 022

usage() {
	echo "usage: $0 OUT.tar [NAME]" >&2
	exit 2
}

[ $# -ge 1 ] && [ $# -le 2 ] || usage
out=$1
name=${2:-docker.io/library/busybox:latest}
busybox=${BUSYBOX:-/bin/busybox}

case $name in
*[!a-zA-Z0-9./:_@-]*)
	echo "$0: $name: not an image name" >&2
	exit 2
	;;
esac
if [ ! -x "$busybox" ]; then
	echo "$0: $busybox: there is no such program: install busybox-static, or set BUSYBOX" >&2
	exit 1
fi

machine=$(uname -m)
case $machine in
x86_64) arch=amd64 ;;
aarch64) arch=arm64 ;;
armv*) arch=arm ;;
i?86) arch=386 ;;
loongarch64) arch=loong64 ;;
*) arch=$machine ;; # riscv64, ppc64le and s390x have the same name in Go
esac

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

# pack DIRECTORY: a tar that depends on nothing but the names, modes and content.
pack() {
	tar -C "$1" --format=ustar --sort=name --owner=0 --group=0 --numeric-owner \
		--mtime=@0 -cf - .
}

# size FILE, digest FILE
size() { wc -c <"$1" | tr -d ' '; }
digest() { sha256sum <"$1" | cut -d ' ' -f 1; }

# The file system.
root=$work/root
mkdir -p "$root/bin" "$root/dev" "$root/etc" "$root/home" "$root/proc" "$root/root" \
	"$root/sys" "$root/tmp" "$root/usr/bin" "$root/var/tmp"
chmod 0755 "$root"
chmod 0700 "$root/root"
chmod 1777 "$root/tmp" "$root/var/tmp"
cp "$busybox" "$root/bin/busybox"
chmod 0755 "$root/bin/busybox"
"$busybox" --list | while read -r applet; do
	[ "$applet" = busybox ] || ln -s busybox "$root/bin/$applet"
done
ln -s ../../bin/env "$root/usr/bin/env"
cat >"$root/etc/passwd" <<'END'
root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/bin/false
nobody:x:65534:65534:nobody:/home:/bin/false
END
cat >"$root/etc/group" <<'END'
root:x:0:
daemon:x:1:
tty:x:5:
nobody:x:65534:
END
printf 'hosts: files dns\n' >"$root/etc/nsswitch.conf"

# The layout: a layer, a configuration that names it, a manifest that names both, an index.
layout=$work/layout
blobs=$layout/blobs/sha256
mkdir -p "$blobs"

# store FILE: moves a blob to the name that its digest gives it.
store() {
	hex=$(digest "$1")
	bytes=$(size "$1")
	mv "$1" "$blobs/$hex"
	chmod 0644 "$blobs/$hex"
}

pack "$root" >"$work/layer.tar"
store "$work/layer.tar"
layer=$hex
layer_bytes=$bytes

cat >"$work/config" <<END
{"architecture":"$arch","os":"linux","config":{"Env":["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],"Cmd":["sh"]},"rootfs":{"type":"layers","diff_ids":["sha256:$layer"]}}
END
store "$work/config"
config=$hex
config_bytes=$bytes

cat >"$work/manifest" <<END
{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:$config","size":$config_bytes},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"sha256:$layer","size":$layer_bytes}]}
END
store "$work/manifest"

cat >"$layout/index.json" <<END
{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:$hex","size":$bytes,"platform":{"architecture":"$arch","os":"linux"},"annotations":{"org.opencontainers.image.ref.name":"$name"}}]}
END
printf '{"imageLayoutVersion":"1.0.0"}\n' >"$layout/oci-layout"

# Complete or not at all.
pack "$layout" >"$out.part"
mv "$out.part" "$out"
