# shellcheck shell=bash
# Container images without a registry and without a client program: a file tree goes through the
# engine's HTTP API, which Docker and Podman share.  Sourced after common.sh.

# The engine's socket may belong to root alone.
engine_api() {
	local socket=${TES_ENGINE_SOCKET:-/var/run/docker.sock} path=$1
	shift
	if [ -w "$socket" ]; then
		curl -sS --fail-with-body --unix-socket "$socket" "$@" "http://engine$path"
	else
		as_root curl -sS --fail-with-body --unix-socket "$socket" "$@" "http://engine$path"
	fi
}

# Podman keeps local images under localhost/ but answers to the short name; both give an Id.
image_id() { engine_api "/images/$1/json" | tr ',{' '[\n*]' | sed -n 's/^"Id":"\([^"]*\)".*/\1/p' | head -n 1; }
image_exists() { engine_api "/images/$1/json" -o /dev/null 2>/dev/null; }

url_encode() {
	local text=$1 i out='' char
	for ((i = 0; i < ${#text}; i++)); do
		char=${text:i:1}
		case $char in
		[a-zA-Z0-9._~/-]) out+=$char ;;
		*) printf -v char '%%%02X' "'$char" && out+=$char ;;
		esac
	done
	printf '%s' "$out"
}

# image_import NAME:TAG TAR [DOCKERFILE-INSTRUCTION...]: one layer, made from TAR.
image_import() {
	local name=$1 tar=$2 query instruction answer
	shift 2
	# The tag goes with the name: Podman does not look at the parameter of its own.
	query="fromSrc=-&repo=$(url_encode "$name")"
	for instruction in "$@"; do
		query+="&changes=$(url_encode "$instruction")"
	done
	# The engine answers 200 and then streams JSON lines, of which one may be an error.
	answer=$(engine_api "/images/create?$query" -X POST -H 'Content-Type: application/x-tar' -T "$tar") ||
		die "the engine refused image $name: $answer"
	case $answer in *'"error"'*) die "the engine could not import $name: $answer" ;; esac
	image_exists "$name" || die "the engine took image $name but does not list it: $answer"
}

# image_build_demo: tes-demo/digits:1, the distribution's Python with scikit-learn.  Made from the
# package sources of this very machine, so it needs nothing that apt does not need already.
image_build_demo() {
	local image=tes-demo/digits:1 started=$SECONDS sources tar
	if image_exists "$image"; then
		say "image $image is there"
		return
	fi
	packages "what makes the image" mmdebstrap gpg
	apt_lists
	sources=$(scratch)/sources.list tar=$(scratch)/image.tar
	distribution_sources >"$sources"
	[ -s "$sources" ] || die "no package source of $(os_release PRETTY_NAME) among apt's: run apt-get update"
	empty_package "$(scratch)/empty" python3-pythran >>"$sources"
	# apt's settings here (proxies, certificates) hold for the image's packages too.
	apt-config dump Acquire | grep -v '^Acquire::Languages' >"$(scratch)/apt.conf" || true

	# Debian 12: without this hook the merged /usr is made by a package that brings all of Perl.
	local hook=/usr/share/mmdebstrap/hooks/maybe-merged-usr merged=()
	[ ! -d "$hook" ] || merged=(--hook-dir="$hook")

	say "making image $image from the packages of $(os_release PRETTY_NAME): Python and scikit-learn"
	# The hooks expand $1 themselves: the folder of the image.
	# shellcheck disable=SC2016
	PROGRESS=image_packages with_progress "image" "$(scratch)/image.log" \
		as_root mmdebstrap --mode=root --variant=essential --format=tar "${merged[@]}" \
		--include=python3-sklearn \
		--aptopt="$(scratch)/apt.conf" \
		--aptopt='Apt::Install-Recommends "false"' \
		--dpkgopt='path-exclude=/usr/share/doc/*' \
		--dpkgopt='path-include=/usr/share/doc/*/copyright' \
		--dpkgopt='path-exclude=/usr/share/man/*' \
		--dpkgopt='path-exclude=/usr/share/info/*' \
		--dpkgopt='path-exclude=/usr/share/locale/*' \
		--customize-hook='find "$1/usr/lib/python3/dist-packages" -type d -name tests -prune -exec rm -rf {} +' \
		--customize-hook='mkdir -p "$1/in" "$1/out"' \
		--customize-hook='rm -rf "$1"/var/cache/* "$1"/var/log/* "$1"/var/lib/apt/lists/*' \
		"$(os_release VERSION_CODENAME)" "$tar" "$sources"
	with_progress "import into the engine" "$(scratch)/import.log" \
		image_import "$image" "$tar" 'CMD ["python3"]' 'WORKDIR /' \
		'ENV PATH=/usr/local/bin:/usr/bin:/bin' 'ENV LANG=C.UTF-8' 'ENV PYTHONUNBUFFERED=1' \
		'LABEL org.opencontainers.image.title="scikit-learn from distribution packages"'
	as_root rm -f "$tar"
	say "image $image made in $((SECONDS - started)) s"
}

# apt's own sources, as it resolved them, without those of third parties.
distribution_sources() {
	local keyring
	for keyring in /usr/share/keyrings/{debian,ubuntu}-archive-keyring.gpg; do
		[ -e "$keyring" ] && break
	done
	# apt expands these, not the shell.
	# shellcheck disable=SC2016
	apt-get indextargets --format '$(ORIGIN) $(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
		sort -u | while read -r origin uri release component; do
		case $origin in
		Debian | Ubuntu) echo "deb [signed-by=$keyring] $uri $release $component" ;;
		esac
	done
}

# empty_package FOLDER NAME: a package source that holds NAME without content, and its line for apt.
# python3-scipy wants python3-pythran, a compiler that it needs only to be built itself and that
# brings g++, Boost and 500 MB.
empty_package() {
	local folder=$1 name=$2 file=$2.deb
	mkdir -p "$folder/$name/DEBIAN"
	cat >"$folder/$name/DEBIAN/control" <<-END
		Package: $name
		Version: 999
		Architecture: all
		Maintainer: nobody <nobody@localhost>
		Description: empty, in place of a package that nothing here uses
	END
	dpkg-deb --root-owner-group -b "$folder/$name" "$folder/$file" >/dev/null
	{
		cat "$folder/$name/DEBIAN/control"
		printf 'Filename: %s\nSize: %s\n' "./$file" "$(stat -c %s "$folder/$file")"
		printf 'SHA256: %s\n' "$(sha256sum "$folder/$file" | cut -d ' ' -f 1)"
	} >"$folder/Packages"
	chmod -R a+rX "$(scratch)"
	printf 'deb [trusted=yes] copy:%s ./\n' "$folder"
}

# For the progress line: what mmdebstrap is doing, and to which package.
image_packages() {
	local log
	log=$(scratch)/image.log
	printf '%s' "$(tr '\r' '\n' <"$log" | sed -n \
		-e 's/^I: \(.*\)\.\.\.$/\1/p' -e 's/^Get:\([0-9]*\) .*/fetched \1 packages/p' \
		-e 's/^\(Unpacking\|Setting up\) \([^ ]*\).*/\1 \2/p' | tail -n 1 | cut -c 1-60)"
}
