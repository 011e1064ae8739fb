# shellcheck shell=bash
# The container engine: the one that is there, used as it is; with none, one is installed.
# Sourced after common.sh.  engine_start sets and exports TES_ENGINE_SOCKET.

# What an engine of our own keeps.  Its own place, so that no other engine's images are touched.
engine_run_dir=/run/tes-engine

engine_answers() {
	[ -S "$1" ] || return 1
	if [ -w "$1" ]; then
		curl -sf -m 5 -o /dev/null --unix-socket "$1" http://engine/_ping
	else
		as_root curl -sf -m 5 -o /dev/null --unix-socket "$1" http://engine/_ping
	fi
}

engine_use() {
	export TES_ENGINE_SOCKET=$1
	say "container engine: $2 at $1"
}

engine_start() {
	local socket
	packages "what talks to the container engine" curl ca-certificates
	if [ -n "${TES_ENGINE_SOCKET:-}" ]; then
		engine_answers "$TES_ENGINE_SOCKET" ||
			die "no engine answers at TES_ENGINE_SOCKET=$TES_ENGINE_SOCKET"
		engine_use "$TES_ENGINE_SOCKET" "as you chose,"
		return
	fi
	case ${DOCKER_HOST:-} in unix://*)
		if engine_answers "${DOCKER_HOST#unix://}"; then
			engine_use "${DOCKER_HOST#unix://}" "as DOCKER_HOST says,"
			return
		fi
		;;
	esac
	for socket in /var/run/docker.sock /run/podman/podman.sock; do
		if engine_answers "$socket"; then
			engine_use "$socket" "running already,"
			return
		fi
	done
	if ! have dockerd && have podman; then
		engine_podman
		return
	fi
	if ! have dockerd; then
		say "no container engine here (neither Docker nor Podman): installing Docker"
		local supervised=''
		! systemd_runs || supervised=yes
		START_SERVICES=$supervised packages "a container engine" docker.io iptables
	fi
	if systemd_runs; then
		engine_answers /var/run/docker.sock || as_root systemctl start docker
		wait_for 60 engine_answers /var/run/docker.sock ||
			die "Docker does not start; see: journalctl -u docker"
		engine_use /var/run/docker.sock "Docker, started by systemd,"
	else
		engine_dockerd
	fi
}

systemd_runs() { [ -d /run/systemd/system ]; }

# Podman has no daemon: its API lives as long as this run.
engine_podman() {
	local socket=$engine_run_dir/podman.sock
	engine_shared "$socket" "Podman," && return
	as_root rm -f "$socket"
	engine_daemon podman podman system service --time=0 "unix://$socket"
	engine_wait podman "$socket" ||
		die "Podman's service does not answer; its last words: $(tail -n 3 "$engine_run_dir/podman.log")"
	engine_use "$socket" "Podman, service started for now,"
}

# dockerd where nothing supervises one (a container, CI, a chroot): with its own socket, data and
# bridge, so that it stands beside whatever else there is.
engine_dockerd() {
	local socket=$engine_run_dir/docker.sock data driver=()
	engine_shared "$socket" "Docker," && return
	packages "the engine's network" iproute2 iptables
	data=$(engine_data_dir)
	# An overlay does not stack on an overlay: then files are copied, which is slow but works.
	[ "$(fs_type "$data")" != overlayfs ] || driver=(--storage-driver=vfs)
	engine_network
	# Not the owner's /etc/docker/daemon.json: it is for the owner's engine.
	echo '{}' | as_root tee "$engine_run_dir/daemon.json" >/dev/null
	engine_daemon dockerd dockerd --host "unix://$socket" --data-root "$data" \
		--exec-root "$engine_run_dir/exec" --pidfile "$engine_run_dir/docker.pid" \
		--bridge "$(cat "$engine_run_dir/bridge")" --config-file "$engine_run_dir/daemon.json" "${driver[@]}"
	engine_wait dockerd "$socket" ||
		die "dockerd does not start; its last words: $(tail -n 3 "$engine_run_dir/dockerd.log")"
	engine_use "$socket" "Docker, started for now,"
}

# Several runs may share the engine that the first of them started.  Each holds a shared lock;
# whoever can take it alone at the end is the last, and ends the engine.
engine_shared() {
	as_root mkdir -p "$engine_run_dir"
	as_root touch "$engine_run_dir/users"
	exec {engine_lock}<"$engine_run_dir/users"
	have flock || return 1
	flock -s "$engine_lock"
	on_exit engine_leave
	if engine_answers "$1"; then
		engine_use "$1" "$2 shared with another run,"
		return
	fi
	return 1
}

engine_leave() {
	local name pid
	flock -n -x "$engine_lock" || return 0
	for name in podman dockerd; do
		pid=$(cat "$engine_run_dir/$name.started" 2>/dev/null) || continue
		# The number may belong to somebody else by now.
		[ "$(cat "/proc/$pid/comm" 2>/dev/null)" != "$name" ] || stop_pid "$pid" 30
		as_root rm -f "$engine_run_dir/$name.started"
	done
	engine_forget_bridge
}

# Not by /sys, which may be that of another network namespace.
engine_bridge_is() { ip link show dev "$1" >/dev/null 2>&1; }

# What engine_network made, and only that: another run may have a bridge beside ours.
engine_forget_bridge() {
	local bridge
	bridge=$(cat "$engine_run_dir/bridge" 2>/dev/null) || return 0
	! engine_bridge_is "$bridge" || as_root ip link del "$bridge"
	engine_forget_rules filter "$bridge"
	engine_forget_rules nat "$bridge"
	as_root rm -f "$engine_run_dir/bridge"
}

# dockerd leaves its packet filter rules behind; those that name our bridge go with it.
engine_forget_rules() {
	local table=$1 bridge=$2 rule
	have iptables || return 0
	as_root iptables -t "$table" -S 2>/dev/null | grep -w -- "$bridge" | while read -r rule; do
		# Split into words on purpose: this is iptables' own notation.
		# shellcheck disable=SC2086
		as_root iptables -t "$table" ${rule/#-A/-D} || true
	done
}

engine_wait() {
	wait_for 60 engine_answers_or_died "$1" "$2" || return 1
	engine_answers "$2"
}
engine_answers_or_died() {
	local pid
	pid=$(cat "$engine_run_dir/$1.started" 2>/dev/null) || return 1
	[ ! -d "/proc/$pid" ] || engine_answers "$2"
}

# engine_daemon NAME COMMAND...: in the background, in a session of its own (Ctrl-C is for us, who
# then end it in order), its process id in NAME.started.
engine_daemon() {
	local name=$1
	shift
	# $1 and $2 are the inner shell's.
	# shellcheck disable=SC2016
	as_root setsid --fork bash -c '
		echo $$ >"$1/$2.started"; name=$2 dir=$1; shift 2
		for fd in /proc/$$/fd/*; do fd=${fd##*/}; [ "$fd" -le 2 ] || eval "exec $fd>&-" 2>/dev/null; done
		exec "$@" </dev/null >"$dir/$name.log" 2>&1' engine "$engine_run_dir" "$name" "$@"
}

fs_type() { stat -f -c %T "$1"; }

# The first of these that is a real file system.
engine_data_dir() {
	local dir
	for dir in /var/lib/tes-engine /var/lib/docker/tes-engine /var/lib/containers/tes-engine; do
		as_root mkdir -p "$dir"
		if [ "$(fs_type "$dir")" != overlayfs ]; then
			echo "$dir"
			return
		fi
		as_root rmdir --ignore-fail-on-non-empty "$dir"
	done
	as_root mkdir -p /var/lib/tes-engine
	echo /var/lib/tes-engine
}

# A bridge with a network that nothing here has a route to; its name is kept for whoever ends the engine.
engine_network() {
	local third number bridge=''
	engine_forget_bridge # of a run that was killed
	for number in 0 1 2 3 4 5 6 7 8 9; do
		bridge=tes-engine$number
		engine_bridge_is "$bridge" || break
	done
	for third in $(seq 30 60); do
		if ! ip -4 route | grep -q "^172\.$third\." && ! ip -4 addr | grep -q "inet 172\.$third\."; then
			echo "$bridge" | as_root tee "$engine_run_dir/bridge" >/dev/null
			as_root ip link add "$bridge" type bridge
			as_root ip addr add "172.$third.0.1/16" dev "$bridge"
			as_root ip link set "$bridge" up
			return
		fi
	done
	die "no free network among 172.30.0.0/16 to 172.60.0.0/16 for the container engine"
}
