# shellcheck shell=bash
# What the project needs, as Debian 12 and Ubuntu 24.04 name it.  Sourced after common.sh.

deps_check_system() {
	case "$(os_release ID) $(os_release ID_LIKE)" in
	*debian* | *ubuntu*) ;;
	*) say "this is $(os_release PRETTY_NAME): tried on Debian 12 and Ubuntu 24.04 only" ;;
	esac
}

deps_build() {
	packages "what builds TES AI" \
		gcc libc6-dev meson ninja-build pkg-config python3 ca-certificates curl \
		libarchive-dev libcmocka-dev libcurl4-openssl-dev libjansson-dev libmicrohttpd-dev \
		libnftables-dev libpq-dev libsodium-dev libsqlite3-dev libyaml-dev
}

deps_run() {
	packages "what TES AI runs with" nftables iproute2 procps
}

deps_test() {
	packages "what tests TES AI" \
		python3-pytest python3-pytest-xdist python3-yaml python3-nacl postgresql nginx openssl busybox-static \
		git clang zsh fish man-db \
		"$(deps_clang_runtime)"
	# A registry to pull from: where the distribution has one.
	if package_known docker-registry; then
		packages "a registry for tests" docker-registry
	fi
}

# The sanitizer and fuzzer runtimes of the distribution's default clang.
deps_clang_runtime() {
	local version
	apt_lists >&2
	version=$(apt-cache depends clang | sed -n 's/.*Depends: clang-\([0-9][0-9]*\).*/\1/p' | head -n 1)
	echo "libclang-rt-${version:-14}-dev"
}
