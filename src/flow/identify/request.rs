//! An EMR's request to a CHW.
use super::requester::directory_key;
use super::reshape::{make_references_logical, subject_element};
use super::{Draughtsman, Stop, note, refused};
use crate::domain::fhir::{Entry, Target, Write, full_url};
use crate::domain::follow_up::{FollowUpRequest, Kind, State};
use crate::domain::identifier::{Identifier, system};
use crate::domain::plan::{Act, FollowUp, News, PartNote, Status, Step};
use crate::domain::record::Record;
use crate::flow::ports::LOST_SINCE;
use crate::translate::focus_of;
use serde_json::{Value, json};
use std::collections::BTreeMap;

impl Draughtsman<'_> {
    pub(super) async fn follow_up_request(&mut self, request: FollowUpRequest) -> Result<PartNote, Stop> {
        let identifier = self.own(request.identifier);
        let known = self.follow_up(&identifier).await?;
        let (person, uuid) = self.known_to_cht(&request.subject).await?;
        if known.as_ref().is_some_and(|f| f.person != person) {
            return Err(Stop::Refused(refused(
                &request.subject.path,
                "conflict",
                "this request was about another patient before",
            )));
        }
        self.same_patient_as(request.focus.as_ref(), &person, &request.subject.path).await?;
        let callback = self.callback_of(request.requester.as_deref()).await?;
        let resource = with_identifier(request.resource, &identifier);
        if request.state == State::Requested
            && let Some(answered) =
                known.as_ref().filter(|f| f.state == State::Completed && is_same(&f.resource, &resource))
        {
            let text = "this request has been answered; asked anew, it would say something new";
            return Ok(note("follow_up_request", Some(answered.shown()), text.to_string()));
        }
        let open = known.clone().filter(|f| f.state.is_open());
        let (asked, is_one) = match open {
            Some(open) => (Some(open), false),
            None => self.asked_otherwise(&person, &identifier, request.focus.as_ref(), &resource).await?,
        };
        if let Some(one) = asked.as_ref().filter(|_| is_one) {
            let text = "CHT has this request already";
            return Ok(note("follow_up_request", Some(one.shown()), text.to_string()));
        }
        let is_asked = match &asked {
            Some(asked) => self.is_asked(asked).await?,
            None => false,
        };
        let wanted = request.state == State::Requested && !is_asked;
        let (reported, since) = self.dates(asked.as_ref(), known.is_none()).await?;
        let follow_up = FollowUp {
            kind: Kind::FollowUp,
            identifier: identifier.clone(),
            person,
            state: request.state,
            resource: resource.clone(),
            form: request.record.form.clone(),
            record: asked.as_ref().and_then(|f| f.record.clone()),
            callback: callback.clone().or_else(|| known.as_ref().and_then(|f| f.callback.clone())),
            client: self.transaction.client.clone(),
            home: self.transaction.home.clone(),
            told: known.map(|f| f.told).unwrap_or_default(),
            asked_by: match wanted {
                true => Some(self.transaction.head.id.clone()),
                false => asked.as_ref().and_then(|f| f.asked_by.clone()),
            },
            asked_at: since.unwrap_or(reported),
        };
        self.facts.follow_ups.push(follow_up);
        self.store_request(&resource, &identifier, &uuid).await?;
        let text = if request.state != State::Requested {
            format!("a request that is {}; nothing for a CHW to do", request.state.request_status())
        } else if is_asked {
            "CHT has this request already".to_string()
        } else {
            let record = request.record.about(&uuid, reported, since);
            self.tell_cht(record, Some(identifier), None);
            "a request to a CHW".to_string()
        };
        Ok(note("follow_up_request", Some(resource), text))
    }

    /// A request as an earlier part of this message left it, else as the journal has it.
    async fn follow_up(&self, identifier: &Identifier) -> Result<Option<FollowUp>, Stop> {
        let newer = self.facts.follow_ups.iter().rev().find(|f| f.identifier == *identifier);
        match newer {
            Some(newer) => Ok(Some(newer.clone())),
            None => Ok(self.near.journal.follow_up(Kind::FollowUp, identifier).await?),
        }
    }

    /// A Task is about the patient of the request that it is of.
    async fn same_patient_as(
        &self,
        focus: Option<&Identifier>,
        person: &str,
        path: &str,
    ) -> Result<(), Stop> {
        let Some(focus) = focus else { return Ok(()) };
        let request = self.follow_up(&self.request_called(focus).await?).await?;
        match request.filter(|f| f.client == self.transaction.client && f.person != person) {
            Some(_) => {
                let text = "the Task is about another patient than the request that is its focus";
                Err(Stop::Refused(refused(path, "conflict", text)))
            }
            None => Ok(()),
        }
    }

    /// The open request of this client that this one only names otherwise: a Task and its ServiceRequest
    /// are one, whichever comes first; and so are the same words without a name. `true`: it is that one,
    /// and nothing new is to be kept.
    async fn asked_otherwise(
        &self,
        person: &str,
        identifier: &Identifier,
        focus: Option<&Identifier>,
        resource: &Value,
    ) -> Result<(Option<FollowUp>, bool), Stop> {
        let focus = match focus {
            Some(focus) => Some(self.request_called(focus).await?),
            None => None,
        };
        let mut open = self.near.journal.follow_ups_of(person).await?;
        open.extend(self.facts.follow_ups.iter().filter(|f| f.person == person).cloned());
        open.retain(|f| f.kind == Kind::FollowUp && f.state.is_open() && f.client == self.transaction.client);
        let nameless = resource["id"].is_null()
            && identifier.system == system::own(&self.transaction.client)
            && uuid::Uuid::parse_str(&identifier.value).is_ok();
        for f in open.into_iter().rev() {
            if focus.as_ref() == Some(&f.identifier) {
                return Ok((Some(f), false));
            }
            if let Some(theirs) = focus_of(&f.resource)
                && self.request_called(&self.own(theirs)).await? == *identifier
            {
                return Ok((Some(f), false));
            }
            if nameless && is_same(&without_name(&f.resource), &without_name(resource)) {
                return Ok((Some(f), true));
            }
        }
        Ok((None, false))
    }

    /// A ServiceRequest by the client's own id, by the id that it was answered with, or as it is called.
    async fn request_called(&self, name: &Identifier) -> Result<Identifier, Stop> {
        if let Some(id) = name.value.strip_prefix("ServiceRequest/") {
            let key = directory_key(&self.transaction.client, "ServiceRequest", id);
            if let Some(known) = self.near.journal.directory(&key).await?
                && let Ok(known) = serde_json::from_value(known)
            {
                return Ok(known);
            }
        }
        Ok(name.clone())
    }

    /// Whether a CHW has been asked: the record is there, or somebody else is still at it.
    async fn is_asked(&self, request: &FollowUp) -> Result<bool, Stop> {
        if request.record.is_some() {
            return Ok(true);
        }
        let Some(by) = &request.asked_by else { return Ok(false) };
        if *by == self.transaction.head.id {
            // An earlier part of this message asks.
            return Ok(self.facts.follow_ups.iter().any(|f| f.asked_by.as_ref() == Some(by)));
        }
        let asking = self.near.journal.transaction(by).await?;
        Ok(asking.is_some_and(|t| matches!(t.head.status, Status::Open | Status::Delivered)))
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
        make_references_logical(&mut stored, &self.transaction.client, &BTreeMap::new());
        let request = Entry {
            full_url: full_url(kind, identifier),
            target: Target::Identifier(identifier.clone()),
            write: Write::Merge { keep: Vec::new() },
            resource: stored,
        };
        self.send(vec![patient, request]).await
    }

    /// The date of a record that is made now, and that of the first attempt at the same. They are ours
    /// and exact: by them an earlier attempt is recognised. What is `new` to a journal that was put back
    /// from a backup may have been attempted at any time since.
    pub(super) async fn dates(
        &self,
        asked: Option<&FollowUp>,
        new: bool,
    ) -> Result<(i64, Option<i64>), Stop> {
        let steps = self.plan.steps.len() as i64;
        let reported = self.transaction.received + 100 * steps + i64::from(self.transaction.reruns);
        let first = asked.filter(|f| f.record.is_none()).map(|f| f.asked_at).filter(|at| *at > 0);
        // After the first, even if the clock has been put back since.
        let reported = first.map_or(reported, |first| reported.max(first + 1));
        let rerun = (self.transaction.reruns > 0).then_some(reported - i64::from(self.transaction.reruns));
        let lost = match new {
            true => self.near.journal.watermark(LOST_SINCE).await?.and_then(|at| at.parse().ok()),
            false => None,
        };
        Ok((reported, first.or(lost).or(rerun).filter(|first| *first < reported)))
    }

    pub(super) fn tell_cht(&mut self, record: Record, follow_up: Option<Identifier>, news: Option<News>) {
        self.plan.steps.push(Step {
            destination: "cht".into(),
            act: Act::ChtRecord { record, follow_up, news },
            after: None,
            part: self.plan.parts.len(),
        });
    }

    /// Identifiers without a system are the client's own.
    pub(super) fn own(&self, identifier: Identifier) -> Identifier {
        if identifier.system == system::REQUEST {
            return Identifier::new(system::own(&self.transaction.client), identifier.value);
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

/// Without the identifier that we derived of its content.
fn without_name(resource: &Value) -> Value {
    let mut nameless = resource.clone();
    nameless.as_object_mut().map(|fields| fields.remove("identifier"));
    nameless
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
