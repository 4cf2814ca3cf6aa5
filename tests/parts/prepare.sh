# Sourced by the parts' scripts: prepare NAME MAIN sets PART to a folder with lib/ and classes/.
# Jars come from Maven Central, once; a second call at the same time waits for the first.
prepare() {
  local name=$1 main=$2 here cache stamp
  here=$(cd "$(dirname "${BASH_SOURCE[0]}")/$name" && pwd)
  cache=${MEDIATOR_PARTS_DIR:-$here/../../../target/parts}
  mkdir -p "$cache"
  # A part is known by what it is made from: a change makes a new one.
  stamp=$(cat "$here/pom.xml" "$here/src/main/java/$main.java" | sha256sum | cut -c1-12)
  PART=$(cd "$cache" && pwd)/$name-$stamp
  (
    flock 9
    [ -e "$PART/ready" ] && exit 0
    rm -rf "$PART"
    mvn -q -B -f "$here/pom.xml" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$PART/lib" >&2
    javac -proc:none -cp "$PART/lib/*" -d "$PART/classes" "$here/src/main/java/$main.java" >&2
    touch "$PART/ready"
  ) 9>"$PART.lock"
}
