#!/usr/bin/env bash
# phone.sh: plays a story (see phone.js) on a CHW's phone that has mediator-config/cht.
# phone.sh --check: compiles mediator-config/cht with cht-conf; fails if it can't be, or if a form's XML is not
# what comes out of its XLSX. `phone.sh --write` writes the XML.
# phone.sh --prepare: only fetches what is needed.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../../.." && pwd)
config=$root/mediator-config/cht
mkdir -p "${MEDIATOR_PARTS_DIR:-$root/target/parts}"
parts=$(cd "${MEDIATOR_PARTS_DIR:-$root/target/parts}" && pwd)
part=$parts/cht-config-$(sha256sum "$here/package-lock.json" | cut -c1-12)

(
  flock 9
  if [ ! -e "$part/ready" ]; then
    rm -rf "$part" && mkdir -p "$part"
    cp "$here/package.json" "$here/package-lock.json" "$part"
    # Without scripts: one of them downloads a browser.
    (cd "$part" && npm ci --ignore-scripts --no-audit --no-fund --silent)
    touch "$part/ready"
  fi
) 9>"$part.lock"
[ "${1:-}" = --prepare ] && exit 0

made=$(mktemp -d)
trap 'rm -rf "$made"' EXIT
mkdir "$made/tmp"
# So that today is the same day here as for whoever judges what was filled.
export TMPDIR=$made/tmp TZ=UTC

# A warning is a mistake, but for those that say what we left out.
cht() {
  (cd "$project" && "$part/node_modules/.bin/cht" --local "$@") >"$made/log" 2>&1 || { cat "$made/log" >&2; exit 1; }
  ! grep -E 'WARN|ERROR' "$made/log" | grep -v 'purge configuration\|require a CHT instance' >&2 ||
    { echo "cht-conf warns" >&2; exit 1; }
}

# Once for all phones.
compiled() {
  project=$parts/cht-config-project-$( (cd "$config" && find . -type f -print0 | sort -z | xargs -0 sha256sum) | sha256sum | cut -c1-12)
  (
    flock 9
    [ -e "$project/ready" ] && exit 0
    rm -rf "$project" && cp -r "$config" "$project"
    cht compile-app-settings
    touch "$project/ready"
  ) 9>"$project.lock"
}

case ${1:-} in
--check)
  project=$made/project
  cp -r "$config" "$project"
  cht compile-app-settings
  cht convert-app-forms
  cht validate-app-forms
  diff -r "$config/forms" "$project/forms" >&2 ||
    { echo "mediator-config/cht/forms is not what its XLSX say: run tests/parts/cht-config/phone.sh --write" >&2; exit 1; }
  echo "mediator-config/cht: $(ls "$config"/forms/app/*.xml | wc -l) app forms"
  ;;
--write)
  project=$made/project
  cp -r "$config" "$project"
  cht convert-app-forms
  cp "$project"/forms/app/*.xml "$config/forms/app"
  ;;
'')
  compiled
  PROJECT=$project NODE_PATH=$part/node_modules node "$here/phone.js"
  ;;
*)
  sed -n '2,5s/^# //p' "$0" >&2
  exit 2
  ;;
esac
