//! Faults that are found, each with its code and place, and none else.
use fhir_validate::Definitions;
use proptest::prelude::*;
use serde_json::{Value, json};

fn found(definitions: &Definitions, resource: &Value, profile: Option<&str>) -> Vec<String> {
    definitions
        .validate(resource, profile)
        .iter()
        .map(|issue| format!("{} {}", issue.code, issue.expression))
        .collect()
}

/// A Patient with these fields besides.
fn patient(more: Value) -> Value {
    with(json!({"resourceType": "Patient", "name": [{"text": "A"}]}), more)
}

fn observation(more: Value) -> Value {
    with(json!({"resourceType": "Observation", "status": "final", "code": {"text": "x"}}), more)
}

fn request(more: Value) -> Value {
    with(
        json!({"resourceType": "ServiceRequest", "status": "active", "intent": "order", "subject": {"reference": "Patient/1"}}),
        more,
    )
}

fn narrative(content: &str) -> Value {
    let div = format!("<div xmlns=\"http://www.w3.org/1999/xhtml\">{content}</div>");
    patient(json!({"text": {"status": "generated", "div": div}}))
}

fn bundle(kind: &str, entries: Value) -> Value {
    json!({"resourceType": "Bundle", "type": kind, "entry": entries})
}

/// Lays `more` over; null takes away.
fn with(mut resource: Value, more: Value) -> Value {
    for (key, value) in more.as_object().into_iter().flatten() {
        let fields = resource.as_object_mut().expect("an object");
        match value {
            Value::Null => {
                fields.remove(key);
            }
            value => {
                fields.insert(key.clone(), value.clone());
            }
        }
    }
    resource
}

#[test]
fn each_fault_is_found_where_it_is() {
    let definitions = Definitions::r4();
    let mut wrong: Vec<String> = Vec::new();
    let big: Value = serde_json::from_str("1.0").expect("a number");
    for (resource, expected) in [
        // Right ones first.
        (
            patient(
                json!({"birthDate": "1992-03", "_birthDate": {"extension": [{"url": "urn:x", "valueBoolean": true}]}}),
            ),
            vec![],
        ),
        (
            patient(
                json!({"name": [{"given": [null, "A"], "_given": [{"extension": [{"url": "urn:x", "valueString": "x"}]}, null]}]}),
            ),
            vec![],
        ),
        (patient(json!({"extension": [{"url": "urn:any", "valueString": "x"}]})), vec![]),
        (
            request(
                json!({"subject": {"reference": "#p"}, "contained": [{"resourceType": "Patient", "id": "p"}]}),
            ),
            vec![],
        ),
        (request(json!({"subject": {"identifier": {"system": "s", "value": "v"}}})), vec![]),
        (request(json!({"subject": {"reference": "Patient?identifier=s|v"}})), vec![]),
        // What is not there, or too often.
        (observation(json!({"status": null})), vec!["required Observation.status"]),
        (
            observation(json!({"code": null, "status": null})),
            vec!["required Observation.status", "required Observation.code"],
        ),
        (request(json!({"subject": null})), vec!["required ServiceRequest.subject"]),
        (
            json!({"resourceType": "Endpoint", "status": "active", "address": "http://x", "connectionType": {"code": "x"}}),
            vec!["required Endpoint.payloadType"],
        ),
        (
            json!({"resourceType": "Encounter", "status": "finished", "class": {"code": "HH"}, "location": [{}]}),
            vec!["structure Encounter.location[0]"],
        ),
        (
            json!({"resourceType": "Encounter", "status": "finished", "class": {"code": "HH"}, "location": [{"status": "active"}]}),
            vec!["required Encounter.location[0].location"],
        ),
        // An id alone is nothing, and only primitives have companions.
        (
            observation(json!({"code": null, "_code": {"id": "x"}})),
            vec!["structure Observation._code", "required Observation.code"],
        ),
        (observation(json!({"status": null, "_status": {"id": "x"}})), vec!["invariant Observation._status"]),
        (observation(json!({"code": {"id": "x"}})), vec!["invariant Observation.code"]),
        (observation(json!({"_valueQuantity": {"id": "x"}})), vec!["structure Observation._valueQuantity"]),
        (
            patient(json!({"name": [{"given": [null, "A"], "_given": [{"id": "x"}, null]}]})),
            vec!["invariant Patient.name[0]._given[0]"],
        ),
        (patient(json!({"id": "x", "name": null})), vec![]),
        (
            patient(json!({"name": [{"resourceType": "HumanName", "text": "A"}]})),
            vec!["structure Patient.name[0].resourceType"],
        ),
        (
            patient(json!({"contact": [{"resourceType": "X", "name": {"text": "A"}}]})),
            vec!["structure Patient.contact[0].resourceType"],
        ),
        // Narratives.
        (
            narrative("<p>Achieng&nbsp;<b>was</b> seen</p><table class='a'><tr><td>1</td></tr></table>"),
            vec![],
        ),
        (narrative("<img src='#a' alt='a'/>"), vec![]),
        (narrative("<a href='http://x'>x</a><script>x</script>"), vec!["invariant Patient.text.div"]),
        (narrative("<p onclick='x()'>x</p>"), vec!["invariant Patient.text.div"]),
        (narrative("<a href=' JavaScript:x()'>x</a>"), vec!["invariant Patient.text.div"]),
        (narrative("<input value='x'/>x"), vec!["invariant Patient.text.div"]),
        (narrative("<p>x"), vec!["invariant Patient.text.div"]),
        (narrative("<p> </p>"), vec!["invariant Patient.text.div"]),
        (
            patient(json!({"text": {"status": "generated", "div": "<div>x</div>"}})),
            vec!["invariant Patient.text.div"],
        ),
        // Addresses.
        (request(json!({"subject": {"reference": "https://hris.org/Staff/77"}})), vec![]),
        (
            request(json!({"subject": {"reference": "https://hris.org/Practitioner/77"}})),
            vec!["structure ServiceRequest.subject.reference"],
        ),
        // Forms.
        (patient(json!({"name": {"text": "A"}})), vec!["structure Patient.name"]),
        (patient(json!({"gender": ["male"]})), vec!["structure Patient.gender"]),
        (patient(json!({"name": []})), vec!["structure Patient.name"]),
        (patient(json!({"maritalStatus": {}})), vec!["structure Patient.maritalStatus"]),
        (with(patient(json!({})), json!({"name": [null]})), vec!["structure Patient.name[0]"]),
        (json!({"resourceType": "Patient", "active": Value::Null}), vec!["structure Patient.active"]),
        (patient(json!({"nmae": "x"})), vec!["structure Patient.nmae"]),
        (patient(json!({"name": [{"familly": "x"}]})), vec!["structure Patient.name[0].familly"]),
        (
            patient(json!({"contact": [{"name": {"txt": "x"}}]})),
            vec!["structure Patient.contact[0].name.txt"],
        ),
        (
            patient(json!({"managingOrganization": "Organization/1"})),
            vec!["structure Patient.managingOrganization"],
        ),
        (json!({"resourceType": "Medication"}), vec!["not-supported Medication.resourceType"]),
        (json!({"resourceType": 5}), vec!["structure Resource.resourceType"]),
        // Primitives.
        (patient(json!({"active": "true"})), vec!["structure Patient.active"]),
        (patient(json!({"birthDate": "2026-02-30"})), vec!["value Patient.birthDate"]),
        (patient(json!({"birthDate": "74-2"})), vec!["value Patient.birthDate"]),
        (patient(json!({"birthDate": 1990})), vec!["structure Patient.birthDate"]),
        (patient(json!({"deceasedDateTime": "2026-10-10T10:00:00"})), vec!["value Patient.deceasedDateTime"]),
        (patient(json!({"multipleBirthInteger": big})), vec!["value Patient.multipleBirthInteger"]),
        (patient(json!({"name": [{"text": " "}]})), vec!["value Patient.name[0].text"]),
        (patient(json!({"id": "a b"})), vec!["value Patient.id"]),
        (
            patient(json!({"telecom": [{"system": "phone", "value": "1", "rank": 0}]})),
            vec!["value Patient.telecom[0].rank"],
        ),
        (
            patient(json!({"photo": [{"contentType": "image/png", "data": "a"}]})),
            vec!["value Patient.photo[0].data"],
        ),
        (observation(json!({"issued": "2026-10-10"})), vec!["value Observation.issued"]),
        (observation(json!({"valueTime": "25:00:00"})), vec!["value Observation.valueTime"]),
        (
            observation(json!({"valueQuantity": {"value": "1.1"}})),
            vec!["structure Observation.valueQuantity.value"],
        ),
        (patient(json!({"implicitRules": "a b"})), vec!["value Patient.implicitRules"]),
        // Codes.
        (patient(json!({"gender": "femal"})), vec!["code-invalid Patient.gender"]),
        (request(json!({"status": "Active"})), vec!["code-invalid ServiceRequest.status"]),
        (
            patient(json!({"link": [{"other": {"reference": "Patient/2"}, "type": "same"}]})),
            vec!["code-invalid Patient.link[0].type"],
        ),
        // Choices.
        (
            observation(json!({"valueString": "a", "valueBoolean": true})),
            vec!["structure Observation.valueString"],
        ),
        (observation(json!({"valueDecimal": 1})), vec!["structure Observation.valueDecimal"]),
        (
            patient(json!({"deceasedBoolean": true, "deceasedDateTime": "2026"})),
            vec!["structure Patient.deceasedDateTime"],
        ),
        // References.
        (
            request(json!({"subject": {"reference": "Practitioner/1"}})),
            vec!["structure ServiceRequest.subject.reference"],
        ),
        (
            request(json!({"subject": {"type": "Organization", "identifier": {"value": "1"}}})),
            vec!["structure ServiceRequest.subject.type"],
        ),
        (
            request(json!({"subject": {"reference": "#nobody"}})),
            vec!["invariant ServiceRequest.subject.reference"],
        ),
        (
            request(json!({"encounter": {"reference": "http://x/fhir/Patient/1/_history/2"}})),
            vec!["structure ServiceRequest.encounter.reference"],
        ),
        // Companions.
        (patient(json!({"_gender": {"valu": 1}})), vec!["structure Patient._gender.valu"]),
        (
            patient(
                json!({"name": [{"given": ["A"], "_given": [null, {"extension": [{"url": "urn:x", "valueString": "x"}]}]}]}),
            ),
            vec!["structure Patient.name[0]._given"],
        ),
        (patient(json!({"extension": [{"url": "urn:x"}]})), vec!["invariant Patient.extension[0]"]),
        (patient(json!({"extension": [{"valueString": "x"}]})), vec!["required Patient.extension[0].url"]),
        // Invariants.
        (patient(json!({"contact": [{"gender": "male"}]})), vec!["invariant Patient.contact[0]"]),
        (
            patient(json!({"name": [{"text": "A", "period": {"start": "2026-02", "end": "2026-01"}}]})),
            vec!["invariant Patient.name[0].period"],
        ),
        (patient(json!({"telecom": [{"value": "1"}]})), vec!["invariant Patient.telecom[0]"]),
        (
            observation(json!({"valueString": "a", "dataAbsentReason": {"text": "b"}})),
            vec!["invariant Observation"],
        ),
        (
            observation(json!({"referenceRange": [{"appliesTo": [{"text": "x"}]}]})),
            vec!["invariant Observation.referenceRange[0]"],
        ),
        (
            observation(json!({"valueQuantity": {"value": 1, "code": "kg"}})),
            vec!["invariant Observation.valueQuantity"],
        ),
        (
            patient(json!({"contained": [{"resourceType": "Organization", "id": "o", "name": "x"}]})),
            vec!["invariant Patient"],
        ),
        (json!({"resourceType": "Organization", "active": true}), vec!["invariant Organization"]),
        (
            json!({"resourceType": "Task", "status": "requested", "intent": "order", "authoredOn": "2026-02-02", "lastModified": "2026-02-01"}),
            vec!["invariant Task"],
        ),
        (
            patient(json!({"text": {"status": "generated", "div": "<div><script>x</script></div>"}})),
            vec!["invariant Patient.text.div"],
        ),
        // Bundles.
        (bundle("transaction", json!([{"resource": {"resourceType": "Patient"}}])), vec!["invariant Bundle"]),
        (
            bundle("collection", json!([{"resource": {"resourceType": "Patient", "gender": "x"}}])),
            vec!["code-invalid Bundle.entry[0].resource.gender"],
        ),
        (
            bundle(
                "collection",
                json!([{"fullUrl": "urn:uuid:1", "resource": {"resourceType": "Patient"}}, {"fullUrl": "urn:uuid:1", "resource": {"resourceType": "Patient"}}]),
            ),
            vec!["invariant Bundle"],
        ),
        (
            bundle(
                "collection",
                json!([{"fullUrl": "urn:uuid:0c3151bd-1cbf-4d64-b04d-cd9187a4c6e0", "resource": {"resourceType": "Organization", "name": "x"}},
            {"resource": request(json!({"subject": {"reference": "urn:uuid:0c3151bd-1cbf-4d64-b04d-cd9187a4c6e0"}}))}]),
            ),
            vec!["structure Bundle.entry[1].resource.subject.reference"],
        ),
        (
            bundle(
                "transactions",
                json!([{"resource": {"resourceType": "Patient"}, "request": {"method": "PUTT", "url": "Patient"}}]),
            ),
            vec![
                "code-invalid Bundle.entry[0].request.method",
                "code-invalid Bundle.type",
                "invariant Bundle",
            ],
        ),
    ] {
        let told = found(&definitions, &resource, None);
        wrong.extend((told != expected).then(|| format!("{resource}: {told:?}, expected {expected:?}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_message_quotes_a_value() {
    let definitions = Definitions::r4();
    let secret = "Achieng";
    for resource in [
        patient(
            json!({"gender": secret, "birthDate": secret, "active": secret, "multipleBirthInteger": secret}),
        ),
        request(json!({"status": secret, "subject": {"reference": secret, "type": secret}})),
        json!({"resourceType": secret}),
        patient(json!({"Achieng Otieno was here": 1, "_Achieng Otieno": 1})),
    ] {
        for issue in definitions.validate(&resource, None) {
            assert!(!issue.message.contains(secret), "{issue}");
            assert!(!issue.expression.contains("Otieno"), "{issue}");
        }
    }
}

/// A profile as SUSHI makes one: slices, fixed and pattern values, a required binding, what is forbidden.
fn own() -> Definitions {
    let extension = json!({"resourceType": "StructureDefinition", "url": "http://o/ext", "type": "Extension", "snapshot": {"element": [
        {"id": "Extension", "path": "Extension", "min": 0, "max": "*"},
        {"id": "Extension.extension", "path": "Extension.extension", "min": 0, "max": "0", "base": {"max": "*"}, "type": [{"code": "Extension"}]},
        {"id": "Extension.url", "path": "Extension.url", "min": 1, "max": "1", "fixedUri": "http://o/ext", "type": [{"code": "uri"}]},
        {"id": "Extension.value[x]", "path": "Extension.value[x]", "min": 1, "max": "1", "type": [{"code": "boolean"}]}]}});
    let set = json!({"resourceType": "ValueSet", "url": "http://o/vs", "compose": {"include": [{"system": "http://o/cs"}]}});
    let codes = json!({"resourceType": "CodeSystem", "url": "http://o/cs", "content": "complete", "concept": [{"code": "a", "concept": [{"code": "b"}]}]});
    let base = |name: &str, min: u32, max: &str, base: &str, code: &str, more: Value| {
        let id = format!("Patient.{name}");
        let path: String =
            id.split('.').map(|s| s.split(':').next().unwrap_or_default()).collect::<Vec<_>>().join(".");
        with(
            json!({"id": id, "path": path, "min": min, "max": max, "base": {"max": base}, "type": [{"code": code}]}),
            more,
        )
    };
    let identifier = |slice: &str, system: &str, min: u32| {
        vec![
            base(&format!("identifier:{slice}"), min, "1", "*", "Identifier", json!({"sliceName": slice})),
            base(&format!("identifier:{slice}.system"), 1, "1", "1", "uri", json!({"fixedUri": system})),
            base(&format!("identifier:{slice}.value"), 1, "1", "1", "string", json!({})),
        ]
    };
    let mut elements = vec![
        json!({"id": "Patient", "path": "Patient", "min": 0, "max": "*"}),
        base("meta", 0, "1", "1", "Meta", json!({})),
        base(
            "extension",
            0,
            "*",
            "*",
            "Extension",
            json!({"slicing": {"discriminator": [{"type": "value", "path": "url"}], "rules": "open"}}),
        ),
        base(
            "extension:e",
            0,
            "1",
            "*",
            "Extension",
            json!({"type": [{"code": "Extension", "profile": ["http://o/ext"]}]}),
        ),
        base(
            "identifier",
            1,
            "*",
            "*",
            "Identifier",
            json!({"slicing": {"discriminator": [{"type": "value", "path": "system"}], "rules": "closed"}}),
        ),
    ];
    elements.extend(identifier("uuid", "urn:cht:uuid", 1));
    elements.extend(identifier("code", "urn:cht:shortcode", 0));
    elements.push(base("name", 0, "1", "*", "HumanName", json!({})));
    elements.push(base("telecom", 0, "0", "*", "ContactPoint", json!({})));
    elements.push(base(
        "maritalStatus",
        0,
        "1",
        "1",
        "CodeableConcept",
        json!({"binding": {"strength": "required", "valueSet": "http://o/vs|1"}}),
    ));
    elements.push(base("active", 0, "1", "1", "boolean", json!({"fixedBoolean": true})));
    elements.push(base(
        "generalPractitioner",
        0,
        "*",
        "*",
        "Reference",
        json!({"patternReference": {"type": "Practitioner"}}),
    ));
    let profile = json!({"resourceType": "StructureDefinition", "url": "http://o/p", "type": "Patient", "snapshot": {"element": elements}});
    let mut definitions = Definitions::r4();
    definitions.add_all([&profile, &extension, &set, &codes]).expect("added");
    definitions
}

#[test]
fn a_profile_is_enforced() {
    let definitions = own();
    let uuid = json!({"system": "urn:cht:uuid", "value": "1"});
    for (more, expected) in [
        (json!({"identifier": [uuid]}), vec![]),
        (
            json!({"identifier": [uuid, {"system": "urn:cht:shortcode", "value": "2"}], "maritalStatus": {"coding": [{"system": "http://o/cs", "code": "b"}]}}),
            vec![],
        ),
        (
            json!({"identifier": [uuid], "extension": [{"url": "http://o/ext", "valueBoolean": true}, {"url": "urn:other", "valueString": "x"}]}),
            vec![],
        ),
        (json!({}), vec!["required Patient.identifier"]),
        (
            json!({"identifier": [{"system": "urn:cht:shortcode", "value": "2"}]}),
            vec!["required Patient.identifier"],
        ),
        (json!({"identifier": [uuid, uuid]}), vec!["structure Patient.identifier"]),
        (
            json!({"identifier": [uuid, {"system": "urn:else", "value": "2"}]}),
            vec!["structure Patient.identifier[1]"],
        ),
        (json!({"identifier": [{"system": "urn:cht:uuid"}]}), vec!["required Patient.identifier[0].value"]),
        (
            json!({"identifier": [uuid], "name": [{"text": "A"}, {"text": "B"}]}),
            vec!["structure Patient.name"],
        ),
        (
            json!({"identifier": [uuid], "telecom": [{"system": "phone", "value": "1"}]}),
            vec!["structure Patient.telecom"],
        ),
        (
            json!({"identifier": [uuid], "maritalStatus": {"coding": [{"system": "http://o/cs", "code": "z"}]}}),
            vec!["code-invalid Patient.maritalStatus"],
        ),
        (
            json!({"identifier": [uuid], "maritalStatus": {"text": "married"}}),
            vec!["code-invalid Patient.maritalStatus"],
        ),
        (
            json!({"identifier": [uuid], "maritalStatus": {"coding": [{"code": "b"}]}}),
            vec!["code-invalid Patient.maritalStatus"],
        ),
        (json!({"identifier": [uuid], "active": false}), vec!["value Patient.active"]),
        (
            json!({"identifier": [uuid], "generalPractitioner": [{"type": "Organization"}]}),
            vec!["value Patient.generalPractitioner[0]"],
        ),
        (
            json!({"identifier": [uuid], "extension": [{"url": "http://o/ext", "valueString": "x"}]}),
            vec!["structure Patient.extension[0].valueString", "required Patient.extension[0].value"],
        ),
    ] {
        let mut resource = json!({"resourceType": "Patient"});
        resource = with(resource, more);
        assert_eq!(found(&definitions, &resource, Some("http://o/p")), expected, "{resource}");
        let claimed = with(resource.clone(), json!({"meta": {"profile": ["http://o/p|1.0"]}}));
        assert_eq!(found(&definitions, &claimed, None), expected, "claimed by itself: {resource}");
    }
}

/// A profile of Observation with these elements besides its root.
fn of_observation(url: &str, elements: Value) -> Value {
    let mut all = vec![json!({"id": "Observation", "path": "Observation"})];
    all.extend(elements.as_array().into_iter().flatten().cloned());
    json!({"resourceType": "StructureDefinition", "url": url, "type": "Observation", "snapshot": {"element": all}})
}

#[test]
fn slices_of_a_choice_are_counted_and_targets_by_profile_are_types() {
    let ours = json!({"resourceType": "StructureDefinition", "url": "http://o/patient", "type": "Patient",
        "snapshot": {"element": [{"id": "Patient", "path": "Patient"}]}});
    let profile = of_observation(
        "http://o/observation",
        json!([
            {"id": "Observation.status", "path": "Observation.status", "min": 1, "max": "1", "type": [{"code": "code"}]},
            {"id": "Observation.code", "path": "Observation.code", "min": 1, "max": "1", "type": [{"code": "CodeableConcept"}]},
            {"id": "Observation.subject", "path": "Observation.subject", "min": 0, "max": "1",
                "type": [{"code": "Reference", "targetProfile": ["http://o/patient"]}]},
            {"id": "Observation.value[x]", "path": "Observation.value[x]", "min": 0, "max": "1",
                "slicing": {"discriminator": [{"type": "type", "path": "$this"}], "rules": "open"},
                "type": [{"code": "string"}, {"code": "Quantity"}, {"code": "boolean"}]},
            {"id": "Observation.value[x]:valueQuantity", "path": "Observation.value[x]", "sliceName": "valueQuantity",
                "min": 1, "max": "1", "type": [{"code": "Quantity"}]},
            {"id": "Observation.value[x]:valueBoolean", "path": "Observation.value[x]", "sliceName": "valueBoolean",
                "min": 0, "max": "0", "type": [{"code": "boolean"}]}
        ]),
    );
    let mut definitions = Definitions::r4();
    // The profile that is referred to may come later.
    definitions.add(&profile).expect("added");
    definitions.add(&ours).expect("added");
    assert!(definitions.unchecked().iter().all(|what| !what.starts_with("slices")));
    for (more, expected) in [
        (json!({"valueQuantity": {"value": 1}, "subject": {"reference": "Patient/1"}}), vec![]),
        (json!({}), vec!["required Observation.valueQuantity"]),
        (json!({"valueString": "x"}), vec!["required Observation.valueQuantity"]),
        (
            json!({"valueBoolean": true}),
            vec!["required Observation.valueQuantity", "structure Observation.valueBoolean"],
        ),
        (
            json!({"valueQuantity": {"value": 1}, "subject": {"reference": "Group/1"}}),
            vec!["structure Observation.subject.reference"],
        ),
    ] {
        let resource = observation(more);
        assert_eq!(found(&definitions, &resource, Some("http://o/observation")), expected, "{resource}");
    }
}

#[test]
fn what_is_not_checked_is_said_and_raises_no_alarm() {
    let sliced = |kind: &str, path: &str| {
        of_observation(
            "http://o/sliced",
            json!([
                {"id": "Observation.status", "path": "Observation.status", "min": 1, "max": "1", "type": [{"code": "code"}]},
                {"id": "Observation.code", "path": "Observation.code", "min": 1, "max": "1", "type": [{"code": "CodeableConcept"}]},
                {"id": "Observation.performer", "path": "Observation.performer", "min": 0, "max": "*",
                    "slicing": {"discriminator": [{"type": kind, "path": path}], "rules": "closed"},
                    "type": [{"code": "Reference"}]},
                {"id": "Observation.performer:chw", "path": "Observation.performer", "sliceName": "chw", "min": 1, "max": "1",
                    "type": [{"code": "Reference"}]}
            ]),
        )
    };
    for (kind, path) in
        [("profile", "$this"), ("type", "resolve()"), ("value", "extension('http://x').value")]
    {
        let mut definitions = Definitions::r4();
        definitions.add(&sliced(kind, path)).expect("added");
        let expected = format!("slices of Observation.performer by {kind} of {path}");
        assert!(definitions.unchecked().contains(&expected), "{:?}", definitions.unchecked());
        let resource = observation(json!({"performer": [{"reference": "Practitioner/1"}]}));
        assert_eq!(found(&definitions, &resource, Some("http://o/sliced")), Vec::<String>::new());
    }
}

#[test]
fn why_a_profile_cannot_be_added_is_said() {
    let mut definitions = Definitions::r4();
    for (profile, expected) in [
        (
            json!({"resourceType": "StructureDefinition", "url": "http://o/p", "type": "Patient"}),
            "sushi --snapshot",
        ),
        (
            json!({"resourceType": "StructureDefinition", "url": "http://o/p", "type": "Patiet", "snapshot": {"element": [{"path": "Patiet"}]}}),
            "did you mean Patient?",
        ),
    ] {
        let why = definitions.add(&profile).expect_err("not added");
        assert!(why.contains(expected), "{why}");
    }
}

#[test]
fn what_may_stand_somewhere_is_known() {
    let definitions = Definitions::r4();
    let names = |path: &str| -> Vec<String> {
        definitions.children(path).unwrap_or_default().into_iter().map(|child| child.name).collect()
    };
    assert!(names("Patient.name").contains(&"family".to_string()));
    assert!(names("Observation").contains(&"valueQuantity".to_string()));
    assert!(names("Observation.valueQuantity").contains(&"unit".to_string()));
    assert!(names("Observation.component.referenceRange").contains(&"low".to_string()));
    assert!(names("Patient.contact.name").contains(&"given".to_string()));
    assert_eq!(definitions.children("Patient.gender"), None);
    assert_eq!(definitions.children("Patient.nobody"), None);
}

fn examples() -> Vec<Value> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/examples");
    let files = std::fs::read_dir(folder).expect("examples").map(|file| file.expect("a file").path());
    let mut all: Vec<Value> = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(file).expect("read");
        all.extend(
            text.lines()
                .filter(|line| line.len() < 8000)
                .map(|line| serde_json::from_str(line).expect("JSON")),
        );
    }
    all
}

/// Puts `new` at the `at`-th place of the tree.
fn change(value: &mut Value, at: &mut usize, new: &Value) {
    if *at == 0 {
        *value = new.clone();
    }
    *at = at.wrapping_sub(1);
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| change(item, at, new)),
        Value::Object(fields) => fields.values_mut().for_each(|field| change(field, at, new)),
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn whatever_it_is_it_is_told_in_time(
        which in any::<prop::sample::Index>(),
        at in 0..200_usize,
        new in prop_oneof![Just(json!(null)), Just(json!([])), Just(json!({})), Just(json!([[null]])), Just(json!("")), Just(json!(1e300)), Just(json!(-1)),
            Just(json!("é\u{0}|#")), Just(json!({"reference": "#"})), Just(json!({"resourceType": "Bundle", "type": "batch"}))],
    ) {
        let examples = examples();
        let definitions = Definitions::r4();
        let mut resource = which.get(&examples).clone();
        change(&mut resource, &mut at.clone(), &new);
        let started = std::time::Instant::now();
        let issues = definitions.validate(&resource, None);
        prop_assert!(issues.len() <= 100 && started.elapsed().as_secs() < 5);
        let text = resource.to_string();
        for issue in &issues {
            prop_assert!(fhir_validate::locate(text.as_bytes(), &issue.expression).is_some());
        }
    }
}

#[test]
fn hostile_shapes_end_soon() {
    let definitions = Definitions::r4();
    let mut deep = json!({"url": "x", "valueString": "y"});
    for _ in 0..120 {
        deep = json!({"url": "x", "extension": [deep]});
    }
    let wide: Vec<Value> = (0..200_000).map(|_| json!({"text": 1})).collect();
    for resource in [patient(json!({"extension": [deep]})), patient(json!({"name": wide}))] {
        let started = std::time::Instant::now();
        assert!(definitions.validate(&resource, None).len() <= 100);
        assert!(started.elapsed().as_secs() < 10);
    }
}
