//! An EMR's request to a CHW.
use super::reshape::{make_references_logical, subject_element};
use super::{Draughtsman, Stop, note, refused};
use crate::domain::fhir::{Entry, Target, Write, full_url};
use crate::domain::follow_up::{FollowUpRequest, Kind, State};
use crate::domain::identifier::{Identifier, system};
use crate::domain::plan::{Act, FollowUp, PartNote, Step};
use crate::domain::record::RecordDraft;
use serde_json::{Value, json};

impl Draughtsman<'_> {
    pub(super) async fn follow_up_request(&mut self, request: FollowUpRequest) -> Result<PartNote, Stop> {
        let identifier = self.own(request.identifier);
        let known = self.near.journal.follow_up(Kind::FollowUp, &identifier).await?;
        let (person, uuid) = self.known_to_cht(&request.subject).await?;
        if known.as_ref().is_some_and(|f| f.person != person) {
            return Err(Stop::Refused(refused(
                &request.subject.path,
                "conflict",
                "this request was about another patient before",
            )));
        }
        let callback = self.callback_of(request.requester.as_deref()).await?;
        let resource = with_identifier(request.resource, &identifier);
        if request.state == State::Requested
            && let Some(answered) =
                known.as_ref().filter(|f| f.state == State::Completed && is_same(&f.resource, &resource))
        {
            let text = "this request has been answered; asked anew, it would say something new";
            return Ok(note("follow_up_request", Some(answered.shown()), text.to_string()));
        }
        let asked_already = known.as_ref().is_some_and(|f| f.state.is_open());
        let follow_up = FollowUp {
            kind: Kind::FollowUp,
            identifier: identifier.clone(),
            person,
            state: request.state,
            resource: resource.clone(),
            form: request.record.form.clone(),
            record: known.as_ref().and_then(|f| f.record.clone()),
            callback: callback.clone().or_else(|| known.as_ref().and_then(|f| f.callback.clone())),
            client: self.transaction.client.clone(),
            home: self.transaction.home.clone(),
            told: known.map(|f| f.told).unwrap_or_default(),
        };
        self.facts.follow_ups.push(follow_up);
        self.store_request(&resource, &identifier, &uuid).await?;
        let text = if request.state != State::Requested {
            format!("a request that is {}; nothing for a CHW to do", request.state.request_status())
        } else if asked_already {
            "CHT has this request already".to_string()
        } else {
            self.ask_cht(request.record, &uuid, Some(identifier));
            "a request to a CHW".to_string()
        };
        Ok(note("follow_up_request", Some(resource), text))
    }

    /// The request as the FHIR servers keep it, beside the patient it is about.
    pub(super) async fn store_request(
        &mut self,
        resource: &Value,
        identifier: &Identifier,
        uuid: &str,
    ) -> Result<(), Stop> {
        let (patient, subject) = bare_patient(uuid);
        let kind = resource["resourceType"].as_str().unwrap_or_default();
        let mut stored = resource.clone();
        if let Some(fields) = stored.as_object_mut() {
            fields.remove("id");
            fields.remove("meta");
        }
        stored[subject_element(resource)] = json!({"reference": subject});
        make_references_logical(&mut stored, &self.transaction.client);
        let request = Entry {
            full_url: full_url(kind, identifier),
            target: Target::Identifier(identifier.clone()),
            write: Write::Merge { keep: Vec::new() },
            resource: stored,
        };
        self.send(vec![patient, request]).await
    }

    pub(super) fn ask_cht(&mut self, record: RecordDraft, patient: &str, follow_up: Option<Identifier>) {
        // Ours and exact: by it an earlier attempt is recognised.
        let reported_date = self.transaction.received + 100 * self.plan.steps.len() as i64;
        let record = record.about(patient, reported_date, self.transaction.reruns);
        self.plan.steps.push(Step {
            destination: "cht".into(),
            act: Act::ChtRecord { record, follow_up },
            after: None,
            part: self.plan.parts.len(),
        });
    }

    /// Identifiers without a system are the client's own.
    pub(super) fn own(&self, identifier: Identifier) -> Identifier {
        if identifier.system == system::REQUEST {
            return Identifier::new(
                format!("{}:{}", system::REQUEST, self.transaction.client),
                identifier.value,
            );
        }
        identifier
    }
}

/// The same request in another wrapping: by another route, in a Bundle, with an id.
fn is_same(known: &Value, now: &Value) -> bool {
    let content = |resource: &Value| {
        let mut content = resource.clone();
        for own in ["id", "meta", "status"] {
            content.as_object_mut().map(|fields| fields.remove(own));
        }
        content
    };
    content(known) == content(now)
}

/// The resource with our identifier for it among its own.
pub(super) fn with_identifier(mut resource: Value, identifier: &Identifier) -> Value {
    let mut all = resource["identifier"].as_array().cloned().unwrap_or_default();
    let value = json!(identifier.value);
    for bare in
        all.iter_mut().filter(|i| i["value"] == value && i["system"].as_str().is_none_or(str::is_empty))
    {
        bare["system"] = json!(identifier.system);
    }
    if !all.iter().any(|i| i["system"] == identifier.system && i["value"] == value) {
        all.push(json!({"system": identifier.system, "value": value}));
    }
    resource["identifier"] = json!(all);
    resource
}

pub(super) fn bare_patient(uuid: &str) -> (Entry, String) {
    let identifier = Identifier::new(system::CHT_UUID, uuid);
    let url = full_url("Patient", &identifier);
    let resource = json!({"resourceType": "Patient",
        "identifier": [{"system": identifier.system, "value": identifier.value}]});
    let entry = Entry {
        full_url: url.clone(),
        target: Target::Identifier(identifier),
        write: Write::CreateIfMissing,
        resource,
    };
    (entry, url)
}
