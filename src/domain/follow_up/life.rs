//! The life of a request: which steps are legal, and what each leaves behind. The state is what the events
//! make of it: [`replay`] of a request's events is its state.
use super::{Kind, State};
use crate::domain::fhir::{CANONICAL, full_url};
use crate::domain::identifier::Identifier;
use crate::domain::plan::News;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// What can happen to a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Happening {
    /// The first time, or anew after its end.
    Asked,
    /// Its requester says something else of it.
    Changed,
    /// Whoever is to do it has been told: OpenHIE's "claimed" and "alerted".
    Claimed,
    /// Tried, and to be tried again.
    Begun,
    /// Done. Once more: the outcome is corrected.
    Completed,
    Refused,
    Withdrawn,
    /// Not done when it was due; still to be done.
    Overdue,
    Expired,
    /// An outcome of what was withdrawn or refused before: kept, and nothing is changed by it.
    Late,
}

impl Happening {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Asked => "asked",
            Self::Changed => "changed",
            Self::Claimed => "claimed",
            Self::Begun => "begun",
            Self::Completed => "completed",
            Self::Refused => "refused",
            Self::Withdrawn => "withdrawn",
            Self::Overdue => "overdue",
            Self::Expired => "expired",
            Self::Late => "late",
        }
    }

    /// What it is called to move to a state that somebody tells of.
    pub fn to(state: State) -> Self {
        match state {
            State::Requested => Self::Asked,
            State::Accepted => Self::Claimed,
            State::InProgress => Self::Begun,
            State::Completed => Self::Completed,
            State::Rejected => Self::Refused,
            State::Cancelled => Self::Withdrawn,
            State::Expired => Self::Expired,
        }
    }
}

impl State {
    /// The state after it, if it is a legal step.
    pub fn after(self, what: Happening) -> Option<Self> {
        use Happening as H;
        let open = self.is_open();
        Some(match what {
            H::Asked if !open => Self::Requested,
            H::Changed | H::Overdue if open => self,
            H::Claimed if self == Self::Requested => Self::Accepted,
            // The CHW takes back what she said, or the clinic does.
            H::Begun if open || self == Self::Completed => Self::InProgress,
            H::Completed if open || matches!(self, Self::Completed | Self::Expired) => Self::Completed,
            H::Refused if open => Self::Rejected,
            H::Withdrawn if open || self == Self::Expired => Self::Cancelled,
            H::Expired if open => Self::Expired,
            H::Late if matches!(self, Self::Cancelled | Self::Rejected) => self,
            _ => return None,
        })
    }
}

/// A step of a request.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Milliseconds since 1970.
    pub at: i64,
    pub what: Happening,
    /// The client who sent what made it happen; of a deadline the mediator itself.
    pub by: String,
    /// The transaction that made it happen.
    pub transaction: String,
    /// What came of the request, as a code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
}

/// The state that these events lead to; nothing if one of them was no legal step.
pub fn replay(events: &[Event]) -> Option<State> {
    let (first, rest) = events.split_first()?;
    let begun = (first.what == Happening::Asked).then_some(State::Requested)?;
    rest.iter().try_fold(begun, |state, event| state.after(event.what))
}

/// A request, from when it was asked until its end.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct FollowUp {
    pub kind: Kind,
    pub identifier: Identifier,
    /// The person's id in the crosswalk.
    pub person: String,
    pub state: State,
    /// The ServiceRequest or Task, as it was asked; its status is [`FollowUp::state`].
    pub resource: Value,
    /// Form of the CHT record that asks the CHW; empty for a referral.
    #[serde(default)]
    pub form: String,
    /// CHT uuid of that record, once it is there.
    #[serde(default)]
    pub record: Option<String>,
    /// Where the requester wants the outcome sent.
    #[serde(default)]
    pub callback: Option<String>,
    /// Who asked; nobody else may read it.
    #[serde(default)]
    pub client: String,
    /// The destination on which `resource.id` is the id, if it came from there.
    #[serde(default)]
    pub home: Option<String>,
    /// States and details that CHT has been told of.
    #[serde(default)]
    pub told: Vec<String>,
    /// The transaction that asks CHT for a CHW. Several names of one request share it.
    #[serde(default)]
    pub asked_by: Option<String>,
    /// The name by which that record calls it, if it is another one's.
    #[serde(default)]
    pub asked_as: Option<Identifier>,
    /// The date of the record that first asked, in milliseconds since 1970.
    #[serde(default)]
    pub asked_at: i64,
    /// What has happened to it, oldest first. None: it is of a release that did not keep them.
    #[serde(default)]
    pub events: Vec<Event>,
    /// What it is for, in words (`HIV`, `TB`).
    #[serde(default)]
    pub program: Option<String>,
    /// The requests for each contact, if it is to trace contacts: it ends when all of them have.
    #[serde(default)]
    pub contacts: Vec<Identifier>,
    /// The request that this is a contact's of.
    #[serde(default)]
    pub index: Option<Identifier>,
    /// When it is to be done, in milliseconds since 1970.
    #[serde(default)]
    pub due: Option<i64>,
    /// When nobody waits for it any longer.
    #[serde(default)]
    pub expires: Option<i64>,
    /// What came of it, as a code.
    #[serde(default)]
    pub outcome: Option<String>,
}

impl FollowUp {
    /// One that nothing has happened to yet.
    pub fn new(kind: Kind, identifier: Identifier, person: &str, client: &str) -> Self {
        Self {
            kind,
            identifier,
            person: person.to_string(),
            state: State::Requested,
            resource: Value::Null,
            form: String::new(),
            record: None,
            callback: None,
            client: client.to_string(),
            home: None,
            told: Vec::new(),
            asked_by: None,
            asked_as: None,
            asked_at: 0,
            events: Vec::new(),
            program: None,
            contacts: Vec::new(),
            index: None,
            due: None,
            expires: None,
            outcome: None,
        }
    }

    /// Makes a step, if it is a legal one that this transaction has not made before. Answers whether.
    pub fn happen(&mut self, what: Happening, event: Event) -> bool {
        let is_known = |known: &Event| known.transaction == event.transaction && known.what == what;
        if self.events.last().is_some_and(is_known) && self.outcome == event.outcome {
            return false;
        }
        let Some(next) = self.state.after(what) else { return false };
        self.state = next;
        if what == Happening::Asked {
            self.outcome = None;
        }
        if event.outcome.is_some() && what != Happening::Late {
            self.outcome.clone_from(&event.outcome);
        }
        self.events.push(Event { what, ..event });
        true
    }

    /// CHT knows this now.
    pub fn has_been_told(&mut self, news: &News, event: Event) {
        if !self.told.contains(&news.said) {
            self.told.push(news.said.clone());
            self.happen(Happening::to(news.state), event);
        }
    }

    /// `ServiceRequest` or `Task`.
    pub fn resource_type(&self) -> &str {
        self.resource["resourceType"].as_str().unwrap_or_default()
    }

    /// Its id in our answers: the one that it came with, else one that is always the same.
    pub fn id(&self) -> String {
        match self.resource["id"].as_str() {
            Some(own) if self.kind == Kind::FollowUp => own.to_string(),
            _ => full_url(self.resource_type(), &self.identifier).trim_start_matches("urn:uuid:").to_string(),
        }
    }

    /// Whether both were asked for by one record: a ServiceRequest and its Task are one request.
    pub fn is_one_with(&self, other: &Self) -> bool {
        fn name(one: &FollowUp) -> &Identifier {
            one.asked_as.as_ref().unwrap_or(&one.identifier)
        }
        // Earlier releases did not keep by which name they asked.
        let is_old = self.events.is_empty() || other.events.is_empty();
        self.kind == other.kind
            && self.asked_by.is_some()
            && self.asked_by == other.asked_by
            && (is_old || name(self) == name(other))
    }

    /// Of what [`FollowUp::shown`] shows: it grows with each event. No server's look like `v3`, so that nobody's own is
    /// taken for it.
    pub fn version(&self) -> String {
        format!("v{}", self.events.len().max(1))
    }

    /// When it changed last, in milliseconds since 1970.
    pub fn updated(&self) -> i64 {
        self.events.last().map_or(self.asked_at, |event| event.at)
    }

    /// When it was asked first, in milliseconds since 1970.
    pub fn created(&self) -> i64 {
        self.events.first().map_or(self.asked_at, |event| event.at)
    }

    /// When it was written, as it says itself (`authoredOn`), in milliseconds since 1970.
    pub fn authored(&self) -> i64 {
        let said = self.resource["authoredOn"].as_str();
        let at = |said: &str| {
            let day = || said.get(..10)?.parse::<jiff::civil::Date>().ok();
            let midnight =
                |day: jiff::civil::Date| jiff::tz::TimeZone::UTC.to_timestamp(day.at(0, 0, 0, 0)).ok();
            let instant = said.parse::<jiff::Timestamp>().ok();
            instant.or_else(|| midnight(day()?)).map(|at| at.as_millisecond())
        };
        said.and_then(at).unwrap_or_else(|| self.created())
    }

    /// When it first happened.
    pub fn first(&self, what: Happening) -> Option<i64> {
        self.events.iter().find(|event| event.what == what).map(|event| event.at)
    }

    pub fn is_overdue(&self) -> bool {
        let last = |what| self.events.iter().rposition(|event| event.what == what);
        self.state.is_open() && last(Happening::Overdue) > last(Happening::Asked)
    }

    /// When somebody has to look at it again, if nothing happens: it becomes due, or expires.
    pub fn wakes(&self) -> Option<i64> {
        if !self.state.is_open() {
            return None;
        }
        let due = self.due.filter(|_| !self.is_overdue());
        [due, self.expires].into_iter().flatten().min()
    }

    /// The identifier's value, else the id, of who asks.
    pub fn requester(&self) -> Option<&str> {
        name_of(&self.resource["requester"])
    }

    /// The identifier's value, else the id, of who is to do it: of the first performer, or the owner.
    pub fn performer(&self) -> Option<&str> {
        match self.resource_type() {
            "Task" => name_of(&self.resource["owner"]),
            _ => self.resource["performer"].as_array()?.iter().find_map(name_of),
        }
    }

    /// The request as it stands, for a FHIR server: without id and version, which are the server's.
    pub fn as_it_stands(&self) -> Value {
        let mut resource = self.resource.clone();
        resource["status"] = self.state.status_of(self.resource_type()).into();
        if let Some(fields) = resource.as_object_mut() {
            fields.remove("meta");
        }
        if self.resource_type() == "Task"
            && let Some(words) = self.business_status()
        {
            resource["businessStatus"] = json!({"text": words});
        }
        resource
    }

    /// The same as we show it ourselves, with id and version.
    pub fn shown(&self) -> Value {
        let mut resource = self.as_it_stands();
        resource["id"] = self.id().into();
        resource["meta"] = self.resource["meta"].clone();
        if !resource["meta"].is_object() {
            resource["meta"] = json!({});
        }
        if let Some(flag) = self.flag() {
            let tag = json!({"system": format!("{CANONICAL}CodeSystem/request-flag"), "code": flag});
            match resource["meta"]["tag"].as_array_mut() {
                Some(tags) => tags.push(tag),
                None => resource["meta"]["tag"] = json!([tag]),
            }
        }
        resource["meta"]["versionId"] = self.version().into();
        if let Ok(updated) = jiff::Timestamp::from_millisecond(self.updated()) {
            resource["meta"]["lastUpdated"] = updated.to_string().into();
        }
        resource
    }

    /// A tag of the CodeSystem `request-flag`, since a ServiceRequest has no element for it.
    pub fn flag(&self) -> Option<&'static str> {
        match self.state {
            State::Expired => Some("expired"),
            _ => self.is_overdue().then_some("overdue"),
        }
    }

    fn business_status(&self) -> Option<&str> {
        match self.state {
            State::Completed => self.outcome.as_deref(),
            _ if self.flag().is_some() => self.flag(),
            State::Accepted => Some("alerted"),
            State::InProgress => Some("another attempt is planned"),
            _ => None,
        }
    }
}

fn name_of(reference: &Value) -> Option<&str> {
    let identifier = reference["identifier"]["value"].as_str();
    identifier.or_else(|| reference["reference"].as_str()?.rsplit(['/', '=', '|']).next())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALL: [Happening; 10] = [
        Happening::Asked,
        Happening::Changed,
        Happening::Claimed,
        Happening::Begun,
        Happening::Completed,
        Happening::Refused,
        Happening::Withdrawn,
        Happening::Overdue,
        Happening::Expired,
        Happening::Late,
    ];

    fn event(n: usize, outcome: Option<&str>) -> Event {
        Event {
            at: n as i64,
            what: Happening::Asked,
            by: "emr".into(),
            transaction: format!("t{n}"),
            outcome: outcome.map(String::from),
        }
    }

    fn asked() -> FollowUp {
        let asked = json!({"kind": "follow_up", "identifier": {"system": "s", "value": "1"}, "person": "p",
            "state": "requested", "resource": {"resourceType": "Task"}, "events": [event(0, None)], "due": 1, "expires": 2});
        serde_json::from_value(asked).expect("a request")
    }

    #[test]
    fn the_end_of_a_request_is_taken_back_by_nobody_but_who_may() {
        for (from, what, to) in [
            (State::Requested, Happening::Claimed, Some(State::Accepted)),
            (State::InProgress, Happening::Claimed, None),
            (State::Completed, Happening::Completed, Some(State::Completed)),
            (State::Completed, Happening::Begun, Some(State::InProgress)),
            (State::Completed, Happening::Withdrawn, None),
            (State::Completed, Happening::Expired, None),
            (State::Cancelled, Happening::Completed, None),
            (State::Cancelled, Happening::Late, Some(State::Cancelled)),
            (State::Cancelled, Happening::Asked, Some(State::Requested)),
            (State::Expired, Happening::Completed, Some(State::Completed)),
            (State::Rejected, Happening::Begun, None),
            (State::Accepted, Happening::Asked, None),
        ] {
            assert_eq!(from.after(what), to, "{from:?} {what:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(5_000))]

        /// Whatever happens in whatever order: the events lead to the state, and tell all that changed it.
        #[test]
        fn the_state_is_what_the_events_make_of_it(happenings in proptest::collection::vec((0..ALL.len(), 0..3_usize), 0..40)) {
            let mut request = asked();
            for (n, (what, outcome)) in happenings.into_iter().enumerate() {
                let (before, events) = (request.state, request.events.len());
                let outcome = ["found", "moved"].get(outcome).copied();
                let happened = request.happen(ALL[what], event(n + 1, outcome));
                prop_assert_eq!(happened, before.after(ALL[what]).is_some());
                prop_assert_eq!(request.events.len(), events + usize::from(happened));
                prop_assert_eq!(request.version(), format!("v{}", request.events.len()));
                prop_assert!(happened || request.state == before);
                // The same again is the same.
                let repeated = request.clone().happen(ALL[what], event(n + 1, outcome));
                prop_assert!(!happened || !repeated || request.outcome.as_deref() != outcome);
            }
            prop_assert_eq!(replay(&request.events), Some(request.state));
            prop_assert!(request.wakes().is_none() || request.state.is_open());
            let shown = request.shown();
            prop_assert_eq!(shown["status"].as_str(), Some(request.state.task_status()));
            prop_assert_eq!(&shown["meta"]["versionId"], &json!(request.version()));
        }
    }
}
