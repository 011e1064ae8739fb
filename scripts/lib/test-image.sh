#!/bin/bash
# Makes tes-test/busybox:1 in the container engine: a static busybox and nothing else, about 2 MB.
# For tests, from a shell or from Python:
#
#   TES_ENGINE_SOCKET=/var/run/docker.sock scripts/lib/test-image.sh     prints the image's id
set -euo pipefail
lib=$(dirname "${BASH_SOURCE[0]}")
. "$lib/common.sh"
. "$lib/image.sh"

# Tests mount over and write into these; a container's resolv.conf and hosts need /etc.
busybox_tree() {
	local tree=$1 busybox applet
	busybox=$(command -v busybox) || die "no busybox here: install busybox-static"
	mkdir -p "$tree"/{bin,dev,etc,home,in,out,proc,root,sys,tmp,usr,var/tmp}
	chmod 1777 "$tree/tmp" "$tree/var/tmp"
	cp "$busybox" "$tree/bin/busybox"
	for applet in $("$busybox" --list); do
		[ "$applet" = busybox ] || ln -s busybox "$tree/bin/$applet"
	done
	printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n' >"$tree/etc/passwd"
	printf 'root:x:0:\nnogroup:x:65534:\n' >"$tree/etc/group"
	ln -s ../bin "$tree/usr/bin"
}

image=tes-test/busybox:1
if ! image_exists "$image"; then
	busybox_tree "$(scratch)/busybox"
	tar -C "$(scratch)/busybox" --owner=0 --group=0 --numeric-owner -cf "$(scratch)/busybox.tar" .
	image_import "$image" "$(scratch)/busybox.tar" 'CMD ["/bin/sh"]' 'ENV PATH=/bin:/usr/bin'
fi
image_id "$image"
