//! A resource and its definition, walked together.
use crate::definitions::{Definitions, Element, Kind, Type, choice_name, find};
use crate::primitive::{Primitive, is_id};
use crate::slice::{codings, holds};
use crate::{Issue, Severity};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fmt;

/// Most issues that are told at once.
const MOST: usize = 100;
const DEEPEST: usize = 100;

/// Where we are; written out only for an issue.
#[derive(Clone, Copy)]
struct At<'a> {
    up: Option<&'a At<'a>>,
    name: &'a str,
    index: Option<usize>,
    depth: usize,
}

impl<'a> At<'a> {
    fn root(name: &'a str) -> Self {
        Self { up: None, name, index: None, depth: 0 }
    }

    fn below<'b>(&'b self, name: &'b str, index: Option<usize>) -> At<'b> {
        At { up: Some(self), name, index, depth: self.depth + 1 }
    }
}

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(up) = self.up {
            write!(f, "{up}.")?;
        }
        // A name that came with the resource may be anything.
        match self.name.len() <= 64 && self.name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            true => f.write_str(self.name)?,
            false => f.write_str("element")?,
        }
        match self.index {
            Some(index) => write!(f, "[{index}]"),
            None => Ok(()),
        }
    }
}

impl Definitions {
    /// Every issue of a resource by R4, by the profile if one is given, and by the profiles that it
    /// claims itself (`meta.profile`) as far as they are known.
    pub fn validate(&self, resource: &Value, profile: Option<&str>) -> Vec<Issue> {
        self.validate_by(resource, profile, &BTreeMap::new())
    }

    /// The same, and every resource of a type in `by_type`, entries of a Bundle too, by that profile.
    pub fn validate_by(
        &self,
        resource: &Value,
        profile: Option<&str>,
        by_type: &BTreeMap<String, String>,
    ) -> Vec<Issue> {
        let mut walk = Walk {
            definitions: self,
            by_type,
            roots: Vec::new(),
            resource: None,
            bundle: None,
            issues: Vec::new(),
        };
        walk.resource(resource, None, profile, true);
        walk.issues.truncate(MOST);
        walk.issues
    }
}

struct Walk<'a> {
    definitions: &'a Definitions,
    /// Profiles that resources must fulfil, by type; what is contained is free.
    by_type: &'a BTreeMap<String, String>,
    /// The resources around, outermost first: `#id` is looked for in the one that contains.
    roots: Vec<&'a Value>,
    /// The one that is walked: only here a type is said.
    resource: Option<&'a Value>,
    bundle: Option<&'a Value>,
    issues: Vec<Issue>,
}

impl<'a> Walk<'a> {
    fn told(&mut self, at: &At, code: &'static str, message: impl Into<String>) {
        if self.issues.len() < MOST {
            self.issues.push(Issue {
                severity: Severity::Error,
                code,
                expression: at.to_string(),
                message: message.into(),
            });
        }
    }

    fn is_full(&self) -> bool {
        self.issues.len() >= MOST
    }

    /// `above` is where it stands in another resource.
    fn resource(&mut self, resource: &'a Value, above: Option<&At>, profile: Option<&str>, is_top: bool) {
        let kind = resource["resourceType"].as_str();
        let plain = kind.filter(|kind| kind.len() <= 40 && kind.bytes().all(|b| b.is_ascii_alphabetic()));
        let own = At::root(plain.unwrap_or("Resource"));
        let at = above.unwrap_or(&own);
        let (Value::Object(fields), Some(kind)) = (resource, kind) else {
            let at = at.below("resourceType", None);
            return self.told(&at, "structure", "expected a resource with the name of its type");
        };
        let Some(element) = self.definitions.types.get(kind).filter(|_| self.definitions.is_known(kind))
        else {
            if is_top {
                self.told(
                    &at.below("resourceType", None),
                    "not-supported",
                    "this type of resource is not known here",
                );
            }
            return;
        };
        let around = self.resource.replace(resource);
        let bundle = self.bundle;
        if kind == "Bundle" {
            self.bundle = Some(resource);
        }
        if above.is_none()
            || self.roots.is_empty()
            || self.bundle.is_some_and(|b| std::ptr::eq(b, self.roots[self.roots.len() - 1]))
        {
            self.roots.push(resource);
        } else {
            // Contained: `#id` is looked for in what contains it.
            let container = self.roots[self.roots.len() - 1];
            self.roots.push(container);
        }
        let is_contained = self.roots.last().is_some_and(|root| !std::ptr::eq(*root, resource));
        let asked = self.by_type.get(kind).filter(|_| !is_contained).map(String::as_str);
        self.fields(fields, resource, element, None, at);
        let claimed = resource["meta"]["profile"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let mut seen: Vec<&str> = Vec::new();
        for url in
            profile.into_iter().chain(asked).chain(claimed.map(|url| url.split('|').next().unwrap_or(url)))
        {
            if seen.contains(&url) {
                continue;
            }
            seen.push(url);
            match self.definitions.profiles.get(url) {
                Some((of, element)) if of == kind => self.fields(fields, resource, element, None, at),
                Some(_) => {
                    self.told(&at.below("meta", None), "value", "the profile is of another type of resource")
                }
                None => {}
            }
        }
        self.issues_once();
        self.roots.pop();
        self.bundle = bundle;
        self.resource = around;
    }

    /// What R4 and a profile both say is said once.
    fn issues_once(&mut self) {
        let mut seen = std::collections::HashSet::new();
        self.issues.retain(|issue| seen.insert((issue.expression.clone(), issue.code)));
    }

    /// The fields of an object by the children of its element.
    fn fields(
        &mut self,
        fields: &'a Map<String, Value>,
        whole: &'a Value,
        element: &'a Element,
        kind: Option<&'a Type>,
        at: &At,
    ) {
        if at.depth > DEEPEST || self.is_full() {
            return;
        }
        let Some(children) = self.definitions.children_of(element, kind) else { return };
        if fields.is_empty() {
            return self.told(at, "structure", "an empty object; leave the element out");
        }
        if fields.len() == 1 && fields.contains_key("id") {
            self.told(at, "invariant", "an element has more than its id (ele-1)");
        }
        let mut counts = vec![0_u32; children.len()];
        let mut chosen: Vec<Option<&str>> = vec![None; children.len()];
        for (key, value) in fields {
            if key == "resourceType" && self.resource.is_some_and(|resource| std::ptr::eq(resource, whole)) {
                continue;
            }
            let (name, is_companion) =
                key.strip_prefix('_').map_or((key.as_str(), false), |name| (name, true));
            let Some((index, kind)) = index_of(children, name) else {
                self.unknown(children, key, at);
                continue;
            };
            let child = &children[index];
            if is_companion {
                if !kind.is_some_and(|kind| matches!(kind.kind, Kind::Primitive(_))) {
                    self.told(
                        &at.below(key, None),
                        "structure",
                        "only a primitive has id and extensions beside it",
                    );
                    continue;
                }
                self.companion(value, fields.get(name), child, &at.below(key, None));
                // An extension may stand for the value.
                if !fields.contains_key(name) {
                    counts[index] = counts[index].max(1);
                }
                continue;
            }
            if child.is_choice {
                if chosen[index].is_some_and(|other| other != name) {
                    self.told(&at.below(name, None), "structure", format!("only one {}[x]", child.name));
                }
                chosen[index] = Some(name);
            }
            counts[index] = self.child(value, child, kind, key, at, fields.get(&format!("_{key}")));
        }
        for (child, count) in children.iter().zip(counts) {
            self.count(child, &child.name, count, at);
            let slices = child.slicing.iter().filter(|_| child.is_choice).flat_map(|slicing| &slicing.slices);
            for (name, slice) in slices {
                let key = slice_key(child, name, slice);
                let count = fields.contains_key(key.as_str()) || fields.contains_key(&format!("_{key}"));
                self.count(slice, &key, u32::from(count), at);
            }
        }
        for (key, (holds, message)) in &element.checks {
            if key.starts_with("dom-") && self.roots.len() > 1 && self.bundle.is_none() {
                continue;
            }
            if !holds(whole) {
                self.told(at, "invariant", format!("{message} ({key})"));
            }
        }
    }

    fn unknown(&mut self, children: &[Element], key: &str, at: &At) {
        if self.is_full() {
            return;
        }
        let names: Vec<String> = children
            .iter()
            .flat_map(|child| match child.is_choice {
                true => child.types.iter().take(12).map(|t| choice_name(&child.name, &t.code)).collect(),
                false => vec![child.name.clone()],
            })
            .collect();
        let best = names
            .iter()
            .map(|name| (strsim::jaro_winkler(key, name), name))
            .max_by(|a, b| a.0.total_cmp(&b.0));
        let hint = match best {
            Some((score, name)) if score > 0.85 => format!("; did you mean {name}?"),
            _ => String::new(),
        };
        self.told(&at.below(key, None), "structure", format!("this element is not known here{hint}"));
    }

    fn count(&mut self, child: &Element, name: &str, count: u32, at: &At) {
        if count < child.min {
            let below = at.below(name, None);
            let message = match child.min {
                1 => "this element is required".to_string(),
                min => format!("at least {min} are required"),
            };
            self.told(&below, "required", message);
        }
        if let Some(max) = child.max.filter(|max| count > *max) {
            let message = if max == 0 {
                "this element is not allowed here".into()
            } else {
                format!("at most {max} are allowed")
            };
            self.told(&at.below(name, None), "structure", message);
        }
    }

    /// How many values an element has.
    fn child(
        &mut self,
        value: &'a Value,
        child: &'a Element,
        kind: Option<&'a Type>,
        key: &'a str,
        at: &At,
        companion: Option<&Value>,
    ) -> u32 {
        match (value, child.is_list) {
            (Value::Null, _) => {
                self.told(&at.below(key, None), "structure", "null is no value; leave the element out");
                0
            }
            (Value::Array(items), true) => {
                if items.is_empty() {
                    self.told(&at.below(key, None), "structure", "an empty list; leave the element out");
                }
                let mut count = 0;
                for (i, item) in items.iter().enumerate() {
                    if self.is_full() {
                        break;
                    }
                    let below = at.below(key, Some(i));
                    if item.is_null() {
                        // Its extension stands in the companion's list.
                        if companion.is_none_or(|c| c[i].is_null()) {
                            self.told(&below, "structure", "null without an extension; leave it out");
                        }
                        count += 1;
                        continue;
                    }
                    count += 1;
                    self.value(item, child, kind, &below);
                }
                self.slices(items, child, key, at);
                count
            }
            (Value::Array(_), false) => {
                self.told(&at.below(key, None), "structure", "expected one value, found a list");
                1
            }
            (_, true) => {
                self.told(&at.below(key, None), "structure", "expected a list");
                1
            }
            (one, false) => {
                self.value(one, child, kind, &at.below(key, None));
                if child.is_choice
                    && let Some(slicing) = &child.slicing
                {
                    let own = |(name, slice): &&(String, Element)| slice_key(child, name, slice) == key;
                    for (_, slice) in slicing.slices.iter().filter(own) {
                        self.value(one, slice, slice.types.first(), &at.below(key, None));
                    }
                }
                1
            }
        }
    }

    fn slices(&mut self, items: &'a [Value], child: &'a Element, key: &'a str, at: &At) {
        let Some(slicing) =
            child.slicing.as_ref().filter(|slicing| slicing.is_understood() && !slicing.slices.is_empty())
        else {
            return;
        };
        let mut counts = vec![0_u32; slicing.slices.len()];
        for (i, item) in items.iter().enumerate() {
            let below = at.below(key, Some(i));
            match slicing.slice_of(item) {
                Some(index) => {
                    counts[index] += 1;
                    let slice = &slicing.slices[index].1;
                    self.value(item, slice, slice.types.first(), &below);
                }
                None if slicing.is_closed => {
                    self.told(&below, "structure", "none of the kinds that the profile allows here")
                }
                None => {}
            }
        }
        for ((name, slice), count) in slicing.slices.iter().zip(counts) {
            if count < slice.min {
                self.told(
                    &at.below(key, None),
                    "required",
                    format!("the profile asks for the one that it calls {name}"),
                );
            }
            if slice.max.is_some_and(|max| count > max) {
                self.told(
                    &at.below(key, None),
                    "structure",
                    format!("too many of what the profile calls {name}"),
                );
            }
        }
    }

    fn value(&mut self, value: &'a Value, element: &'a Element, kind: Option<&'a Type>, at: &At) {
        if let Some(fixed) = element.fixed.as_ref().filter(|fixed| *fixed != value) {
            return self.told(at, "value", format!("expected {}", short(fixed)));
        }
        if let Some(pattern) = element.pattern.as_ref().filter(|pattern| !holds(pattern, value)) {
            self.told(at, "value", format!("expected it to hold {}", short(pattern)));
        }
        let Some(kind) = kind.or(element.types.first()) else {
            // The children of another element, by contentReference.
            match value {
                Value::Object(fields) => self.fields(fields, value, element, None, at),
                _ => self.told(at, "structure", "expected an object"),
            }
            return;
        };
        match &kind.kind {
            Kind::Primitive(primitive) => self.primitive(value, *primitive, element, at),
            Kind::Resource => self.resource(value, Some(at), None, false),
            // A profile may say which type of resource stands there.
            Kind::Complex(name) if self.definitions.is_known(name) => {
                if value["resourceType"] != name.as_str() {
                    return self.told(at, "structure", format!("expected a {name}"));
                }
                self.resource(value, Some(at), kind.profiles.first().map(String::as_str), false);
            }
            Kind::Complex(name) => {
                let Value::Object(fields) = value else {
                    let expected = match name.as_str() {
                        "Reference" => {
                            "expected a Reference: {\"reference\": \"Type/id\"} or {\"identifier\": {...}}"
                        }
                        _ => "expected an object",
                    };
                    return self.told(at, "structure", expected);
                };
                self.fields(fields, value, element, Some(kind), at);
                if let Some(own) = self.definitions.types.get(name) {
                    self.checks(value, own, at);
                }
                match name.as_str() {
                    "Reference" => self.reference(value, kind, at),
                    "Extension" => self.extension(value, fields, at),
                    _ => {}
                }
                self.coded(value, element, name, at);
            }
        }
    }

    fn checks(&mut self, value: &Value, element: &Element, at: &At) {
        for (key, (holds, message)) in &element.checks {
            if !holds(value) {
                self.told(at, "invariant", format!("{message} ({key})"));
            }
        }
    }

    fn primitive(&mut self, value: &Value, primitive: Primitive, element: &Element, at: &At) {
        if let Some((code, expected)) = primitive.unlike(value) {
            return self.told(at, code, expected);
        }
        if let (Some(codes), Some(code)) = (&element.binding, value.as_str())
            && !codes.has(None, code)
        {
            let all = codes.all();
            let best = all
                .iter()
                .map(|known| (strsim::jaro_winkler(code, known), known))
                .max_by(|a, b| a.0.total_cmp(&b.0));
            let hint = match best {
                Some((score, known)) if score > 0.85 => format!("; did you mean {known}?"),
                _ => String::new(),
            };
            let message = match all.len() {
                0..=30 => format!("expected one of {}{hint}", all.join(", ")),
                n => format!("expected one of {n} codes{hint}"),
            };
            self.told(at, "code-invalid", message);
        }
        self.checks(value, element, at);
    }

    /// A required binding: one of the codings is in the set, and says of which system it is. A text
    /// alone is in no set (<https://hl7.org/fhir/R4/terminologies.html#required>).
    fn coded(&mut self, value: &Value, element: &Element, kind: &str, at: &At) {
        let Some(codes) = &element.binding else { return };
        if value.get("coding").is_none() && value.get("code").is_none() {
            if kind == "CodeableConcept" && value.get("text").is_some() {
                self.told(
                    at,
                    "code-invalid",
                    "expected a coding of the value set that is required here, not only a text",
                );
            }
            return;
        }
        let known = codings(value).any(|c| {
            let code = c["code"].as_str().unwrap_or_default();
            c["system"].as_str().is_some_and(|system| codes.has(Some(system), code))
        });
        if !known {
            self.told(
                at,
                "code-invalid",
                "none of its codes, with its system, is in the value set that is required here",
            );
        }
    }

    /// `_birthDate`: id and extensions of a primitive, or a list of them.
    fn companion(&mut self, value: &'a Value, beside: Option<&Value>, child: &'a Element, at: &At) {
        let Some(element) = self.definitions.types.get("Extension") else { return };
        let one = |walk: &mut Self, value: &'a Value, at: &At, has_value: bool| match value {
            Value::Object(fields) => {
                if !has_value && fields.keys().all(|key| key == "id") {
                    walk.told(at, "invariant", "an element has more than its id (ele-1)");
                }
                if !has_value && child.binding.is_some() && fields.contains_key("extension") {
                    walk.told(at, "code-invalid", "a code is required here, and an extension is none");
                }
                for (key, inner) in fields {
                    match (key.as_str(), inner) {
                        ("id", Value::String(_)) => {}
                        ("extension", Value::Array(all)) => {
                            for (i, extension) in all.iter().enumerate() {
                                let below = at.below("extension", Some(i));
                                match extension {
                                    Value::Object(inner) => {
                                        walk.fields(inner, extension, element, None, &below);
                                        walk.extension(extension, inner, &below);
                                    }
                                    _ => walk.told(&below, "structure", "expected an object"),
                                }
                            }
                        }
                        _ => walk.told(
                            &at.below(key, None),
                            "structure",
                            "only id and extension stand beside a primitive",
                        ),
                    }
                }
            }
            _ => walk.told(at, "structure", "expected an object with id or extension"),
        };
        match (value, child.is_list) {
            (Value::Array(items), true) => {
                for (i, item) in items.iter().enumerate() {
                    if item.is_null() {
                        continue;
                    }
                    let has_value = beside.is_some_and(|beside| !beside[i].is_null());
                    one(self, item, &At { index: Some(i), ..*at }, has_value);
                }
                if let Some(Value::Array(values)) = beside
                    && values.len() != items.len()
                {
                    self.told(at, "structure", "as many items as in the list that it stands beside");
                }
            }
            (Value::Array(_), false) | (Value::Object(_), true) => {
                self.told(at, "structure", "of the same form as the element that it stands beside");
            }
            _ => one(self, value, at, beside.is_some()),
        }
    }

    /// ext-1, and the extension's own profile if it is known.
    fn extension(&mut self, value: &'a Value, fields: &'a Map<String, Value>, at: &At) {
        let has_value = fields.keys().any(|key| key.trim_start_matches('_').starts_with("value"));
        if has_value == fields.contains_key("extension") {
            self.told(at, "invariant", "an extension has a value or extensions, one of both (ext-1)");
        }
        if let Some((kind, element)) =
            value["url"].as_str().and_then(|url| self.definitions.profiles.get(url))
            && kind == "Extension"
        {
            self.fields(fields, value, element, None, at);
        }
    }

    fn reference(&mut self, value: &Value, kind: &Type, at: &At) {
        let targets = self.definitions.targets_of(kind);
        let wrong = |walk: &mut Self, at: &At| {
            walk.told(at, "structure", format!("expected a reference to {}", targets.join(" or ")));
        };
        if let Some(own) = value["type"].as_str()
            && !targets.is_empty()
            && !targets.contains(&own)
        {
            return wrong(self, &at.below("type", None));
        }
        let Some(reference) = value["reference"].as_str() else { return };
        let below = at.below("reference", None);
        let of_resource = |resource: &Value| resource["resourceType"].as_str().map(String::from);
        let target = if let Some(id) = reference.strip_prefix('#') {
            let root = self.roots.last().copied().unwrap_or(&Value::Null);
            if id.is_empty() {
                of_resource(root)
            } else {
                match root["contained"].as_array().into_iter().flatten().find(|inner| inner["id"] == id) {
                    Some(inner) => of_resource(inner),
                    None => {
                        return self.told(&below, "invariant", "no contained resource has this id (ref-1)");
                    }
                }
            }
        } else if reference.starts_with("urn:") {
            let entries = self.bundle.and_then(|bundle| bundle["entry"].as_array());
            let mut entries = entries.into_iter().flatten();
            entries
                .find(|entry| entry["fullUrl"] == reference)
                .and_then(|entry| of_resource(&entry["resource"]))
        } else {
            type_of(reference).map(String::from)
        };
        if let Some(target) = target
            && !targets.is_empty()
            && !targets.contains(&target.as_str())
        {
            wrong(self, &below);
        }
    }
}

/// `Patient/1`, `http://x/fhir/Patient/1/_history/2`, `Patient?identifier=...`.
fn type_of(reference: &str) -> Option<&str> {
    let path = reference.split_once("/_history/").map_or(reference, |(path, _)| path);
    if let Some((path, _)) = path.split_once('?') {
        let kind = path.trim_end_matches('/').rsplit('/').next()?;
        return is_type(kind).then_some(kind);
    }
    let (above, id) = path.rsplit_once('/')?;
    let kind = above.rsplit('/').next()?;
    (is_type(kind) && is_id(id)).then_some(kind)
}

/// Every type of resource of R4 (<https://hl7.org/fhir/R4/resourcelist.html>): other words in an address
/// are somebody else's.
const R4_TYPES: &str = "Account ActivityDefinition AdverseEvent AllergyIntolerance Appointment AppointmentResponse \
    AuditEvent Basic Binary BiologicallyDerivedProduct BodyStructure Bundle CapabilityStatement CarePlan \
    CareTeam CatalogEntry ChargeItem ChargeItemDefinition Claim ClaimResponse ClinicalImpression \
    CodeSystem Communication CommunicationRequest CompartmentDefinition Composition ConceptMap Condition \
    Consent Contract Coverage CoverageEligibilityRequest CoverageEligibilityResponse DetectedIssue \
    Device DeviceDefinition DeviceMetric DeviceRequest DeviceUseStatement DiagnosticReport \
    DocumentManifest DocumentReference EffectEvidenceSynthesis Encounter Endpoint EnrollmentRequest \
    EnrollmentResponse EpisodeOfCare EventDefinition Evidence EvidenceVariable ExampleScenario \
    ExplanationOfBenefit FamilyMemberHistory Flag Goal GraphDefinition Group GuidanceResponse \
    HealthcareService ImagingStudy Immunization ImmunizationEvaluation ImmunizationRecommendation \
    ImplementationGuide InsurancePlan Invoice Library Linkage List Location Measure MeasureReport Media \
    Medication MedicationAdministration MedicationDispense MedicationKnowledge MedicationRequest \
    MedicationStatement MedicinalProduct MedicinalProductAuthorization MedicinalProductContraindication \
    MedicinalProductIndication MedicinalProductIngredient MedicinalProductInteraction \
    MedicinalProductManufactured MedicinalProductPackaged MedicinalProductPharmaceutical \
    MedicinalProductUndesirableEffect MessageDefinition MessageHeader MolecularSequence NamingSystem \
    NutritionOrder Observation ObservationDefinition OperationDefinition OperationOutcome Organization \
    OrganizationAffiliation Parameters Patient PaymentNotice PaymentReconciliation Person PlanDefinition \
    Practitioner PractitionerRole Procedure Provenance Questionnaire QuestionnaireResponse RelatedPerson \
    RequestGroup ResearchDefinition ResearchElementDefinition ResearchStudy ResearchSubject \
    RiskAssessment RiskEvidenceSynthesis Schedule SearchParameter ServiceRequest Slot Specimen \
    SpecimenDefinition StructureDefinition StructureMap Subscription Substance SubstanceNucleicAcid \
    SubstancePolymer SubstanceProtein SubstanceReferenceInformation SubstanceSourceMaterial \
    SubstanceSpecification SupplyDelivery SupplyRequest Task TerminologyCapabilities TestReport \
    TestScript ValueSet VerificationResult VisionPrescription";

fn is_type(text: &str) -> bool {
    R4_TYPES.split(' ').any(|known| known == text)
}

/// The key of a slice of a choice: `valueString`.
fn slice_key(child: &Element, name: &str, slice: &Element) -> String {
    match slice.types.as_slice() {
        [one] => choice_name(&child.name, &one.code),
        _ => name.into(),
    }
}

fn index_of<'d>(children: &'d [Element], name: &str) -> Option<(usize, Option<&'d Type>)> {
    if let Some(index) = children.iter().position(|child| !child.is_choice && child.name == name) {
        return Some((index, children[index].types.first()));
    }
    let (child, kind) = find(children, name)?;
    let index = children.iter().position(|other| std::ptr::eq(other, child))?;
    Some((index, kind))
}

fn short(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() > 120 {
        format!("{}…", text.chars().take(120).collect::<String>())
    } else {
        text
    }
}
