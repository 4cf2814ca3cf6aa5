//! An EMR's request to a CHW.
use super::outcome::{forget_entries, make_storable};
use super::requester::directory_key;
use super::{Draughtsman, Stop, note, refused};
use crate::domain::fhir::{Entry, Target, Write, full_url};
use crate::domain::follow_up::{FollowUp, FollowUpRequest, Happening, Kind, State};
use crate::domain::identifier::{Identifier, system};
use crate::domain::plan::{Act, News, PartNote, Status, Step};
use crate::domain::record::{Record, RecordDraft};
use crate::flow::confirm::VERSION;
use crate::flow::ports::LOST_SINCE;
use crate::translate::focus_of;
use serde_json::{Value, json};

impl Draughtsman<'_> {
    pub(super) async fn follow_up_request(&mut self, request: FollowUpRequest) -> Result<PartNote, Stop> {
        let identifier = self.called(self.own(request.identifier.clone())).await?;
        let known = self.follow_up(&identifier).await?;
        if known.as_ref().is_some_and(|known| self.is_anothers(known)) {
            let kind = request.resource["resourceType"].as_str().unwrap_or_default();
            let path = format!("{kind}.identifier");
            let text = "a request of this identifier is another client's; yours needs one of your own";
            return Err(Stop::Refused(refused(&path, "conflict", text)));
        }
        is_version(known.as_ref(), request.if_match.as_deref(), &request.resource)?;
        let (person, uuid) = self.asked_about(&request).await?;
        if known.as_ref().is_some_and(|f| f.person != person) {
            return Err(Stop::Refused(refused(
                &request.subject.path,
                "conflict",
                "this request was about another patient before",
            )));
        }
        self.same_patient_as(request.focus.as_ref(), &person, &request.subject.path).await?;
        let callback = self.callback_of(request.requester.as_deref()).await?;
        let resource = with_identifier(request.resource.clone(), &identifier);
        if let Some(known) = &known
            && request.state == State::Requested
            && let Some(why) = stays_ended(known, &resource)
        {
            return Ok(note("follow_up_request", Some(known.shown()), why));
        }
        let asker = Asker { identifier, person, uuid, callback, resource };
        match request.state {
            State::Requested if !request.contacts.is_empty() => self.trace(request, asker, known).await,
            State::Requested => self.ask_chw(request, asker, known).await,
            _ => self.moved(&request, asker, known).await,
        }
    }

    /// Whoever asks sees and changes their own; our FHIR servers speak for all whose requests they keep.
    fn is_anothers(&self, known: &FollowUp) -> bool {
        known.client != self.transaction.client && self.transaction.home.is_none() && known.home.is_none()
    }

    /// The patient as CHT knows them; one who came with the request may be made now.
    async fn asked_about(&mut self, request: &FollowUpRequest) -> Result<(String, String), Stop> {
        let unknown = match self.known_to_cht(&request.subject).await {
            Err(Stop::Refused(refusal)) if matches!(refusal.code, "not-found" | "required") => refusal,
            found => return found,
        };
        let made = match contained_patient(&request.resource) {
            Some(patient) if !request.subject.identifiers.is_empty() && request.state == State::Requested => {
                self.made_for(patient, &request.subject, &request.resource).await?
            }
            _ => None,
        };
        made.ok_or(Stop::Refused(unknown))
    }

    /// A CHW is to be asked, unless one has been.
    async fn ask_chw(
        &mut self,
        request: FollowUpRequest,
        asker: Asker,
        known: Option<FollowUp>,
    ) -> Result<PartNote, Stop> {
        let uuid = &asker.uuid;
        let open = known.clone().filter(|f| f.state.is_open());
        let (asked, is_one) = match open {
            Some(open) => (Some(open), false),
            None => self.asked_otherwise(&request, &asker).await?,
        };
        if let Some(one) = asked.as_ref().filter(|_| is_one) {
            let text = "CHT has this request already";
            return Ok(note("follow_up_request", Some(one.shown()), text));
        }
        let is_asked = match &asked {
            Some(asked) => self.is_asked(asked).await?,
            None => false,
        };
        let (reported, since) = self.dates(asked.as_ref(), known.is_none()).await?;
        let mut follow_up = self.as_asked(&request, &asker, known);
        follow_up.record = asked.as_ref().and_then(|f| f.record.clone());
        follow_up.asked_at = since.unwrap_or(reported);
        follow_up.asked_by = match is_asked {
            false => Some(self.transaction.head.id.clone()),
            true => asked.as_ref().and_then(|f| f.asked_by.clone()),
        };
        follow_up.asked_as = asked.as_ref().filter(|_| is_asked).map(|asked| {
            let first = asked.asked_as.clone();
            first.unwrap_or_else(|| asked.identifier.clone())
        });
        if let Some(asked) = asked.filter(|asked| asked.state != State::Requested) {
            follow_up.happen(Happening::to(asked.state), self.event(None));
        }
        self.store_request(&follow_up, uuid).await?;
        let text = match is_asked {
            true => "CHT has this request already",
            false => {
                self.ask_cht(request.record, &follow_up, uuid, (reported, since));
                "a request to a CHW"
            }
        };
        let shown = follow_up.shown();
        self.claim(&follow_up, uuid).await?;
        self.facts.follow_ups.push(follow_up);
        Ok(note("follow_up_request", Some(shown), text))
    }

    /// The request as it is asked now: new, changed while it is open, or anew after its end.
    pub(super) fn as_asked(
        &self,
        request: &FollowUpRequest,
        asker: &Asker,
        known: Option<FollowUp>,
    ) -> FollowUp {
        let is_changed = known.as_ref().is_some_and(|known| !is_same(&known.resource, &asker.resource));
        let is_new = known.is_none();
        let client = &self.transaction.client;
        let mut follow_up = known.unwrap_or_else(|| {
            FollowUp::new(Kind::FollowUp, asker.identifier.clone(), &asker.person, client)
        });
        follow_up.home.clone_from(&self.transaction.home);
        follow_up.resource.clone_from(&asker.resource);
        follow_up.form.clone_from(&request.record.form);
        follow_up.program.clone_from(&request.program);
        follow_up.callback = asker.callback.clone().or(follow_up.callback);
        if is_new {
            follow_up.events.push(self.event(None));
            self.set_deadlines(&mut follow_up, request.due);
        } else if !follow_up.state.is_open() {
            follow_up.happen(Happening::Asked, self.event(None));
            self.set_deadlines(&mut follow_up, request.due);
        } else if is_changed {
            follow_up.happen(Happening::Changed, self.event(None));
            if request.due.is_some() {
                self.set_deadlines(&mut follow_up, request.due);
            }
        }
        follow_up
    }

    /// By its own date, else by its programme's.
    pub(super) fn set_deadlines(&self, request: &mut FollowUp, due: Option<i64>) {
        let (due_days, expires_days) = self.near.follow_up.days(request.program.as_deref());
        let asked = request.updated();
        let after = |days: u32, since: i64| (days > 0).then(|| since + i64::from(days) * DAY);
        request.due = due.or(after(due_days, asked));
        // What is to be done late is not given up before.
        request.expires = after(expires_days, asked.max(due.unwrap_or_default()));
    }

    /// What follows once CHT has the record: the request is claimed.
    pub(super) async fn claim(&mut self, follow_up: &FollowUp, uuid: &str) -> Result<(), Stop> {
        let asks = |step: &Step| match &step.act {
            Act::ChtRecord { follow_up: Some(asked), .. } => {
                let mut names = self.facts.follow_ups.iter().filter(|f| f.is_one_with(follow_up));
                *asked == follow_up.identifier || names.any(|f| f.identifier == *asked)
            }
            _ => false,
        };
        match self.plan.steps.iter().position(asks) {
            Some(step) if self.claimed_after(step, follow_up, uuid).await? => Ok(()),
            _ => self.announce(follow_up, None).await,
        }
    }

    /// The request is claimed once that step is done: servers keep it so, and subscribers are told. Answers whether it
    /// was not claimed yet.
    pub(super) async fn claimed_after(
        &mut self,
        step: usize,
        request: &FollowUp,
        uuid: &str,
    ) -> Result<bool, Stop> {
        let mut claimed = request.clone();
        if !claimed.happen(Happening::Claimed, self.event(None)) {
            return Ok(false);
        }
        self.needs = Some(step);
        self.keep_at_servers(&claimed, uuid).await?;
        self.announce(&claimed, None).await?;
        self.needs = None;
        Ok(true)
    }

    /// A request by our id for it, else as it is called.
    async fn called(&self, identifier: Identifier) -> Result<Identifier, Stop> {
        let own = system::own(&self.transaction.client);
        let Some((_, id)) = identifier.value.split_once('/').filter(|_| identifier.system == own) else {
            return Ok(identifier);
        };
        let named = self.near.journal.follow_ups_named(id).await?;
        let known = named.into_iter().find(|f| f.client == self.transaction.client && f.id() == id);
        Ok(known.map_or(identifier, |known| known.identifier))
    }

    /// A request as an earlier part of this message left it, else as the journal has it.
    pub(super) async fn follow_up(&self, identifier: &Identifier) -> Result<Option<FollowUp>, Stop> {
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
        request: &FollowUpRequest,
        asker: &Asker,
    ) -> Result<(Option<FollowUp>, bool), Stop> {
        let Asker { identifier, person, resource, .. } = asker;
        let focus = match &request.focus {
            Some(focus) => Some(self.request_called(focus).await?),
            None => None,
        };
        let mut open = self.near.journal.follow_ups_of(person).await?;
        open.extend(self.facts.follow_ups.iter().filter(|f| f.person == *person).cloned());
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
            // The same list again, a week later: its patients are asked for already.
            if request.listed && f.form == request.record.form && f.program == request.program {
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
        self.called(name.clone()).await
    }

    /// Whether a CHW has been asked: the record is there, or somebody else is still at it.
    pub(super) async fn is_asked(&self, request: &FollowUp) -> Result<bool, Stop> {
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

    /// The request as the FHIR servers keep it, beside the patient it is about. Where it came from, it is.
    pub(super) async fn store_request(&mut self, request: &FollowUp, uuid: &str) -> Result<(), Stop> {
        let (patient, subject) = bare_patient(uuid);
        let stored = as_stored(request, Some(&subject));
        self.send(vec![patient, stored]).await
    }

    /// The same after it has moved on, and on the server that it came from.
    pub(super) async fn keep_at_servers(&mut self, request: &FollowUp, uuid: &str) -> Result<(), Stop> {
        let Some(home) = &request.home else { return self.store_request(request, uuid).await };
        let stored = as_stored(request, None);
        self.send_with(Vec::new(), &[(home.clone(), stored)]).await
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

    /// The record that asks a CHW to carry a request out, with the day by which it is to be done.
    pub(super) fn ask_cht(
        &mut self,
        mut draft: RecordDraft,
        request: &FollowUp,
        uuid: &str,
        (reported, since): (i64, Option<i64>),
    ) {
        if let Some(due) = request.due.and_then(|due| self.near.mappings.day(due)) {
            draft.fields.entry("due_date").or_insert(due.into());
        }
        self.tell_cht(draft.about(uuid, reported, since), Some(request.identifier.clone()), None);
    }

    pub(super) fn tell_cht(&mut self, record: Record, follow_up: Option<Identifier>, news: Option<News>) {
        let about = ["patient_uuid", "patient_id"].iter().find_map(|key| record.fields.get(*key)?.as_str());
        let needs = about.and_then(|uuid| self.made.get(uuid)).copied();
        self.plan.steps.push(Step {
            destination: "cht".into(),
            act: Act::ChtRecord { record, follow_up, news },
            after: None,
            needs,
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

/// A request, and who asks.
pub(super) struct Asker {
    pub identifier: Identifier,
    pub person: String,
    pub uuid: String,
    pub callback: Option<String>,
    /// With our identifier for it.
    pub resource: Value,
}

const DAY: i64 = 86_400_000;

/// The Patient that the request is about, if it contains them.
fn contained_patient(request: &Value) -> Option<&Value> {
    let element = super::reshape::subject_element(request);
    let id = request[element]["reference"].as_str()?.strip_prefix('#')?;
    let mut contained = request["contained"].as_array()?.iter();
    contained.find(|one| one["resourceType"] == "Patient" && one["id"] == id)
}

/// How far a request is, and what only we write into it, is no content.
const NO_CONTENT: &[&str] =
    &["id", "meta", "status", "businessStatus", "statusReason", "output", "lastModified"];

/// The same request in another wrapping: by another route, in a Bundle, with an id.
pub(super) fn is_same(known: &Value, now: &Value) -> bool {
    let content = |resource: &Value| {
        let mut content = resource.clone();
        for own in NO_CONTENT {
            content.as_object_mut().map(|fields| fields.remove(*own));
        }
        content
    };
    content(known) == content(now)
}

/// Why a request that has ended is not asked anew.
fn stays_ended(known: &FollowUp, now: &Value) -> Option<&'static str> {
    if known.state.is_open() {
        return None;
    }
    if known.state == State::Cancelled && known.asked_by.is_none() {
        let why = "this request was withdrawn before it came; asked anew, it has another identifier";
        return (!is_newer(&known.resource, now)).then_some(why);
    }
    is_same(&known.resource, now).then_some(match known.state {
        State::Cancelled => "this request was withdrawn; asked anew, it would say something new",
        State::Expired => "nobody did this in time; asked anew, it would say something new",
        State::Rejected => "this request was refused; asked anew, it would say something new",
        _ => "this request has been answered; asked anew, it would say something new",
    })
}

/// By what both servers say of their versions.
fn is_newer(known: &Value, now: &Value) -> bool {
    let at = |resource: &Value| resource["meta"]["lastUpdated"].as_str()?.parse::<jiff::Timestamp>().ok();
    at(known).zip(at(now)).is_some_and(|(known, now)| now > known)
}

/// Only the version that its sender has seen may be changed.
pub(super) fn is_version(known: Option<&FollowUp>, wanted: Option<&str>, sent: &Value) -> Result<(), Stop> {
    let Some(wanted) = wanted else { return Ok(()) };
    let is = known.map(FollowUp::version);
    if is.as_deref() == Some(wanted) {
        return Ok(());
    }
    let kind = sent["resourceType"].as_str().unwrap_or_default();
    let text = match is {
        Some(is) => format!("it is version {is} by now, and not {wanted}; read it again"),
        None => "nothing of this name is here, so it has no version".into(),
    };
    Err(Stop::Refused(refused(&format!("{kind}{VERSION}"), "conflict", &text)))
}

/// A request as FHIR servers keep it: aimed at the id that it has where it came from, else found by its
/// identifier; about the patient as the server has them.
pub(super) fn as_stored(request: &FollowUp, patient: Option<&str>) -> Entry {
    let mut resource = request.as_it_stands();
    let target = match (&request.home, resource["id"].as_str()) {
        (Some(_), Some(id)) => Target::Id(format!("{}/{id}", request.resource_type())),
        _ => {
            make_storable(&mut resource, request, patient);
            Target::Identifier(request.identifier.clone())
        }
    };
    Entry {
        full_url: full_url(request.resource_type(), &request.identifier),
        target,
        write: Write::Merge { keep: Vec::new() },
        resource,
    }
}

/// A request whose Bundle is long gone: entries of it that it names are on the server already.
pub(super) fn without_entries(request: &FollowUp) -> FollowUp {
    let mut kept = request.clone();
    if kept.home.is_none() {
        forget_entries(&mut kept.resource);
    }
    kept
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
