//! The language as an implementer writes it.
use super::codec::Around;
use super::compile::{All, Compiled, compile, read};
use super::eval::{self, Inputs};
use super::mistake::Mistake;
use super::table::Files;
use fhir_validate::Definitions;
use jiff::tz::TimeZone;
use serde_json::{Value, json};
use std::sync::LazyLock;

struct Beside;

impl Files for Beside {
    fn read(&self, name: &str) -> Result<String, String> {
        match name {
            "reasons.yaml" => {
                Ok("fever: {system: urn:r, code: F, display: Fever}\ncough: {system: urn:r, code: C}\n"
                    .into())
            }
            "choices.csv" => {
                Ok("list_name,name,label::en,label::sw\nyn,yes,Yes,Ndiyo\nyn,no,No,Hapana\nother,x,X,X\n"
                    .into())
            }
            "map.json" => Ok(json!({"resourceType": "ConceptMap", "group": [{"target": "urn:t", "element": [
                {"code": "a", "target": [{"code": "A", "display": "Ay", "equivalence": "equivalent"}]},
                {"code": "b", "target": [{"code": "B", "equivalence": "unmatched"}]}]}]})
            .to_string()),
            other => Err(format!("{other}: there is no such file beside the mappings")),
        }
    }

    fn concept_map(&self, _: &str) -> Option<&Value> {
        None
    }

    fn definitions(&self) -> &Definitions {
        static R4: LazyLock<Definitions> = LazyLock::new(Definitions::r4);
        &R4
    }
}

fn compiled(yaml: &str) -> Result<Compiled, Vec<Mistake>> {
    let parsed = read("m.yaml", "m", yaml)?;
    let mut all = All::new();
    all.insert("m".into(), parsed);
    compile(&all["m"], &all, &Beside)
}

/// A mapping of one record whose fields are `template`.
fn of(template: &str, head: &str) -> Compiled {
    let body: String = template.lines().map(|line| format!("    {line}\n")).collect();
    let yaml = format!(
        "mapping: m\n{head}record:\n  form: F\n  patient_field: p\n  lookup_field: l\n  fields:\n{body}"
    );
    compiled(&yaml).unwrap_or_else(|mistakes| panic!("{}", mistakes[0]))
}

fn around() -> Around<'static> {
    static ZONE: TimeZone = TimeZone::UTC;
    Around { default_country: "KE", time_zone: &ZONE, received: 1_795_467_014_033 }
}

fn out(mapping: &Compiled, doc: &Value) -> Result<Value, String> {
    let message = json!({"received": 1_795_467_014_033_i64});
    let inputs = Inputs::default().with("doc", doc).with("message", &message);
    eval::apply(mapping, inputs, around(), false)
        .map(|output| Value::Object(output.record.unwrap_or_default()))
        .map_err(|failure| format!("{}: {}", failure.path, failure.message))
}

fn back(mapping: &Compiled, fields: &Value) -> Value {
    let read = super::back::read(mapping, &json!({"fields": fields}), around());
    read.get("doc").cloned().unwrap_or_default()
}

/// Out as expected, and back as it went.
fn both(template: &str, head: &str, doc: Value, expected: Value) {
    let mapping = of(template, head);
    assert_eq!(out(&mapping, &doc), Ok(expected.clone()), "{template}");
    assert_eq!(back(&mapping, &expected), doc, "{template}");
}

#[test]
fn values_there_and_back() {
    for (template, doc, expected) in [
        ("a: {path: doc.x}", json!({"x": "1"}), json!({"a": "1"})),
        ("a: {path: doc.x, as: date}", json!({"x": "2026-10"}), json!({"a": "2026-10"})),
        ("a: {path: doc.x, as: month}", json!({"x": "2026-10-01"}), json!({"a": "2026-10"})),
        (
            "a: {path: doc.x, as: position}",
            json!({"x": "-1.31 36.79 1650"}),
            json!({"a": {"latitude": -1.31, "longitude": 36.79, "altitude": 1650}}),
        ),
        (
            "a: {path: doc.x, as: number}",
            json!({"x": "36.60"}),
            json!({"a": serde_json::from_str::<Value>("36.60").expect("a number")}),
        ),
        ("a: {path: doc.x, as: yes_no}", json!({"x": "yes"}), json!({"a": true})),
        ("a: {path: doc.x, as: true_false}", json!({"x": "false"}), json!({"a": false})),
        ("a: {path: doc.x, as: date}", json!({"x": "2026-10-17"}), json!({"a": "2026-10-17"})),
        (
            "a: {path: doc.x, as: epoch_ms}",
            json!({"x": 1_793_181_600_000_i64}),
            json!({"a": "2026-10-28T10:00:00Z"}),
        ),
        ("a: {path: doc.x, as: {prefix: Patient/}}", json!({"x": "7"}), json!({"a": "Patient/7"})),
        ("a: {path: doc.x, as: phone}", json!({"x": "+254712345678"}), json!({"a": "+254712345678"})),
        (
            "a: {path: doc.x, as: name}",
            json!({"x": "Ana Maria Lopes"}),
            json!({"a": {"use": "official", "text": "Ana Maria Lopes", "family": "Lopes", "given": ["Ana", "Maria"]}}),
        ),
        (
            "a: {path: doc.x, as: name_family_first}",
            json!({"x": "Okello Denis"}),
            json!({"a": {"use": "official", "text": "Okello Denis", "family": "Okello", "given": ["Denis"]}}),
        ),
        (
            "a:\n- each: doc.x\n  split: \" \"\n  do: {code: {path: item}}",
            json!({"x": "fever cough"}),
            json!({"a": [{"code": "fever"}, {"code": "cough"}]}),
        ),
        (
            "a:\n- each: doc.x\n  do: {system: phone, value: {path: item.n}}",
            json!({"x": [{"n": "1"}, {"n": "2"}]}),
            json!({"a": [{"system": "phone", "value": "1"}, {"system": "phone", "value": "2"}]}),
        ),
        (
            "a:\n- {system: s1, value: {path: doc.x}}\n- {system: s2, value: {path: doc.y}}",
            json!({"y": "2"}),
            json!({"a": [{"system": "s2", "value": "2"}]}),
        ),
        (
            "a:\n  if: {doc.m: approx}\n  then: {path: doc.x, as: year}\n  else: {path: doc.x, as: date}",
            json!({"m": "approx", "x": "1990-01-01"}),
            json!({"a": "1990"}),
        ),
        (
            "a:\n- leaves: doc.x\n  do: {code: {path: item.path}, value: {path: item.value}}",
            json!({"x": {"b": {"c": "1"}, "d": true}}),
            json!({"a": [{"code": "b.c", "value": "1"}, {"code": "d", "value": true}]}),
        ),
        ("a: {expr: \"doc.x * 2\", back: {doc.x: {expr: value / 2}}}", json!({"x": 4}), json!({"a": 8})),
        ("~path: {path: doc.x}", json!({"x": "1"}), json!({"path": "1"})),
    ] {
        both(template, "", doc, expected);
    }
}

#[test]
fn values_one_way() {
    for (template, doc, expected) in [
        // What was not answered is not there, nor what only it would have filled.
        ("a: {system: phone, value: {path: doc.x}}\nb: fixed", json!({"x": ""}), json!({"b": "fixed"})),
        ("a: {path: doc.x.y.z}\nb: 1", json!({"x": ""}), json!({"b": 1})),
        ("a: {path: doc.x, default: none}", json!({"x": null}), json!({"a": "none"})),
        ("a: {path: [doc.x, doc.y]}", json!({"x": "", "y": "2"}), json!({"a": "2"})),
        (
            "a: {path: doc.x, as: date}",
            json!({"x": "2026-10-23T00:00:00.000-00:00"}),
            json!({"a": "2026-10-23"}),
        ),
        ("a: {path: doc.x, as: date}\nb: 1", json!({"x": "NaN-NaN-01"}), json!({"b": 1})),
        ("a: {path: doc.x, as: phone}", json!({"x": "0712 345 678"}), json!({"a": "+254712345678"})),
        ("a: {path: doc.x, as: days_late}", json!({"x": "2026-11-13"}), json!({"a": 10})),
        ("a: {path: doc.x, as: age_years}", json!({"x": "1990-12-01"}), json!({"a": 35})),
        (
            "a: {by_age: {years: doc.y, months: doc.m, on: doc.on}}",
            json!({"y": "2", "m": "6", "on": "2026-10-17"}),
            json!({"a": "2024-04"}),
        ),
        (
            "a: {by_age: {years: doc.y, on: doc.on}}",
            json!({"y": 30, "on": "2026-10-17"}),
            json!({"a": "1996"}),
        ),
        ("a: {join: [{path: doc.x}, {path: doc.y}, z], with: \"-\"}", json!({"x": "1"}), json!({"a": "1-z"})),
        (
            "a: {path: doc.x, as: concept}",
            json!({"x": [{"text": "T"}, {"coding": [{"display": "D"}]}, {"coding": [{"code": "c"}]}]}),
            json!({"a": "T; D; c"}),
        ),
        (
            "a: {path: doc.x}\nb: {rest: doc, except: [_id]}",
            json!({"_id": "i", "x": "1", "y": {"z": ["2", ""]}}),
            json!({"a": "1", "b": "y.z.0: 2"}),
        ),
        (
            // Codes beside words that were taken, further texts, and of several paths those that were not.
            "a: {path: [doc.x, doc.w], as: concept}\nn:\n  each: doc.n\n  do: {path: item.text}\nb: {rest: doc}",
            json!({"x": [{"text": "T", "coding": [{"system": "urn:s", "code": "c", "display": "T"}]}],
                "w": {"text": "W"}, "n": [{"text": "N", "by": "B"}], "r": {"reference": "#c"}}),
            json!({"a": "T", "n": ["N"], "b": "n.0.by: B\nw.text: W\nx.0.coding.0.code: urn:s|c"}),
        ),
        (
            "a: {if: {\"doc.x[*].y[*].z\": [2, 3]}, then: 1}\nb: {if: {\"doc.x[*].y[*].z\": {not: 2}}, then: 1}",
            json!({"x": [{"y": [{"z": 1}]}, {"y": [{"z": 9}, {"z": 3}]}]}),
            json!({"a": 1, "b": 1}),
        ),
        (
            "a:\n  leaves: doc.fields\n  do: {if: {item.hidden: false}, then: {path: item.name}}",
            json!({"hidden_fields": ["g.h", "k"], "fields": {"g": {"h": {"x": "1"}, "hh": "2"}, "k": "3", "l": [{"m": "4"}]}}),
            json!({"a": ["hh", "m"]}),
        ),
        (
            "a:\n  leaves: doc.fields\n  do: {join: [{path: item.list}, {path: item.number}, {path: item.row.id}], with: \" \"}",
            json!({"fields": {"g": {"l": [{"id": "x"}, {"id": "y"}]}}}),
            json!({"a": ["l 1 x", "l 2 y"]}),
        ),
        ("a: {path: doc.x, as: days_late}", json!({"x": "2026-10"}), json!({"a": 23})),
        ("a: {path: doc.x, as: age_years}", json!({"x": "1992-03"}), json!({"a": 34})),
        ("a: {literal: {path: p}}", json!({}), json!({"a": {"path": "p"}})),
        ("a: {if: {doc.x: {has: b}}, then: 1, else: 2}", json!({"x": "a b"}), json!({"a": 1})),
        (
            "a: {if: {doc.x: [1, \"2\"], not: {doc.y: 1}}, then: 1, else: 2}",
            json!({"x": 1, "y": 1}),
            json!({"a": 2}),
        ),
        ("a: {if: [{doc.x: 1}, {doc.y: {present: false}}], then: 1}", json!({"x": 2}), json!({"a": 1})),
        ("a: {if: {expr: \"doc.x > 1\"}, then: 1}", json!({"x": 2}), json!({"a": 1})),
        ("a: {expr: \"new Date(message.received).getUTCFullYear()\"}", json!({}), json!({"a": 2026})),
    ] {
        assert_eq!(out(&of(template, ""), &doc), Ok(expected), "{template}");
    }
}

#[test]
fn tables_of_every_kind() {
    let head = "tables:\n  sex: {codes: {f: female, female: female, m: male}}\n  reason: {from: reasons.yaml, unmapped: omit}\n  yn: {from: choices.csv, list: yn, language: sw}\n  map: {from: map.json, unmapped: pass}\n  d: {codes: {a: A}, unmapped: {default: other}}\n";
    for (template, code, expected) in [
        ("a: {path: doc.x, table: sex}", "f", json!({"a": "female"})),
        (
            "a: {path: doc.x, table: reason}",
            "fever",
            json!({"a": {"system": "urn:r", "code": "F", "display": "Fever"}}),
        ),
        (
            "a: {path: doc.x, table: reason, give: concept}",
            "fever",
            json!({"a": {"coding": [{"system": "urn:r", "code": "F", "display": "Fever"}], "text": "Fever"}}),
        ),
        ("a: {path: doc.x, table: yn, give: display}", "yes", json!({"a": "Ndiyo"})),
        ("a: {path: doc.x, table: map, give: code}", "a", json!({"a": "A"})),
        ("a: {path: doc.x, table: map, give: code}", "b", json!({"a": "b"})),
    ] {
        assert_eq!(out(&of(template, head), &json!({"x": code})), Ok(expected), "{template}");
    }
    assert_eq!(
        out(&of("a: {path: doc.x, table: reason}\nb: 1", head), &json!({"x": "?"})),
        Ok(json!({"b": 1}))
    );
    assert_eq!(out(&of("a: {path: doc.x, table: d}", head), &json!({"x": "?"})), Ok(json!({"a": "other"})));
    let refused = out(&of("a: {path: doc.x, table: sex}", head), &json!({"x": "Achieng"}));
    assert_eq!(
        refused,
        Err("doc.x: its code is not in the table sex".into()),
        "and does not say what it was"
    );
    // Of several codes that become one, the first comes back; codings by system and code.
    assert_eq!(back(&of("a: {path: doc.x, table: sex}", head), &json!({"a": "female"})), json!({"x": "f"}));
    assert_eq!(
        back(&of("a: {path: doc.x, table: reason}", head), &json!({"a": {"system": "urn:r", "code": "C"}})),
        json!({"x": "cough"})
    );
    assert_eq!(
        back(
            &of("a: {path: doc.x, table: reason}", head),
            &json!({"a": {"system": "urn:other", "code": "C"}})
        ),
        Value::Null
    );
}

#[test]
fn bad_input_is_refused_with_its_path() {
    for (template, doc, expected) in [
        ("a: {path: doc.x, required: true}", json!({"x": " "}), "doc.x: missing or empty"),
        (
            "a: {path: doc.x, as: date}",
            json!({"x": "2026-02-30"}),
            "doc.x: expected a date of the calendar, such as 2026-10-17",
        ),
        ("a: {path: doc.x}", json!({"x": ["1"]}), "doc.x: expected one value, found a list"),
        ("a: {path: doc.x}", json!({"x": {"y": 1}}), "doc.x: expected one value, found an object"),
        ("a: {path: doc.x.y, required: true}", json!({"x": [1]}), "doc.x.y: expected an object on the way"),
        ("a: {path: [doc.x, doc.y]}", json!({"x": {"z": 1}}), "doc.x: expected one value, found an object"),
        (
            "a:\n- each: doc.l\n  do: {value: {path: item.v, as: date}}",
            json!({"l": [{"v": "2026-10-17"}, {"v": "soon"}]}),
            "doc.l[1].v: expected a date of the calendar, such as 2026-10-17",
        ),
        (
            "a:\n- leaves: doc.g\n  do: {path: item.value, as: number}",
            json!({"g": {"h": [{"n": "many"}]}}),
            "doc.g.h[0].n: expected a number",
        ),
        (
            "a: {expr: \"Number(doc.x) * 2\"}",
            json!({"x": "two"}),
            "doc: expr: it gave NaN or Infinity, which is no number",
        ),
        ("a: {path: doc.x, as: number}", json!({"x": "many"}), "doc.x: expected a number"),
        ("a: {path: doc.x, as: yes_no}", json!({"x": "maybe"}), "doc.x: expected yes or no"),
        ("a:\n- each: doc.x\n  do: {path: item}", json!({"x": "1"}), "doc.x: expected a list"),
        ("a: {expr: doc.x.y.z}", json!({}), "doc: expr: it threw TypeError"),
    ] {
        assert_eq!(out(&of(template, ""), &doc), Err(expected.into()), "{template}");
    }
}

#[test]
fn mistakes_name_line_key_and_what_was_expected() {
    let mut wrong: Vec<String> = Vec::new();
    let record = |fields: &str| {
        format!("mapping: m\nrecord:\n  form: F\n  patient_field: p\n  lookup_field: l\n  fields: {fields}\n")
    };
    let entry = |resource: &str| format!("mapping: m\nentries:\n- entry: a\n  resource: {resource}\n");
    for (yaml, line, column, words) in [
        ("mapping: x\n".to_string(), 1, 1, "expected m, the name of the file"),
        ("mapping: m\nwehn: {}\n".into(), 2, 1, "no such key; did you mean when?"),
        ("mapping: m\n".into(), 1, 1, "it makes nothing"),
        (record("{a: {path: doc.x, tabel: t}}"), 6, 29, "no such key; did you mean table?"),
        (record("{a: {path: doc.x, table: t}}"), 6, 29, "there is no table t"),
        (record("{a: {path: doc.x, as: dat}}"), 6, 29, "there is no codec dat; did you mean date?"),
        (record("{a: {path: dox.x}}"), 6, 16, "nothing here is called dox; did you mean doc?"),
        (record("{a: {path: \"doc[\"}}"), 6, 16, "the [ has no ]"),
        (record("{a: {path: doc.x, expr: \"1\"}}"), 6, 12, "one of these at a time: path, expr"),
        (record("{a: {expr: \"doc.x +\"}}"), 6, 1, "not JavaScript"),
        (record("{a: {if: {doc.x: {presnt: true}}, then: 1}}"), 6, 21, "expected a value, a list of values"),
        (record("{a: {each: doc.x}}"), 6, 12, "expected do"),
        (record("{a: {index: item}}"), 6, 16, "no item here is called item"),
        (
            entry("{resourceType: Task, focus: {reference: {ref: b}}}"),
            4,
            54,
            "no entry before this one is called b",
        ),
        (
            entry("{resourceType: Patient, nmae: x}"),
            4,
            1,
            "Patient has no such element in R4; did you mean name?",
        ),
        (
            entry("{resourceType: Task, output: [{if: {doc.x: 1}, then: {valueStrin: y}}]}"),
            4,
            1,
            "Task.output has no such element in R4; did you mean valueString?",
        ),
        (entry("{resourceType: Patiet}"), 4, 1, "no type of resource that is known here"),
        (entry("{resourceType: Patient}\n  profile: http://nowhere"), 5, 3, "no profile has this URL"),
        (
            "mapping: m\nsubject: b\nentries:\n- entry: a\n  resource: {}\n".into(),
            2,
            1,
            "no entry has this name; there are: a",
        ),
        ("mapping: m\nentries:\n- include: other\n".into(), 3, 3, "there is no mapping other"),
        ("mapping: m\nentries:\n- include: m\n".into(), 3, 3, "mappings that include each other"),
        (
            "mapping: m\ntables:\n  t: {from: nowhere.csv}\n".into(),
            3,
            3,
            "nowhere.csv: there is no such file",
        ),
        (
            "mapping: m\ntables:\n  t: {codes: {a: b}, unmapped: ignore}\n".into(),
            3,
            22,
            "ignore is none of these",
        ),
        (
            "mapping: m\nafter: [x]\nentries:\n- entry: a\n  resource: {}\n".into(),
            2,
            9,
            "there is no mapping x",
        ),
        ("mapping: m\nrecord: {form: F}\n".into(), 2, 1, "the key patient_field is missing"),
        ("mapping: m\nafter: [m]\nentries:\n- entry: a\n  resource: {}\n".into(), 2, 1, "only after itself"),
        (record("{a: {path: doc.x, split: \" \"}}"), 6, 29, "it has no effect beside path"),
        (record("{a: {path: doc.x, with: \" \"}}"), 6, 29, "it has no effect beside path"),
        (record("{a: {path: doc.x, do: 1}}"), 6, 29, "it has no effect beside path"),
        (record("{a: {path: doc.x, give: code}}"), 6, 29, "it has no effect without table"),
        (record("{a: {literal: 1, default: 2}}"), 6, 28, "it has no effect beside literal"),
        (
            "mapping: m\ntables:\n  t: {codes: {a: {sytem: u, code: c}}}\n".into(),
            3,
            19,
            "no such key; did you mean system?",
        ),
        ("mapping: m\ntables:\n  t: {codes: {a: [b]}}\n".into(), 3, 15, "expected a code, or {system, code, display}"),
        (record("{a: {path: {x: 1}}}"), 6, 16, "expected one, or a list of them"),
        (record("{a: {path: doc.x, back: 5}}"), 6, 29, "expected false, or paths of the source"),
        (
            "mapping: m\nentries:\n- entry: p\n  resource: {resourceType: Patient}\n- entry: o\n  resource: {resourceType: Observation, encounter: {reference: {ref: p}}}\n".into(),
            6,
            65,
            "p is a Patient; expected a reference to Encounter",
        ),
    ] {
        let mistakes = compiled(&yaml).err().unwrap_or_default();
        let found = mistakes.iter().find(|mistake| mistake.message.contains(words));
        let found = found.unwrap_or_else(|| panic!("{yaml}\n{mistakes:?}\nexpected {words}"));
        wrong.extend((found.at.line != line).then(|| format!("line {line} expected:\n{found}")));
        if column > 1 {
            wrong.extend((found.at.column != column).then(|| format!("{column} expected:\n{found}")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// A report that answers a request.
fn answered(doc: Value) -> (Option<String>, Option<String>) {
    let yaml = "mapping: m
outcome:
  encounter: visit
  answers: {path: doc.of}
  forms: F
  says: outcome
  state: {if: {doc.again: {present: true}}, then: in-progress}
entries:
- entry: visit
  resource: {resourceType: Encounter, identifier: [{system: s, value: {path: doc.id}}]}
- entry: outcome
  resource:
    resourceType: Observation
    identifier: [{system: s, value: {path: doc.id}}]
    valueCodeableConcept: {coding: [{code: {path: doc.said}}]}
";
    let mapping = compiled(yaml).unwrap_or_else(|mistakes| panic!("{}", mistakes[0]));
    let output = eval::apply(&mapping, Inputs::default().with("doc", &doc), around(), false).expect("made");
    (output.outcome, output.state)
}

#[test]
fn an_entry_says_what_came_of_it_and_a_request_may_stay_open() {
    assert_eq!(answered(json!({"id": "1", "said": "moved"})), (Some("moved".into()), None));
    let again = answered(json!({"id": "1", "said": "not_found", "again": "2026-12-01"}));
    assert_eq!(again, (Some("not_found".into()), Some("in-progress".into())));
}

#[test]
fn of_several_entries_of_a_name_one_is_meant() {
    let yaml = "mapping: m
entries:
- entry: child
  each: doc.children
  resource: {resourceType: Patient, identifier: [{system: s, value: {path: item.id}}]}
- entry: answer
  leaves: doc.answers
  resource:
    resourceType: Observation
    identifier: [{system: s, value: {path: item.path}}]
    subject: {reference: {ref: child, of: item.value}}
";
    let mapping = compiled(yaml).unwrap_or_else(|mistakes| panic!("{}", mistakes[0]));
    let doc = json!({"children": [{"id": "x"}, {"id": "y"}], "answers": {"a": "y", "b": "z"}});
    let output = eval::apply(&mapping, Inputs::default().with("doc", &doc), around(), false).expect("made");
    assert_eq!(output.entries[2].resource["subject"]["reference"], output.entries[1].full_url);
    assert!(output.entries[3].resource.get("subject").is_none());
}

#[test]
fn the_trace_names_rule_and_path() {
    let mapping = of("a:\n- {system: phone, value: {path: doc.x, as: phone}}\nb: {path: [doc.y, doc.z]}", "");
    let doc = json!({"x": "0712345678", "z": "1"});
    let output = eval::apply(&mapping, Inputs::default().with("doc", &doc), around(), true).expect("made");
    let told: Vec<String> = output
        .trace
        .iter()
        .map(|t| format!("{} {} {}", t.element, t.origin.at.line, t.from.join(",")))
        .collect();
    assert_eq!(told, ["record.a[0].system 8 ", "record.a[0].value 8 doc.x", "record.b 9 doc.z"]);
}

#[test]
fn the_trace_names_the_item_and_the_entry() {
    let yaml = "mapping: m
entries:
- entry: a
  each: body.list
  resource:
    resourceType: Observation
    status: final
    identifier: [{system: urn:x, value: {path: item.id}}]
    component:
    - each: item.parts
      item: part
      do: {valueString: {path: part.v}, code: {text: x}}
- entry: b
  resource: {resourceType: Patient, identifier: [{system: urn:x, value: {path: body.id}}]}
";
    let mapping = compiled(yaml).unwrap_or_else(|mistakes| panic!("{}", mistakes[0]));
    let body = json!({"id": "p", "list": [{"id": "1"}, {"id": "2", "parts": [{}, {"v": "y"}]}]});
    let output = eval::apply(&mapping, Inputs::default().with("body", &body), around(), true).expect("made");
    let told: Vec<String> =
        output.trace.iter().map(|t| format!("{} {}", t.element, t.from.join(","))).collect();
    for line in [
        "Observation[0].status ",
        "Observation[1].identifier[0].value body.list[1].id",
        "Observation[1].component[0].valueString body.list[1].parts[1].v",
        "Patient.identifier[0].value body.id",
    ] {
        assert!(told.contains(&line.to_string()), "{line}: {told:#?}");
    }
    assert!(!told.iter().any(|line| line.contains('#')), "{told:#?}");
    // What is left out for want of an answer is not told either.
    assert!(!told.iter().any(|line| line.contains("Observation[0].component")), "{told:#?}");
}

#[test]
fn a_path_that_leads_nowhere_is_no_answer() {
    for (template, doc, expected) in [
        ("a: {path: doc.x.y}\nb: 1", json!({"x": "yes"}), json!({"b": 1})),
        ("a: {path: [doc.r.u, doc.u]}", json!({"r": "yes", "u": "1"}), json!({"a": "1"})),
        (
            "a: {path: [doc.notes, doc.g.note]}",
            json!({"notes": {"n": "x"}, "g": {"note": "1"}}),
            json!({"a": "1"}),
        ),
        ("a: {path: doc.notes}\nb: 1", json!({"notes": {"n": ""}}), json!({"b": 1})),
        ("a:\n- each: doc.x.y\n  do: {path: item}\nb: 1", json!({"x": "yes"}), json!({"b": 1})),
        ("a: {rest: doc}\nb: {path: doc.x.y}", json!({"x": "yes"}), json!({"a": "x: yes"})),
    ] {
        assert_eq!(out(&of(template, ""), &doc), Ok(expected), "{template}");
    }
}

#[test]
fn a_group_that_leaves_make_something_of_fails_nothing() {
    let yaml = |more: &str| {
        format!(
            "mapping: m\nentries:\n- entry: a\n  resource:\n    resourceType: Observation\n    identifier: [{{system: u, value: {{path: doc.id}}}}]\n    valueString: {{path: doc.fields.note{more}}}\n- entry: b\n  leaves: doc.fields\n  except: [inputs]\n  resource:\n    resourceType: Observation\n    identifier: [{{system: u, value: {{path: item.path}}}}]\n    valueString: {{path: item.value}}\n"
        )
    };
    let doc = json!({"id": "1", "fields": {"note": {"x": "cough"}, "inputs": {"note": {"y": "z"}}}});
    let made = |yaml: &str| {
        let mapping = compiled(yaml).unwrap_or_else(|mistakes| panic!("{}", mistakes[0]));
        eval::apply(&mapping, Inputs::default().with("doc", &doc), around(), false)
            .map(|output| output.entries.iter().map(|made| made.resource.to_string()).collect::<String>())
            .map_err(|failure| failure.message)
    };
    assert!(made(&yaml("")).expect("made").contains("cough"));
    assert!(made(&yaml(", required: true")).is_err());
    // What `leaves` passes over is not found by it.
    assert!(made(&yaml("").replace("doc.fields.note", "doc.fields.inputs.note")).is_err());
}

#[test]
fn conditions_compare_as_javascript_and_as_written() {
    for (condition, doc, holds) in [
        ("{doc.x: 5}", json!({"x": "5"}), true),
        ("{doc.x: \"5\"}", json!({"x": 5}), true),
        ("{doc.x: 5}", json!({"x": "5.0"}), false),
        ("{doc.x: true}", json!({"x": "true"}), true),
        ("{doc.x: {not: 5}}", json!({"x": "5"}), false),
        ("{expr: \"doc.x.length\"}", json!({"x": ""}), false),
        ("{expr: \"doc.x\"}", json!({"x": ""}), false),
        ("{expr: \"Number(doc.x)\"}", json!({"x": "a"}), false),
        ("{expr: \"doc.x\"}", json!({"x": "0"}), true),
        ("{expr: \"doc.x\"}", json!({"x": []}), true),
    ] {
        let made = out(&of(&format!("a: {{if: {condition}, then: 1, else: 0}}"), ""), &doc);
        assert_eq!(made, Ok(json!({"a": i32::from(holds)})), "{condition}");
    }
}

#[test]
fn names_of_paths_stand_in_any_order() {
    let doc = json!({"fields": {"x": "1"}});
    let mapping = of("a: {path: a.x}", "let: {a: b, b: c.fields, c: doc}\n");
    assert_eq!(out(&mapping, &doc), Ok(json!({"a": "1"})));
    let circle = "mapping: m\nlet: {a: b.x, b: a.y}\nentries:\n- entry: e\n  resource: {}\n";
    let mistakes = compiled(circle).err().unwrap_or_default();
    assert_eq!(mistakes[0].message, "it leads back to itself");
}
