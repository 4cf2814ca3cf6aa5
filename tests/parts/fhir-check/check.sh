#!/usr/bin/env bash
# check.sh PROFILES RESOURCES [--warnings]: HL7's validator, offline. Exits 1 if a resource has an error.
set -euo pipefail
. "$(dirname "$0")/../prepare.sh"
if [ "${1:-}" = --prepare ]; then prepare fhir-check FhirCheck; exit 0; fi
: "${2:?usage: check.sh PROFILES RESOURCES [--warnings]}"
prepare fhir-check FhirCheck
exec java -Xmx2g -cp "$PART/classes:$PART/lib/*" FhirCheck "$@"
