#!/usr/bin/env bash
# compile.sh [--check]: compiles fhir-profiles/fsh with SUSHI; the JSON beside it is the result.
# --check: fails if what is there is not what comes out.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../../.." && pwd)
mkdir -p "${MEDIATOR_PARTS_DIR:-$root/target/parts}"
parts=$(cd "${MEDIATOR_PARTS_DIR:-$root/target/parts}" && pwd)
part=$parts/fsh-$(sha256sum "$here/package-lock.json" | cut -c1-12)

# R4's definitions as the package that SUSHI looks for, so that it needs no network.
prepare() {
  [ -e "$part/ready" ] && return
  rm -rf "$part" && mkdir -p "$part"
  cp "$here/package.json" "$here/package-lock.json" "$part"
  (cd "$part" && npm ci --no-audit --no-fund --silent)
  local core="$part/home/.fhir/packages/hl7.fhir.r4.core#4.0.1/package"
  mkdir -p "$core"
  (cd "$part/node_modules/hl7.fhir.r4.examples" &&
    find . -name '*-*.json' \( -name 'StructureDefinition-*' -o -name 'ValueSet-*' -o -name 'CodeSystem-*' \
      -o -name 'ConceptMap-*' -o -name 'OperationDefinition-*' -o -name 'SearchParameter-*' \) -exec cp {} "$core" \;)
  echo '{"name":"hl7.fhir.r4.core","version":"4.0.1","fhirVersions":["4.0.1"],"type":"fhir.core"}' >"$core/package.json"
  touch "$part/ready"
}

(
  flock 9
  prepare
) 9>"$part.lock"

made=$(mktemp -d)
trap 'rm -rf "$made"' EXIT
cp -r "$root/fhir-profiles/fsh" "$made/fsh"
HOME="$part/home" "$part/node_modules/.bin/sushi" build --snapshot "$made/fsh" >"$made/log" 2>&1 ||
  { grep -A2 '^error' "$made/log" >&2; exit 1; }
mkdir -p "$made/profiles/examples"
for file in "$made"/fsh/fsh-generated/resources/*.json; do
  case $(basename "$file") in
  StructureDefinition-* | ValueSet-* | CodeSystem-* | ConceptMap-* | NamingSystem-* | CapabilityStatement-* | Measure-*)
    cp "$file" "$made/profiles" ;;
  *) cp "$file" "$made/profiles/examples" ;;
  esac
done

if [ "${1:-}" = --check ]; then
  diff -rq --exclude=fsh --exclude=README.md "$root/fhir-profiles" "$made/profiles" ||
    { echo "fhir-profiles is not what its FSH says: run tests/parts/fsh/compile.sh" >&2; exit 1; }
else
  rm -rf "$root"/fhir-profiles/*.json "$root/fhir-profiles/examples"
  cp -r "$made"/profiles/* "$root/fhir-profiles"
fi
echo "fhir-profiles: $(ls "$made"/profiles/*.json | wc -l) definitions, $(ls "$made"/profiles/examples | wc -l) examples"
