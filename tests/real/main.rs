//! Against the real parts: HAPI FHIR, and HL7's validator. Without Java and Maven they are left out,
//! in one line each, unless `MEDIATOR_TEST_PARTS=required`.
mod hapi;
mod openhim;
mod validity;
mod verdicts;
#[path = "../it/world.rs"]
#[expect(dead_code, reason = "not all of the other tests' world is needed")]
mod world;

use std::io::Write;
use std::process::{Command, Stdio};

/// Whether Java and Maven are there. If not, says what is left out, or fails where nothing may be.
fn have_java(what: &str) -> bool {
    let runs = |program: &str, argument: &str| {
        let status = Command::new(program).arg(argument).stdout(Stdio::null()).stderr(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    };
    if runs("java", "-version") && runs("javac", "-version") && runs("mvn", "-v") {
        return true;
    }
    assert_ne!(
        std::env::var("MEDIATOR_TEST_PARTS").as_deref(),
        Ok("required"),
        "{what} needs Java 17 and Maven"
    );
    // Not by a macro: the test runner would keep it to itself.
    let _ = writeln!(std::io::stderr(), "left out: {what} (needs Java 17 and Maven)");
    false
}

fn have_node(what: &str) -> bool {
    let npm = Command::new("npm").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if npm.is_ok_and(|status| status.success()) {
        return true;
    }
    assert_ne!(
        std::env::var("MEDIATOR_TEST_PARTS").as_deref(),
        Ok("required"),
        "{what} needs Node.js and npm"
    );
    let _ = writeln!(std::io::stderr(), "left out: {what} (needs Node.js 20 and npm)");
    false
}

fn part(script: &str) -> Command {
    Command::new(format!("{}/tests/parts/{script}", env!("CARGO_MANIFEST_DIR")))
}
