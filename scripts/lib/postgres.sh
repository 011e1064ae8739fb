# shellcheck shell=bash
# A PostgreSQL of our own for as long as this run lasts.  Sourced after common.sh.
# postgres_start exports TES_TEST_POSTGRES=postgres://tes@127.0.0.1:PORT/tes

postgres_start() {
	local bin data port tries
	bin=$(postgres_programs)
	[ -n "$bin" ] || die "no PostgreSQL server programs: install postgresql"
	data=$(mktemp -d "${TMPDIR:-/tmp}/tes-postgres.XXXXXX")
	on_exit rm -rf "$data"
	# The server refuses to run as root: then it gets its package's user.
	if [ "$(id -u)" -eq 0 ]; then
		chown postgres "$data"
		as_postgres=(setpriv --reuid=postgres --regid=postgres --init-groups)
	else
		as_postgres=()
	fi
	"${as_postgres[@]}" "$bin/initdb" -D "$data/cluster" -U tes -A trust -E UTF8 --locale=C \
		>"$(scratch)/initdb.log" 2>&1 || die "initdb failed: $(tail -n 3 "$(scratch)/initdb.log")"
	for tries in 1 2 3 4 5; do
		port=$((20000 + RANDOM % 30000))
		"${as_postgres[@]}" "$bin/postgres" -D "$data/cluster" -p "$port" \
			-c listen_addresses=127.0.0.1 -c unix_socket_directories="$data" \
			-c max_connections=200 -c autovacuum_naptime=10s >"$(scratch)/postgres.log" 2>&1 &
		postgres_pid=$!
		if wait_for 20 postgres_ready_or_gone "$bin" "$port" && kill -0 "$postgres_pid" 2>/dev/null; then
			on_exit stop_postgres
			"$bin/createdb" -h 127.0.0.1 -p "$port" -U tes tes
			export TES_TEST_POSTGRES="postgres://tes@127.0.0.1:$port/tes"
			say "PostgreSQL $("$bin/postgres" --version | sed 's/.*) //;s/ .*//') on 127.0.0.1:$port"
			return
		fi
		[ "$tries" -lt 5 ] || die "PostgreSQL does not start: $(tail -n 3 "$(scratch)/postgres.log")"
	done
}

# Clients are gone by now; SIGINT is PostgreSQL's fast shutdown, which would not wait for them anyhow.
stop_postgres() {
	kill -INT "$postgres_pid" 2>/dev/null || true
	wait "$postgres_pid" 2>/dev/null || true
}

postgres_ready_or_gone() {
	kill -0 "$postgres_pid" 2>/dev/null || return 0
	"$1/psql" -h 127.0.0.1 -p "$2" -U tes -d postgres -c 'select 1'
}

# The newest server there is: Debian keeps each version's programs off the PATH.
postgres_programs() {
	local found
	found=$(find /usr/lib/postgresql -path '*/bin/postgres' 2>/dev/null | sort -V | tail -n 1)
	[ -n "$found" ] || found=$(command -v postgres || true)
	[ -z "$found" ] || dirname "$(readlink -f "$found")"
}
