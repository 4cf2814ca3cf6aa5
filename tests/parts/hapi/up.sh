#!/usr/bin/env bash
# up.sh PORT: a real HAPI FHIR R4 server at http://127.0.0.1:PORT/fhir, in memory. Prints "ready"
# when it answers, and runs until it is killed. `up.sh --prepare` only fetches and compiles it.
set -euo pipefail
. "$(dirname "$0")/../prepare.sh"
port=${1:?usage: up.sh PORT}
prepare hapi FhirServer
[ "$port" = --prepare ] && exit 0
exec java -Xmx1g -Dorg.slf4j.simpleLogger.defaultLogLevel=warn -cp "$PART/classes:$PART/lib/*" FhirServer "$port"
