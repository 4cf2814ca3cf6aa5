//! The house's rooms, and who may enter which. A room is a folder or file directly in `src`.
// Clippy allows it in test functions only, and helpers of tests are none.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use syn::visit::Visit;

/// A room, and the rooms that it may name. `main` and `lib` name all.
const ALLOWED: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("config", &["domain"]),
    ("translate", &["domain", "config"]),
    ("identity", &["domain"]),
    ("flow", &["domain", "translate", "identity", "config"]),
    ("journal", &["domain", "identity", "flow"]),
    ("systems", &["domain", "config", "flow"]),
    ("standins", &["domain"]),
    ("http", &["domain", "config", "translate", "flow"]),
    (
        "house",
        &[
            "domain",
            "config",
            "translate",
            "identity",
            "flow",
            "journal",
            "systems",
            "standins",
            "http",
            "sandbox",
        ],
    ),
    ("sandbox", &["house", "standins", "config", "domain", "flow"]),
    (
        "cli",
        &[
            "domain",
            "config",
            "translate",
            "identity",
            "flow",
            "journal",
            "systems",
            "standins",
            "http",
            "house",
            "sandbox",
        ],
    ),
];

/// Files in `systems` that all its rooms share.
const SHARED_BY_SYSTEMS: &[&str] = &["client"];

/// Anybody may name these: two do nothing in a release build, the other is two words.
const OPEN_TO_ALL: &[&str] = &["failpoint", "planted", "version"];

/// These have no rooms of their own.
const FREE: &[&str] = &["main", "lib", "failpoint", "planted", "version"];

#[test]
fn no_room_names_one_that_it_must_not_know() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut faults = Vec::new();
    for file in rust_files(&source) {
        let module = module_of(file.strip_prefix(&source).unwrap());
        faults.extend(wrong_arrows(&module, &std::fs::read_to_string(&file).unwrap()));
    }
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

#[test]
fn a_wrong_arrow_is_seen_wherever_it_is_written() {
    let seen = |module: &str, source: &str| wrong_arrows(&path(module), source);
    assert_eq!(seen("domain::plan", "use crate::flow::ports::Head;"), ["domain::plan names flow"]);
    assert_eq!(
        seen("domain", "use crate::{flow::ports, journal as j};"),
        ["domain names flow", "domain names journal"]
    );
    assert_eq!(seen("domain::plan", "use super::super::config;"), ["domain::plan names config"]);
    assert_eq!(
        seen("translate", "fn f() { let _ = crate::journal::Rows::new(); }"),
        ["translate names journal"]
    );
    assert_eq!(seen("flow", "fn f(_: &dyn crate::http::Door) {}"), ["flow names http"]);
    assert_eq!(seen("flow", "fn f() { g!(crate::http::DOOR); }"), ["flow names http"]);
    assert_eq!(seen("domain", "pub use crate::*;"), ["domain names *"]);
    assert_eq!(seen("cellar", ""), ["cellar is no known room"]);
    assert_eq!(seen("cli", "use crate::cli::args; use crate::house;"), [""; 0]);
    assert_eq!(
        seen("flow::retry", "use super::ports; use crate::domain::plan; crate::failpoint::hit!(x);"),
        [""; 0]
    );
}

#[test]
fn rooms_for_systems_never_name_each_other() {
    let seen = |source: &str| wrong_arrows(&path("systems::cht::records"), source);
    assert_eq!(seen("use crate::systems::fhir::Client;"), ["systems::cht::records names systems::fhir"]);
    assert_eq!(seen("use super::super::fhir;"), ["systems::cht::records names systems::fhir"]);
    assert_eq!(seen("use crate::systems::cht::login; use super::login;"), [""; 0]);
    assert_eq!(seen("use crate::systems::client;"), [""; 0]);
    assert_eq!(
        seen("use crate::systems::shared_by_all;"),
        ["systems::cht::records names systems::shared_by_all"]
    );
    assert_eq!(wrong_arrows(&path("systems"), "pub mod a; use crate::systems::cht;"), [""; 0]);
}

#[test]
fn test_only_code_may_name_anything() {
    let source = "#[cfg(test)] mod tests { use crate::journal; } #[cfg(test)] use crate::journal;
        #[cfg(all(test, unix))] fn f() { crate::journal::x() } #[test] fn g() { crate::journal::x() }";
    assert_eq!(wrong_arrows(&path("domain"), source), [""; 0]);
    assert_eq!(
        wrong_arrows(&path("domain"), "#[cfg(not(test))] use crate::journal;"),
        ["domain names journal"]
    );
}

/// Rooms and parts of rooms whose values are of a configurer's files, or invented.
const OF_FILES: &[&str] =
    &["translate::language", "translate::scaffold", "translate::proof", "standins", "sandbox"];

/// What holds a message, a person's identifiers or a secret has no derived `Debug`: a `{:?}` in a log or a panic
/// would tell it. (A test's own `cfg_attr(test, ...)` is in no mediator.)
#[test]
fn what_holds_a_message_or_a_secret_cannot_be_printed() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut faults = Vec::new();
    for file in rust_files(&source) {
        let module = module_of(file.strip_prefix(&source).unwrap()).join("::");
        if !OF_FILES.iter().any(|room| module.starts_with(room)) {
            faults.extend(printable(&module, &std::fs::read_to_string(&file).unwrap()));
        }
    }
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

#[test]
fn what_can_be_printed_is_seen() {
    let seen = |source: &str| printable("flow", source);
    assert_eq!(seen("#[derive(Clone, Debug)] struct A { body: Option<String> }"), ["flow: A prints body"]);
    assert_eq!(seen("#[derive(Debug)] enum A { B { resource: Resource } }"), ["flow: A prints resource"]);
    assert_eq!(seen("#[derive(Debug)] struct A(Vec<serde_json::Value>);"), ["flow: A prints Value"]);
    assert_eq!(seen("#[derive(Debug)] struct A { kept: Vec<u8> }"), ["flow: A prints Vec<u8>"]);
    assert_eq!(
        seen("#[derive(Clone)] struct A { body: Value } #[derive(Debug)] struct B { id: String }"),
        [""; 0]
    );
    assert_eq!(seen("#[cfg_attr(test, derive(Debug))] struct A { body: Value }"), [""; 0]);
}

/// Fields by what is in them, and types that can hold anything.
const UNSPOKEN: &[&str] = &["body", "bytes", "resource", "subjects", "secret", "password"];
const ANYTHING: &[&str] = &["Value", "Bytes", "Vec<u8>"];

fn printable(module: &str, source: &str) -> Vec<String> {
    let file = syn::parse_file(source).unwrap_or_else(|error| panic!("{module}: {error}"));
    let mut printed = Printed::default();
    printed.visit_file(&file);
    printed.found.into_iter().map(|(name, what)| format!("{module}: {name} prints {what}")).collect()
}

#[derive(Default)]
struct Printed {
    found: BTreeSet<(String, String)>,
}

impl Printed {
    fn note<'a>(
        &mut self,
        name: &syn::Ident,
        attributes: &[syn::Attribute],
        fields: impl Iterator<Item = &'a syn::Field>,
    ) {
        let derives = |a: &syn::Attribute| {
            let syn::Meta::List(list) = &a.meta else { return false };
            a.path().is_ident("derive")
                && list.tokens.to_string().split([',', ' ']).any(|derived| derived == "Debug")
        };
        if !attributes.iter().any(derives) {
            return;
        }
        for field in fields {
            let known = field.ident.as_ref().map(ToString::to_string).unwrap_or_default();
            let kind = quote(&field.ty);
            let by_type = ANYTHING.iter().find(|anything| kind.contains(*anything));
            let what = UNSPOKEN.iter().find(|unspoken| known == **unspoken).or(by_type);
            self.found.extend(what.map(|what| (name.to_string(), what.to_string())));
        }
    }
}

/// A type as it is written, without spaces.
fn quote(kind: &syn::Type) -> String {
    struct Words(String);
    impl<'ast> Visit<'ast> for Words {
        fn visit_path_segment(&mut self, segment: &'ast syn::PathSegment) {
            self.0 += &segment.ident.to_string();
            if let syn::PathArguments::AngleBracketed(arguments) = &segment.arguments {
                self.0.push('<');
                self.visit_angle_bracketed_generic_arguments(arguments);
                self.0.push('>');
            }
        }
    }
    let mut words = Words(String::new());
    words.visit_type(kind);
    words.0
}

impl<'ast> Visit<'ast> for Printed {
    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        if !is_for_tests(&module.attrs) {
            syn::visit::visit_item_mod(self, module);
        }
    }

    fn visit_item_struct(&mut self, item: &'ast syn::ItemStruct) {
        self.note(&item.ident, &item.attrs, item.fields.iter());
    }

    fn visit_item_enum(&mut self, item: &'ast syn::ItemEnum) {
        self.note(&item.ident, &item.attrs, item.variants.iter().flat_map(|variant| variant.fields.iter()));
    }
}

fn path(module: &str) -> Vec<String> {
    module.split("::").map(Into::into).collect()
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let entry = entry.expect("an entry").path();
        if entry.is_dir() {
            files.extend(rust_files(&entry));
        } else if entry.extension().is_some_and(|extension| extension == "rs") && !is_test_file(&entry) {
            files.push(entry);
        }
    }
    files.sort();
    files
}

/// `#[cfg(test)] mod tests;` in a file of its own.
fn is_test_file(file: &Path) -> bool {
    file.file_stem().is_some_and(|stem| stem == "tests")
}

/// `flow/ports.rs` is `flow::ports`, `flow/mod.rs` is `flow`.
fn module_of(file: &Path) -> Vec<String> {
    let mut module: Vec<String> =
        file.with_extension("").iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if module.len() > 1 && module.last().is_some_and(|last| last == "mod") {
        module.pop();
    }
    module
}

/// What the source of this module names and must not.
fn wrong_arrows(module: &[String], source: &str) -> Vec<String> {
    let name = module.join("::");
    let room = module[0].as_str();
    if FREE.contains(&room) {
        return Vec::new();
    }
    let Some((_, allowed)) = ALLOWED.iter().find(|(of, _)| *of == room) else {
        return vec![format!("{name} is no known room")];
    };
    let file = syn::parse_file(source).unwrap_or_else(|error| panic!("{name}: {error}"));
    let mut names = Names { module: module.to_vec(), found: BTreeSet::new() };
    names.visit_file(&file);
    let wrong = |path: &Vec<String>| match path.first().map(String::as_str) {
        None => None,
        Some(other) if other == room => wrong_within_systems(module, path),
        Some(other) if allowed.contains(&other) || OPEN_TO_ALL.contains(&other) => None,
        Some(other) => Some(other.to_string()),
    };
    let wrong: BTreeSet<String> = names.found.iter().filter_map(wrong).collect();
    wrong.into_iter().map(|other| format!("{name} names {other}")).collect()
}

/// `systems/{a,b}` don't know each other; `systems/mod.rs` may know them all.
fn wrong_within_systems(module: &[String], path: &[String]) -> Option<String> {
    let (own, other) = (module.get(1)?, path.get(1)?);
    let apart = own != other && !SHARED_BY_SYSTEMS.contains(&other.as_str());
    (module[0] == "systems" && apart).then(|| path[..2].join("::"))
}

/// Collects paths from the crate's root, those that `crate`, `super` and `self` lead to.
struct Names {
    /// The module that is being read.
    module: Vec<String>,
    found: BTreeSet<Vec<String>>,
}

impl Names {
    fn note(&mut self, path: &[String]) {
        let mut absolute = match path.first().map(String::as_str) {
            Some("crate") => Vec::new(),
            Some("super" | "self") => self.module.clone(),
            _ => return,
        };
        for part in path {
            match part.as_str() {
                "crate" | "self" => {}
                "super" => drop(absolute.pop()),
                other => absolute.push(other.into()),
            }
        }
        self.found.insert(absolute);
    }

    fn note_use(&mut self, before: &[String], tree: &syn::UseTree) {
        let with = |name: String| [before, &[name]].concat();
        match tree {
            syn::UseTree::Path(path) => self.note_use(&with(path.ident.to_string()), &path.tree),
            syn::UseTree::Name(name) => self.note(&with(name.ident.to_string())),
            syn::UseTree::Rename(rename) => self.note(&with(rename.ident.to_string())),
            syn::UseTree::Glob(_) => self.note(&with("*".into())),
            syn::UseTree::Group(group) => group.items.iter().for_each(|tree| self.note_use(before, tree)),
        }
    }

    /// A macro's arguments are no syntax yet: every `crate::x` in them counts.
    fn note_tokens(&mut self, tokens: proc_macro2::TokenStream) {
        let mut path = Vec::new();
        for token in tokens {
            match token {
                proc_macro2::TokenTree::Ident(ident) => path.push(ident.to_string()),
                proc_macro2::TokenTree::Punct(punct) if punct.as_char() == ':' => {}
                other => {
                    self.note(&std::mem::take(&mut path));
                    if let proc_macro2::TokenTree::Group(group) = other {
                        self.note_tokens(group.stream());
                    }
                }
            }
        }
        self.note(&path);
    }
}

impl<'ast> Visit<'ast> for Names {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        if !is_for_tests(attributes(item)) {
            syn::visit::visit_item(self, item);
        }
    }

    /// Within `mod x {...}`, `super` is one further down.
    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        self.module.push(module.ident.to_string());
        syn::visit::visit_item_mod(self, module);
        self.module.pop();
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.note_use(&[], &item.tree);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let parts: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.note(&parts);
        syn::visit::visit_path(self, path);
    }

    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {
        // `pub(in super::x)` opens, and names nothing.
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.visit_path(&call.path);
        self.note_tokens(call.tokens.clone());
    }
}

fn attributes(item: &syn::Item) -> &[syn::Attribute] {
    use syn::Item;
    match item {
        Item::Const(i) => &i.attrs,
        Item::Enum(i) => &i.attrs,
        Item::Fn(i) => &i.attrs,
        Item::Impl(i) => &i.attrs,
        Item::Macro(i) => &i.attrs,
        Item::Mod(i) => &i.attrs,
        Item::Static(i) => &i.attrs,
        Item::Struct(i) => &i.attrs,
        Item::Trait(i) => &i.attrs,
        Item::Type(i) => &i.attrs,
        Item::Use(i) => &i.attrs,
        _ => &[],
    }
}

/// `#[test]`, `#[tokio::test]`, `#[cfg(test)]` and `#[cfg(all(test, ...))]`, but not `#[cfg(not(test))]`.
fn is_for_tests(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        if !attribute.path().is_ident("cfg") {
            return attribute.path().segments.last().is_some_and(|last| last.ident == "test");
        }
        let syn::Meta::List(list) = &attribute.meta else { return false };
        let condition = list.tokens.to_string().replace(' ', "");
        condition == "test"
            || (condition.starts_with("all(") && condition[4..].split([',', ')']).any(|c| c == "test"))
    })
}
