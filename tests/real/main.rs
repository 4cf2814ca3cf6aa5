//! Against the real parts: HAPI FHIR, HL7's validator, OpenHIM, schemathesis, CHT's compiler and task engine. Without what
//! they need they are left out, in one line each, unless `MEDIATOR_TEST_PARTS=required`.
mod api;
mod cht_config;
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
    have("npm", what, "Node.js 20 and npm")
}

/// Whether a program is there. If not, says what is left out, or fails where nothing may be.
fn have(program: &str, what: &str, needed: &str) -> bool {
    let status = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if status.is_ok_and(|status| status.success()) {
        return true;
    }
    assert_ne!(std::env::var("MEDIATOR_TEST_PARTS").as_deref(), Ok("required"), "{what} needs {needed}");
    let _ = writeln!(std::io::stderr(), "left out: {what} (needs {needed})");
    false
}

fn part(script: &str) -> Command {
    Command::new(format!("{}/tests/parts/{script}", env!("CARGO_MANIFEST_DIR")))
}
