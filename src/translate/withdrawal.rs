//! What a CHW is told when nothing is to be done any more, or nobody has answered: made of a request as it is
//! kept, by the mappings that serve a `withdrawal` or news.
use super::language::eval::Inputs;
use super::{Mappings, Refusal, Source, Translation, values};
use crate::domain::follow_up::{FollowUp, State};
use crate::domain::message::Route;
use crate::domain::record::RecordDraft;
use serde_json::{Value, json};

/// Why nothing is to be done any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Withdrawal {
    /// Its requester takes it back.
    Withdrawn,
    /// It never should have been asked.
    EnteredInError,
    /// Its requester has done without: the patient came back, say.
    Done,
    /// Nobody did it in time.
    Expired,
}

impl Withdrawal {
    /// By the state and the status that the requester gives.
    pub fn of(state: State, status: &str) -> Self {
        match (state, status) {
            (_, "entered-in-error") => Self::EnteredInError,
            (State::Completed, _) => Self::Done,
            (State::Expired, _) => Self::Expired,
            _ => Self::Withdrawn,
        }
    }

    /// `message.reason` of mappings.
    pub fn code(self) -> &'static str {
        match self {
            Self::Withdrawn => "withdrawn",
            Self::EnteredInError => "entered-in-error",
            Self::Done => "done",
            Self::Expired => "expired",
        }
    }
}

impl Mappings {
    /// The record that takes a CHW's task away; nothing if no mapping makes one for requests of its form.
    pub fn withdrawal(
        &self,
        request: &FollowUp,
        reason: Withdrawal,
        received: i64,
    ) -> Result<Option<RecordDraft>, Refusal> {
        let message = json!({"kind": "withdrawal", "form": request.form, "reason": reason.code()});
        self.record_about(request, message, received)
    }

    /// The record that tells a CHW that a clinic never answered.
    pub fn no_answer(&self, referral: &FollowUp, received: i64) -> Result<Option<RecordDraft>, Refusal> {
        let message =
            json!({"kind": "news", "said": "The clinic has not answered in time", "admitted": false});
        self.record_about(referral, message, received)
    }

    fn record_about(
        &self,
        request: &FollowUp,
        mut message: Value,
        received: i64,
    ) -> Result<Option<RecordDraft>, Refusal> {
        let route = Route::Lapse;
        message["route"] = route.to_string().into();
        message["received"] = received.into();
        message["state"] = request.state.task_status().into();
        let identifier = &request.identifier;
        message["identifier"] = json!({"system": identifier.system, "value": identifier.value});
        let resource = request.as_it_stands();
        let set = self.set();
        let source = Source { route: &route, body: &resource, received };
        let mut work = Translation::of(&self.settings, &set, &source);
        let inputs = Inputs::default()
            .with("resource", &resource)
            .with("patient", &Value::Null)
            .with("message", &message);
        match work.claim(inputs)? {
            Some(mapping) => work.record_by(mapping, inputs).map(|(_, record)| Some(record)),
            None => Ok(None),
        }
    }

    /// The day of an instant, as records have it.
    pub fn day(&self, millis: i64) -> Option<String> {
        values::day(millis, &self.settings.time_zone).map(|day| day.to_string())
    }
}
