//! Invariants of R4, by key, in Rust: HL7 gives them in FHIRPath
//! (<https://hl7.org/fhir/R4/conformance-rules.html#constraints>).
use serde_json::Value;

/// Whether it holds, and what it says.
pub(crate) type Check = (fn(&Value) -> bool, &'static str);

fn has(value: &Value, key: &str) -> bool {
    value.get(key).is_some()
}

fn all<'v>(value: &'v Value, key: &str) -> impl Iterator<Item = &'v Value> {
    value[key].as_array().into_iter().flatten()
}

fn any_of(value: &Value, keys: &[&str]) -> bool {
    keys.iter().any(|key| has(value, key))
}

fn with_prefix(value: &Value, prefix: &str) -> bool {
    value.as_object().is_some_and(|fields| fields.keys().any(|key| key.starts_with(prefix)))
}

pub(crate) fn check_of(key: &str) -> Option<Check> {
    Some(match key {
        "pat-1" => (
            |v| any_of(v, &["name", "telecom", "address", "organization"]),
            "a contact has at least a name, telecom, address or organization",
        ),
        "org-1" => {
            (|v| any_of(v, &["identifier", "name"]), "an organization has at least an identifier or a name")
        }
        "org-2" => (
            |v| all(v, "address").all(|a| a["use"] != "home"),
            "the address of an organization is never of use home",
        ),
        "org-3" => (
            |v| all(v, "telecom").all(|t| t["use"] != "home"),
            "the telecom of an organization is never of use home",
        ),
        "cpt-2" => (|v| !has(v, "value") || has(v, "system"), "a system is required if a value is given"),
        "per-1" => (|v| in_order(&v["start"], &v["end"]), "start must not be after end"),
        "inv-1" => {
            (|v| in_order(&v["authoredOn"], &v["lastModified"]), "lastModified must not be before authoredOn")
        }
        "qty-3" => {
            (|v| !has(v, "code") || has(v, "system"), "if a code for the unit is given, the system is too")
        }
        "rng-2" => {
            (|v| in_numbers(&v["low"]["value"], &v["high"]["value"]), "low must not be more than high")
        }
        "rat-1" => (
            |v| {
                (has(v, "numerator") == has(v, "denominator")) && (has(v, "numerator") || has(v, "extension"))
            },
            "numerator and denominator, both or none",
        ),
        "att-1" => (|v| !has(v, "data") || has(v, "contentType"), "data needs a contentType"),
        "app-1" => (|v| any_of(v, &["type", "actor"]), "a participant has a type or an actor"),
        "app-2" => (|v| has(v, "start") == has(v, "end"), "start and end, both or none"),
        "app-3" => (
            |v| {
                has(v, "start")
                    || ["proposed", "cancelled", "waitlist"].iter().any(|status| v["status"] == *status)
            },
            "only what is proposed, cancelled or on a waiting list has no start and end",
        ),
        "app-4" => (
            |v| !has(v, "cancelationReason") || v["status"] == "cancelled" || v["status"] == "noshow",
            "only what is cancelled or a no-show has a reason of cancellation",
        ),
        "obs-3" => {
            (|v| any_of(v, &["low", "high", "text"]), "a reference range has at least low, high or text")
        }
        "obs-6" => (
            |v| !has(v, "dataAbsentReason") || !with_prefix(v, "value"),
            "dataAbsentReason only where there is no value",
        ),
        "obs-7" => (
            |v| {
                !with_prefix(v, "value")
                    || all(&v["code"], "coding").all(|own| {
                        all(v, "component").all(|c| {
                            all(&c["code"], "coding")
                                .all(|other| own["code"] != other["code"] || own["system"] != other["system"])
                        })
                    })
            },
            "no value where a component has the same code",
        ),
        "prr-1" => (|v| !has(v, "orderDetail") || has(v, "code"), "orderDetail only with a code"),
        "qrs-1" => (|v| !(has(v, "answer") && has(v, "item")), "items stand below the answer, not beside it"),
        "grp-1" => (|v| !has(v, "member") || v["actual"] == true, "members only where actual is true"),
        "lst-1" => (
            |v| all(v, "entry").all(|e| !has(e, "deleted")) || v["mode"] == "changes",
            "deleted only where mode is changes",
        ),
        "lst-2" => (
            |v| all(v, "entry").all(|e| !has(e, "date")) || v["mode"] == "working",
            "dates only where mode is working",
        ),
        "lst-3" => {
            (|v| !has(v, "emptyReason") || !has(v, "entry"), "emptyReason only where there is no entry")
        }
        "con-4" => (
            |v| {
                !with_prefix(v, "abatement")
                    || all(&v["clinicalStatus"], "coding")
                        .any(|c| matches!(c["code"].as_str(), Some("resolved" | "remission" | "inactive")))
            },
            "what has abated is inactive, resolved or in remission",
        ),
        "dom-2" => {
            (|v| all(v, "contained").all(|c| !has(c, "contained")), "contained resources contain none")
        }
        "dom-4" => (
            |v| all(v, "contained").all(|c| !has(&c["meta"], "versionId") && !has(&c["meta"], "lastUpdated")),
            "contained resources have no versionId and no lastUpdated",
        ),
        "dom-5" => (
            |v| all(v, "contained").all(|c| !has(&c["meta"], "security")),
            "contained resources have no security labels",
        ),
        "dom-3" => (
            every_contained_is_named,
            "a contained resource is referred to from the resource, or refers to it",
        ),
        "txt-1" | "txt-2" => (is_narrative, "expected a div of XHTML with content, without scripts"),
        "tim-1" => (|v| !has(v, "duration") || has(v, "durationUnit"), "duration needs a unit"),
        "tim-2" => (|v| !has(v, "period") || has(v, "periodUnit"), "period needs a unit"),
        "tim-4" => (|v| !is_negative(&v["duration"]), "duration is not negative"),
        "tim-5" => (|v| !is_negative(&v["period"]), "period is not negative"),
        "tim-6" => (|v| !has(v, "periodMax") || has(v, "period"), "periodMax only with a period"),
        "tim-7" => (|v| !has(v, "durationMax") || has(v, "duration"), "durationMax only with a duration"),
        "tim-8" => (|v| !has(v, "countMax") || has(v, "count"), "countMax only with a count"),
        "tim-9" => (
            |v| {
                !has(v, "offset")
                    || (has(v, "when")
                        && all(v, "when").all(|w| !matches!(w.as_str(), Some("C" | "CM" | "CD" | "CV"))))
            },
            "offset only with a when that is no meal",
        ),
        "tim-10" => (|v| !(has(v, "timeOfDay") && has(v, "when")), "timeOfDay or when, not both"),
        "bdl-1" => (
            |v| !has(v, "total") || is_type(v, &["searchset", "history"]),
            "total only in a searchset or history",
        ),
        "bdl-2" => (
            |v| is_type(v, &["searchset"]) || all(v, "entry").all(|e| !has(e, "search")),
            "entry.search only in a searchset",
        ),
        "bdl-3" => (
            |v| {
                all(v, "entry").all(|e| has(e, "request") == is_type(v, &["batch", "transaction", "history"]))
            },
            "entry.request in every entry of a batch, transaction or history, and nowhere else",
        ),
        "bdl-4" => (
            |v| {
                all(v, "entry").all(|e| {
                    has(e, "response") == is_type(v, &["batch-response", "transaction-response", "history"])
                })
            },
            "entry.response in every entry of a batch-response, transaction-response or history, and nowhere else",
        ),
        "bdl-5" => (
            |v| any_of(v, &["resource", "request", "response"]),
            "an entry has a resource, a request or a response",
        ),
        "bdl-7" => (full_urls_are_unique, "each fullUrl stands once, or with another version"),
        "bdl-8" => (
            |v| !v["fullUrl"].as_str().is_some_and(|url| url.contains("/_history/")),
            "a fullUrl names no version",
        ),
        "bdl-9" => (
            |v| {
                !is_type(v, &["document"])
                    || (has(&v["identifier"], "system") && has(&v["identifier"], "value"))
            },
            "a document has an identifier with system and value",
        ),
        "bdl-10" => (|v| !is_type(v, &["document"]) || has(v, "timestamp"), "a document has a timestamp"),
        "bdl-11" => (
            |v| !is_type(v, &["document"]) || v["entry"][0]["resource"]["resourceType"] == "Composition",
            "a document begins with a Composition",
        ),
        "bdl-12" => (
            |v| !is_type(v, &["message"]) || v["entry"][0]["resource"]["resourceType"] == "MessageHeader",
            "a message begins with a MessageHeader",
        ),
        // Checked where the root is known, or of no weight here.
        "ref-1" | "age-1" | "cnt-3" | "dis-1" | "drt-1" | "con-1" | "con-2" | "con-3" | "con-5" => {
            (|_| true, "")
        }
        "exp-1" | "trd-1" | "trd-2" | "trd-3" | "drq-1" | "drq-2" => (|_| true, ""),
        _ => return None,
    })
}

fn is_type(bundle: &Value, types: &[&str]) -> bool {
    bundle["type"].as_str().is_some_and(|own| types.contains(&own))
}

fn full_urls_are_unique(bundle: &Value) -> bool {
    let mut seen = std::collections::HashSet::new();
    all(bundle, "entry")
        .filter_map(|e| Some((e["fullUrl"].as_str()?, e["resource"]["meta"]["versionId"].as_str())))
        .all(|url| seen.insert(url))
}

/// What can be compared and is the wrong way round does not hold.
fn in_order(first: &Value, second: &Value) -> bool {
    let (Some(first), Some(second)) = (first.as_str(), second.as_str()) else { return true };
    match (first.parse::<jiff::Timestamp>(), second.parse::<jiff::Timestamp>()) {
        (Ok(first), Ok(second)) => first <= second,
        _ => {
            let length = first.len().min(second.len()).min(10);
            first.get(..length) <= second.get(..length)
        }
    }
}

fn in_numbers(low: &Value, high: &Value) -> bool {
    match (low.as_f64(), high.as_f64()) {
        (Some(low), Some(high)) => low <= high,
        _ => true,
    }
}

fn is_negative(value: &Value) -> bool {
    value.as_f64().is_some_and(|number| number < 0.0)
}

fn every_contained_is_named(resource: &Value) -> bool {
    if !has(resource, "contained") {
        return true;
    }
    let mut named = std::collections::HashSet::new();
    references(resource, &mut named);
    all(resource, "contained").all(|inner| {
        let own = inner["id"].as_str().is_some_and(|id| named.contains(id));
        let mut back = std::collections::HashSet::new();
        references(inner, &mut back);
        own || back.contains("")
    })
}

/// Ids after `#` in references, canonicals and URIs; `#` alone is the resource.
fn references<'v>(value: &'v Value, found: &mut std::collections::HashSet<&'v str>) {
    match value {
        Value::String(text) => {
            found.extend(text.strip_prefix('#'));
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        Value::Object(fields) => fields.values().for_each(|field| references(field, found)),
        _ => {}
    }
}

/// Elements and attributes of a narrative (txt-1): formatting, and nothing that is run or sent.
const ELEMENTS: &str = "a abbr acronym b big blockquote br caption cite code col colgroup dd dfn div dl dt em h1 h2 h3 h4 h5 h6 \
    hr i img li ol p pre q samp small span strong sub sup table tbody td tfoot th thead tr tt ul var";
const ATTRIBUTES: &str = "abbr accesskey align alt axis bgcolor border cellhalign cellpadding cellspacing cellvalign char \
    charoff charset cite class colspan compact coords dir frame headers height href hreflang hspace id lang longdesc \
    name nowrap rel rev rowspan rules scope shape span src start style summary tabindex title type valign value \
    vspace width";
const XHTML: &str = "http://www.w3.org/1999/xhtml";

fn is_narrative(value: &Value) -> bool {
    let Some(text) = value.as_str() else { return false };
    let text = without_entities(text);
    let Ok(document) = roxmltree::Document::parse(&text) else { return false };
    let root = document.root_element();
    let is_listed = |list: &str, name: &str| list.split(' ').any(|known| known == name);
    let is_allowed = |element: roxmltree::Node| {
        element.tag_name().namespace() == Some(XHTML)
            && is_listed(ELEMENTS, element.tag_name().name())
            && element.attributes().all(|attribute| {
                let (name, address) = (attribute.name(), attribute.value().trim().to_ascii_lowercase());
                is_listed(ATTRIBUTES, name) && !address.starts_with("javascript:")
            })
    };
    let has_content = |node: roxmltree::Node| {
        node.is_element() && node.tag_name().name() == "img"
            || node.is_text() && node.text().is_some_and(|text| !text.trim().is_empty())
    };
    root.tag_name().name() == "div"
        && root.descendants().filter(roxmltree::Node::is_element).all(is_allowed)
        && root.descendants().any(has_content)
}

/// XML knows five entities by name, HTML more: the others are characters here, whichever.
fn without_entities(text: &str) -> String {
    let mut parts = text.split('&');
    let mut plain = parts.next().unwrap_or_default().to_string();
    for part in parts {
        match part.split_once(';') {
            Some((name, rest))
                if name.bytes().all(|b| b.is_ascii_alphanumeric())
                    && name.len() < 10
                    && !matches!(name, "amp" | "lt" | "gt" | "quot" | "apos") =>
            {
                plain.push('\u{a0}');
                plain.push_str(rest);
            }
            _ => {
                plain.push('&');
                plain.push_str(part);
            }
        }
    }
    plain
}
