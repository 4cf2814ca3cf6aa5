//! docs/MAPPING.md is true: its files are written, its commands are run.
use std::path::Path;
use std::process::Command;

struct Block {
    kind: String,
    /// The file that it is, if it is one.
    file: String,
    text: String,
}

fn blocks(page: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    for line in page.lines() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(info)) => {
                let (kind, file) = info.split_once(' ').unwrap_or((info, ""));
                open = Some(Block { kind: kind.into(), file: file.into(), text: String::new() });
            }
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some(block), None) => {
                block.text.push_str(line);
                block.text.push('\n');
            }
            (None, None) => {}
        }
    }
    blocks
}

/// Output and errors of a command, in that order.
fn run(folder: &Path, command: &str) -> String {
    let binary = Path::new(env!("CARGO_BIN_EXE_cht-fhir-mediator")).parent().expect("a folder");
    let path = format!("{}:{}", binary.display(), std::env::var("PATH").unwrap_or_default());
    let output =
        Command::new("sh").args(["-c", command]).current_dir(folder).env("PATH", path).output().expect("run");
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// `...` stands for anything within a line, and for any lines.
fn is_like(line: &str, expected: &str) -> bool {
    let (line, expected) = (line.trim(), expected.trim());
    let mut rest = line;
    for (i, part) in expected.split("...").enumerate() {
        match rest.find(part) {
            Some(at) if i > 0 || at == 0 => rest = &rest[at + part.len()..],
            _ => return false,
        }
    }
    true
}

#[test]
fn every_example_of_the_manual_holds() {
    let page =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/MAPPING.md")).expect("the page");
    let folder = tempfile::tempdir().expect("a folder");
    let mut commands = 0;
    for block in blocks(&page) {
        if block.kind != "console" {
            assert!(!block.file.is_empty(), "a block of {} without a file: {}", block.kind, block.text);
            let file = folder.path().join(&block.file);
            std::fs::create_dir_all(file.parent().expect("a folder")).expect("made");
            std::fs::write(file, &block.text).expect("written");
            continue;
        }
        let mut said = String::new();
        for line in block.text.lines() {
            if let Some(command) = line.strip_prefix("$ ") {
                said = run(folder.path(), command);
                commands += 1;
            } else {
                let near = said
                    .lines()
                    .filter(|told| told.split([' ', ':']).next() == line.split([' ', ':']).next());
                let near: Vec<&str> = near.collect();
                let held = said.lines().any(|told| is_like(told, line));
                assert!(held, "expected: {line}\nnear: {}\nin:\n{said}", near.join("\n"));
            }
        }
    }
    assert!(commands >= 9, "{commands} commands");
    // And nothing that can be written is left out.
    let schema = cht_fhir_mediator::translate::mapping_schema();
    let schema: serde_json::Value = serde_json::from_str(&schema).expect("JSON");
    for part in [
        "",
        "/$defs/RuleSpec",
        "/$defs/EntrySpec",
        "/$defs/RecordSpec",
        "/$defs/OutcomeSpec",
        "/$defs/TableSpec",
    ] {
        let keys =
            schema.pointer(&format!("{part}/properties")).and_then(|p| p.as_object()).expect("properties");
        for key in keys.keys() {
            let told = [format!("`{key}"), format!("{key}:"), format!("`{{{key}")];
            assert!(
                told.iter().any(|words| page.contains(words.as_str())),
                "{key} is not in docs/MAPPING.md"
            );
        }
    }
    for codec in cht_fhir_mediator::translate::language::codec::NAMES {
        assert!(page.contains(&format!("`{codec}")) || page.contains(&format!("{{{codec}:")), "{codec}");
    }
}
