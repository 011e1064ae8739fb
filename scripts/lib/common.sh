# shellcheck shell=bash
# shellcheck disable=SC2034 # variables are for those who source this
# What every script here needs: messages, exit handlers, root, Debian packages.  Sourced, never run.

root_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
	bold=$'\e[1m' dim=$'\e[2m' red=$'\e[31m' green=$'\e[32m' plain=$'\e[0m'
else
	bold='' dim='' red='' green='' plain=''
fi

step() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }
say() { printf '  %s\n' "$*"; }
die() {
	printf '%s%s: %s%s\n' "$red" "${0##*/}" "$*" "$plain" >&2
	exit 1
}
have() { command -v "$1" >/dev/null 2>&1; }

# on_exit COMMAND...: run it when the script ends, last registered first, even if one of them fails.
exit_stack=()
on_exit() {
	local quoted
	printf -v quoted '%q ' "$@"
	exit_stack+=("$quoted")
}
run_exit_stack() {
	local status=$? i
	set +e
	trap '' INT TERM
	[ -z "$progress_pid" ] || as_root kill -TERM -- "-$progress_pid" 2>/dev/null
	for ((i = ${#exit_stack[@]} - 1; i >= 0; i--)); do
		eval "${exit_stack[i]}"
	done
	exit "$status"
}
trap run_exit_stack EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# root_prefix: words that make a command root's, for those that must be one process and no subshell.
root_prefix=()
[ "$(id -u)" -eq 0 ] || root_prefix=(sudo --)

as_root() {
	if [ "$(id -u)" -eq 0 ]; then
		"$@"
	elif have sudo; then
		sudo -- "$@"
	else
		die "'$1' needs root: run this as root, or install sudo"
	fi
}

# stop_pid PID [SECONDS]: ask it to end, wait, then insist.  A process that is gone already is fine.
stop_pid() {
	local pid=$1 tries=$((${2:-10} * 10))
	as_root kill -TERM "$pid" 2>/dev/null || return 0
	while [ "$tries" -gt 0 ] && as_root kill -0 "$pid" 2>/dev/null; do
		# A child of this shell stays a zombie until it is waited for.
		[ "$(ps_state "$pid")" = Z ] && break
		sleep 0.1
		tries=$((tries - 1))
	done
	[ "$tries" -gt 0 ] || as_root kill -KILL "$pid" 2>/dev/null || true
	wait "$pid" 2>/dev/null || true
}
ps_state() { sed -n 's/^State:[[:space:]]*\(.\).*/\1/p' "/proc/$1/status" 2>/dev/null || true; }

# wait_for SECONDS COMMAND...: until it succeeds.  1 if the time runs out.
wait_for() {
	local deadline=$((SECONDS + $1))
	shift
	until "$@" >/dev/null 2>&1; do
		[ "$SECONDS" -lt "$deadline" ] || return 1
		sleep 0.1
	done
}

# with_progress TITLE LOG COMMAND...: run it with its output in LOG and show that it is alive.
# PROGRESS may name a function that prints how far it is.
with_progress() {
	local title=$1 log=$2 started=$SECONDS shown=0 pid status=0
	shift 2
	# sudo asks for its password now, in front, and not in the background.
	[ ${#root_prefix[@]} -eq 0 ] || ! have sudo || sudo -v
	# A process group of its own, so that all of it can be ended with us.
	set -m
	"$@" </dev/null >"$log" 2>&1 &
	set +m
	pid=$! progress_pid=$!
	while kill -0 "$pid" 2>/dev/null; do
		if [ -t 1 ]; then
			printf '\r  %s %s%s%s\e[K' "$title" "$dim" "$(progress_text $((SECONDS - started)))" "$plain"
		elif [ $((SECONDS - started)) -ge $((shown + 10)) ]; then
			shown=$((SECONDS - started))
			say "$title $(progress_text "$shown")"
		fi
		sleep 0.3
	done
	wait "$pid" || status=$?
	progress_pid=''
	[ ! -t 1 ] || printf '\r\e[K'
	if [ "$status" -ne 0 ]; then
		say "$title failed; its last words:" >&2
		tail -n 20 "$log" >&2
		return "$status"
	fi
	say "$title done, $((SECONDS - started)) s"
}
progress_pid=''
progress_text() { printf '%s%d s' "${PROGRESS:+$("$PROGRESS"), }" "$1"; }

os_release() { (. /etc/os-release && printf '%s' "${!1:-}"); }

# packages WHY NAME...: install those that are missing, and say which.  Debian and Ubuntu.
packages() {
	local why=$1 name missing=()
	shift
	for name in "$@"; do
		[ "$(dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null)" = installed ] || missing+=("$name")
	done
	[ ${#missing[@]} -gt 0 ] || return 0
	have apt-get || die "needs these packages, and there is no apt-get to install them: ${missing[*]}"
	say "installing $why: ${missing[*]}"
	apt_lists
	with_services_held with_progress "packages" "$(scratch)/apt.log" \
		as_root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=600 \
		install -y --no-install-recommends "${missing[@]}"
}

package_known() { apt-cache show "$1" >/dev/null 2>&1; }

# Fetch the package lists when there are none, or none from the last day.
apt_lists() {
	[ -z "${apt_lists_done:-}" ] || return 0
	apt_lists_done=yes
	if [ -z "$(find /var/lib/apt/lists -maxdepth 1 -name '*_Packages*' -mtime -1 -print -quit 2>/dev/null)" ]; then
		with_progress "package lists" "$(scratch)/apt-update.log" \
			as_root apt-get -o DPkg::Lock::Timeout=600 update
	fi
}

# A package that brings a server (PostgreSQL, a registry) must not start it behind the owner's back:
# policy-rc.d is Debian's switch for that.  An existing one is left alone.
with_services_held() {
	local policy=/usr/sbin/policy-rc.d status=0
	if [ -n "${START_SERVICES:-}" ] || [ -e "$policy" ]; then
		"$@"
		return
	fi
	printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
	as_root chmod 755 "$policy"
	"$@" || status=$?
	as_root rm -f "$policy"
	return "$status"
}

# A private directory for this run, gone at its end.
scratch() { printf '%s' "$scratch_dir"; }
scratch_dir=$(mktemp -d "${TMPDIR:-/tmp}/tes.XXXXXX")
on_exit rm -rf "$scratch_dir"
