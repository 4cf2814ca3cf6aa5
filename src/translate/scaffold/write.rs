//! A form as the text of a mapping, and as an example of a report.
use super::form::{Form, Kind, Question};
use crate::translate::set::Set;
use serde_json::{Map, Value, json};

/// What some reports of any form are, besides their answers.
const SPECIAL: &[&str] = &["outcome", "referral"];

/// As YAML takes it wherever it stands: JSON's text is YAML's.
fn quoted(text: &str) -> String {
    let is_plain = text.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c))
        && text.starts_with(|c: char| c.is_ascii_alphabetic())
        && !matches!(text, "true" | "false" | "null" | "yes" | "no" | "on" | "off");
    if is_plain { text.into() } else { json!(text).to_string() }
}

/// `claims` are the mappings that serve the form until now.
pub(super) fn mapping(form: &Form, name: &str, claims: &[String], set: &Set) -> String {
    let mut text = String::from("# yaml-language-server: $schema=mapping.schema.json\n");
    let mut line = |words: &str| {
        text.push_str(words);
        text.push('\n');
    };
    line(&format!("mapping: {}", quoted(name)));
    line(&format!("title: {}", json!(format!("{} -> Observations", form.title))));
    line("when:");
    line("  doc.type: data_record");
    line(&format!("  doc.form: {}", quoted(&form.code)));
    if !claims.is_empty() {
        line(&format!(
            "# TODO: until now this form is served by {}. This mapping takes its place, and knows nothing of",
            claims.join(", ")
        ));
        line(
            "# what that does besides (what came of a request, a referral's news); without the line both would.",
        );
        line(&format!(
            "before: [{}]",
            claims.iter().map(|claim| quoted(claim)).collect::<Vec<_>>().join(", ")
        ));
    }
    let after: Vec<&str> = SPECIAL
        .iter()
        .copied()
        .filter(|other| set.get(other).is_some() && !claims.iter().any(|c| c == other) && *other != name)
        .collect();
    if !after.is_empty() {
        line("# A report that is a referral, or an answer to a request, is served as such.");
        line(&format!("after: [{}]", after.join(", ")));
    }
    line("subject: patient");
    let tables: Vec<&Question> =
        form.questions.iter().filter(|q| matches!(q.kind, Kind::One(_) | Kind::Several(_))).collect();
    if !tables.is_empty() {
        line("tables:");
    }
    for question in tables {
        let (Kind::One(choices) | Kind::Several(choices)) = &question.kind else { continue };
        line(&format!("  {}:", quoted(&table(question))));
        line(
            "    # TODO: standard codes (SNOMED CT, LOINC, CIEL) where there are some; what becomes of other codes",
        );
        line(&format!("    system: {}", quoted(&format!("urn:cht:form:{}", form.code))));
        line("    codes:");
        let mut seen = Vec::new();
        for (code, label) in choices.iter().filter(|(code, _)| !code.is_empty()) {
            if !seen.contains(code) {
                line(&format!(
                    "      {}: {{code: {}, display: {}}}",
                    quoted(code),
                    json!(code),
                    json!(label)
                ));
                seen.push(code.clone());
            }
        }
        if seen.is_empty() {
            line("      TODO: TODO");
        }
        line("    unmapped: pass");
    }
    line("entries:");
    line("# Patient, CHW and visit.");
    line("- include: report-frame");
    if form.questions.is_empty() {
        line("# TODO: no question was found in it; what is answered becomes an Observation all the same.");
    }
    for question in &form.questions {
        entry(form, question, &mut line);
    }
    rest(form, &mut line);
    text
}

/// What the form computes, and what it may ask one day: nothing that was answered is left out.
fn rest(form: &Form, line: &mut dyn FnMut(&str)) {
    let mut asked: Vec<String> = super::form::NOT_ASKED.iter().map(ToString::to_string).collect();
    asked.extend(
        form.questions
            .iter()
            .map(|question| question.path[..question.repeat.unwrap_or(question.path.len())].join(".")),
    );
    asked.dedup();
    let asked: Vec<String> = asked.iter().map(|path| quoted(path)).collect();
    let text = format!(
        "# Whatever else is in a report: what the form computes, and what it may ask one day.
- entry: other
  leaves: doc.fields
  except:
  - {}
  write: replace
  resource:
    resourceType: Observation
    identifier:
    - system: urn:cht:report
      value: {{join: [{{path: doc._id}}, {{path: item.path}}], with: \"#\", back: false}}
    status: final
    code:
      coding: [{{system: {}, code: {{path: item.path}}}}]
      text: {{path: item.name, as: label, back: false}}
    subject: {{reference: {{ref: patient}}}}
    encounter: {{reference: {{ref: visit}}}}
    effectiveDateTime: {{path: [doc.reported_date, message.received], as: epoch_ms, back: false}}
    valueString: {{if: {{item.kind: text}}, then: {{path: item.value}}}}
    valueBoolean: {{if: {{item.kind: boolean}}, then: {{path: item.value}}}}
    valueQuantity:
      value: {{if: {{item.kind: number}}, then: {{path: item.value}}}}",
        asked.join("\n  - "),
        quoted(&format!("urn:cht:form:{}", form.code))
    );
    line(&text);
}

fn table(question: &Question) -> String {
    question.path.join("_")
}

fn entry(form: &Form, question: &Question, line: &mut dyn FnMut(&str)) {
    let (each, here) = match question.repeat {
        Some(length) => {
            (Some(question.path[..length].join(".")), format!("item.{}", question.path[length..].join(".")))
        }
        None => (None, format!("doc.fields.{}", question.path.join("."))),
    };
    let here = if here.contains([' ', '[', ':']) || question.path.iter().any(|step| step.contains('.')) {
        return line(&format!("# TODO: {here} (its name needs brackets: doc.fields[\"...\"])"));
    } else {
        here
    };
    let dotted = question.path.join(".");
    line(&format!("# {}", question.label.replace('\n', " ")));
    line(&format!("- entry: {}", quoted(&question.path.join("_"))));
    if let Some(each) = &each {
        line(&format!("  each: doc.fields.{each}"));
    }
    line(&format!("  if: {{{here}: {{present: true}}}}"));
    line("  write: replace");
    line("  resource:");
    line("    resourceType: Observation");
    line("    identifier:");
    line("    - system: urn:cht:report");
    let index = if each.is_some() { ", {index: item}" } else { "" };
    line(&format!(
        "      value: {{join: [{{path: doc._id}}, {}{index}], with: \"#\", back: false}}",
        json!(dotted)
    ));
    line("    status: final");
    line("    code:");
    line("      # TODO: a standard code beside the form's own, if there is one for this question");
    line(&format!(
        "      coding: [{{system: {}, code: {}}}]",
        quoted(&format!("urn:cht:form:{}", form.code)),
        json!(dotted)
    ));
    line(&format!("      text: {}", json!(question.label)));
    line("    subject: {reference: {ref: patient}}");
    line("    encounter: {reference: {ref: visit}}");
    line("    effectiveDateTime: {path: [doc.reported_date, message.received], as: epoch_ms, back: false}");
    for words in value(form, question, &here) {
        line(&format!("    {words}"));
    }
}

/// The lines of `value[x]`.
fn value(form: &Form, question: &Question, path: &str) -> Vec<String> {
    let table = quoted(&table(question));
    match &question.kind {
        Kind::Text => vec![format!("valueString: {{path: {path}}}")],
        Kind::Phone => vec![format!("valueString: {{path: {path}, as: phone}}")],
        Kind::Date => vec![format!("valueDateTime: {{path: {path}, as: date}}")],
        Kind::Instant => vec![format!("valueDateTime: {{path: {path}, as: date_time}}")],
        Kind::Millis => vec![format!("valueDateTime: {{path: {path}, as: epoch_ms}}")],
        Kind::Flag if form.is_app_form => vec![format!("valueBoolean: {{path: {path}, as: true_false}}")],
        Kind::Flag => vec![format!("valueBoolean: {{path: {path}}}")],
        Kind::Number => vec![
            "# TODO: unit, system: http://unitsofmeasure.org and its code, if it has a unit".into(),
            format!("valueQuantity: {{value: {{path: {path}}}}}"),
        ],
        Kind::NumberAsText => vec![
            "# TODO: unit, system: http://unitsofmeasure.org and its code, if it has a unit".into(),
            format!("valueQuantity: {{value: {{path: {path}, as: number}}}}"),
        ],
        Kind::One(_) => {
            vec![format!("valueCodeableConcept: {{path: {path}, table: {table}, give: concept}}")]
        }
        Kind::Several(_) => vec![
            "valueCodeableConcept:".into(),
            "  coding:".into(),
            format!("  - each: {path}"),
            "    split: \" \"".into(),
            "    item: choice".into(),
            format!("    do: {{path: choice, table: {table}}}"),
        ],
    }
}

/// An answer to each question, of nobody.
pub(super) fn example(form: &Form) -> Value {
    let mut fields = Value::Object(Map::new());
    fields["patient_uuid"] = json!("00000000-0000-4000-8000-000000000001");
    for question in &form.questions {
        let answer = match &question.kind {
            Kind::Text => json!("an answer"),
            Kind::Date => json!("2026-10-17"),
            Kind::Instant => json!("2026-10-17T08:00:00.000Z"),
            Kind::Millis => json!(1_792_000_000_000_i64),
            Kind::Number => json!(3),
            Kind::NumberAsText => json!("3"),
            Kind::Flag if form.is_app_form => json!("true"),
            Kind::Flag => json!(true),
            Kind::Phone => json!("+254712000999"),
            Kind::One(choices) => json!(choices.first().map_or("TODO", |(code, _)| code.as_str())),
            Kind::Several(choices) => {
                let codes: Vec<&str> = choices.iter().take(2).map(|(code, _)| code.as_str()).collect();
                json!(codes.join(" "))
            }
        };
        put(&mut fields, &question.path, question.repeat, answer);
    }
    let mut doc = json!({"_id": "00000000-0000-4000-8000-000000000002", "type": "data_record", "form": form.code,
        "reported_date": 1_792_200_000_000_i64, "fields": fields});
    if form.is_app_form {
        doc["content_type"] = json!("xml");
        doc["fields"]["a_computed_one"] = json!("yes");
    }
    json!({"doc": doc})
}

fn put(value: &mut Value, path: &[String], repeat: Option<usize>, answer: Value) {
    let Some((first, rest)) = path.split_first() else {
        *value = answer;
        return;
    };
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    let mut here = &mut value[first.as_str()];
    if repeat == Some(1) {
        if !here.is_array() {
            *here = json!([{}]);
        }
        here = &mut here[0];
    }
    put(here, rest, repeat.and_then(|length| length.checked_sub(1)).filter(|length| *length > 0), answer);
}
