# shellcheck shell=bash
# shellcheck disable=SC2154 # root_dir is common.sh's
# Build trees.  Sourced after common.sh.

# build FOLDER TARGET [MESON OPTION...]: set up once, compile what changed of the target ("programs", "all").
build() {
	local tree=$1 target=$2 log
	shift 2
	log=$(scratch)/build-${tree##*/}.log
	if [ ! -f "$tree/build.ninja" ]; then
		# What an interrupted setup leaves is not a build tree yet.
		rm -rf "$tree"
		meson setup "$@" "$tree" "$root_dir" >"$log" 2>&1 || {
			tail -n 20 "$log" >&2
			die "meson could not set up $tree"
		}
	fi
	build_log=$log
	PROGRESS=build_progress with_progress "build ${tree##*/}" "$log" ninja -C "$tree" "$target" ||
		die "the build in $tree failed; see above"
}
build_progress() { tr '\r' '\n' <"$build_log" | sed -n 's/^\[\([0-9]*\/[0-9]*\)\].*/\1/p' | tail -n 1; }
