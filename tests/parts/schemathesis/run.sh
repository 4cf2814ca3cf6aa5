#!/usr/bin/env bash
# run.sh URL USER:SECRET [OPTION...]: tries a running mediator by its own description (URL/openapi.json, or the
# file $DESCRIPTION) with schemathesis. Fails if it finds anything, and says how to repeat it.
# `run.sh --prepare` only fetches it.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${MEDIATOR_PARTS_DIR:-$here/../../../target/parts}
url=${1:?usage: run.sh URL USER:SECRET [OPTION...]}
mkdir -p "$cache"
part=$(cd "$cache" && pwd)/schemathesis-$(sha256sum "$here/requirements.txt" | cut -c1-12)
(
  flock 9
  if [ ! -e "$part/ready" ]; then
    rm -rf "$part"
    python3 -m venv "$part"
    "$part/bin/pip" install -q --disable-pip-version-check -r "$here/requirements.txt" >&2
    touch "$part/ready"
  fi
) 9>"$part.lock"
[ "$url" = --prepare ] && exit 0

checks=not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance
checks+=,response_headers_conformance,ignored_auth,negative_data_rejection,missing_required_header
checks+=,unsupported_method,allow_header_conformance
# It keeps what it found where it runs.
cd "$(mktemp -d)"
trap 'rm -rf "$PWD"' EXIT
"$part/bin/schemathesis" --no-color run "${DESCRIPTION:-$url/openapi.json}" --url "$url" --auth "$2" --checks "$checks" "${@:3}"
