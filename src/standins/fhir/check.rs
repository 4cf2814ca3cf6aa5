//! What a server refuses of a resource: the required elements of those that we write.
use super::Failure;
use serde_json::Value;

enum Is {
    Object,
    /// One of these codes.
    Code(&'static [&'static str]),
    Text,
}

const REQUEST_STATUS: Is =
    Is::Code(&["draft", "active", "on-hold", "revoked", "completed", "entered-in-error", "unknown"]);
const REQUEST_INTENT: Is = Is::Code(&[
    "proposal",
    "plan",
    "directive",
    "order",
    "original-order",
    "reflex-order",
    "filler-order",
    "instance-order",
    "option",
]);
const TASK_STATUS: Is = Is::Code(&[
    "draft",
    "requested",
    "received",
    "accepted",
    "rejected",
    "ready",
    "cancelled",
    "in-progress",
    "on-hold",
    "failed",
    "completed",
    "entered-in-error",
]);
const TASK_INTENT: Is = Is::Code(&[
    "unknown",
    "proposal",
    "plan",
    "order",
    "original-order",
    "reflex-order",
    "filler-order",
    "instance-order",
    "option",
]);
const ENCOUNTER_STATUS: Is = Is::Code(&[
    "planned",
    "arrived",
    "triaged",
    "in-progress",
    "onleave",
    "finished",
    "cancelled",
    "entered-in-error",
    "unknown",
]);
const OBSERVATION_STATUS: Is = Is::Code(&[
    "registered",
    "preliminary",
    "final",
    "amended",
    "corrected",
    "cancelled",
    "entered-in-error",
    "unknown",
]);
const SUBSCRIPTION_STATUS: Is = Is::Code(&["requested", "active", "error", "off"]);

/// Type, element, and what it must be (the resources' pages under <https://hl7.org/fhir/R4/>).
const REQUIRED: &[(&str, &str, Is)] = &[
    ("ServiceRequest", "status", REQUEST_STATUS),
    ("ServiceRequest", "intent", REQUEST_INTENT),
    ("ServiceRequest", "subject", Is::Object),
    ("Task", "status", TASK_STATUS),
    ("Task", "intent", TASK_INTENT),
    ("Encounter", "status", ENCOUNTER_STATUS),
    ("Encounter", "class", Is::Object),
    ("Observation", "status", OBSERVATION_STATUS),
    ("Observation", "code", Is::Object),
    ("Subscription", "status", SUBSCRIPTION_STATUS),
    ("Subscription", "reason", Is::Text),
    ("Subscription", "criteria", Is::Text),
    ("Subscription", "channel", Is::Object),
    ("Endpoint", "address", Is::Text),
];

/// A resource of this type, with the elements that R4 requires of it.
pub(super) fn check(kind: &str, resource: &Value) -> Result<(), Failure> {
    let said = resource["resourceType"].as_str().unwrap_or_default();
    if said.is_empty() {
        return Err(Failure::new(400, "structure", "Missing required element: 'resourceType'"));
    }
    if said != kind {
        return Err(Failure::new(
            400,
            "processing",
            &format!("Incorrect resource type found, expected \"{kind}\" but found \"{said}\""),
        ));
    }
    for (_, element, is) in REQUIRED.iter().filter(|(of, ..)| *of == kind) {
        element_is(kind, element, is, &resource[*element])?;
    }
    Ok(())
}

fn element_is(kind: &str, element: &str, is: &Is, value: &Value) -> Result<(), Failure> {
    if value.is_null() {
        let text = format!("{kind}.{element}: minimum required = 1, but only found 0");
        return Err(Failure::new(422, "required", &text));
    }
    let right = match is {
        Is::Object => value.is_object(),
        Is::Text => value.is_string(),
        Is::Code(codes) => value.as_str().is_some_and(|code| codes.contains(&code)),
    };
    let text = format!("{kind}.{element}: the value is not of its type or value set");
    if right { Ok(()) } else { Err(Failure::new(422, "value", &text)) }
}
