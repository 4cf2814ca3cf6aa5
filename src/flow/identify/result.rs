//! What a clinic has found, told to the CHW of a patient whom CHT knows. The resource itself is kept in any case.
use super::requester::directory_key;
use super::{Draughtsman, Stop, note};
use crate::domain::follow_up::ClinicResult;
use crate::domain::plan::{PartNote, Status};
use crate::flow::confirm::RESULT;
use crate::flow::envelope::digest;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// What a CHW was last told of a result.
#[derive(Serialize, Deserialize)]
struct Told {
    /// Of the record.
    digest: String,
    /// A correction is another telling.
    number: u32,
    /// When it was first tried.
    at: i64,
    /// By this transaction.
    by: String,
}

impl Draughtsman<'_> {
    pub(super) async fn result(&mut self, result: ClinicResult) -> Result<PartNote, Stop> {
        let (_, uuid) = match self.known_to_cht(&result.subject).await {
            Ok(known) => known,
            Err(Stop::Refused(why)) => {
                return Ok(note(RESULT, None, format!("kept, and no CHW is told: {}", why.message)));
            }
            Err(other) => return Err(other),
        };
        let name = result.identifier.token();
        let key = directory_key(&self.transaction.client, "told", &name);
        let digest = digest(&Value::Object(result.record.fields.clone()));
        let last = self.last_told(&key).await?;
        let (number, retry) = match &last {
            None if result.withdrawn => return Ok(note(RESULT, None, "withdrawn before anybody was told")),
            None => (1, None),
            Some(last) if last.digest != digest => (last.number + 1, None),
            Some(last) if self.is_told(last).await? => {
                return Ok(note(RESULT, None, "the CHW has been told already"));
            }
            Some(last) => (last.number, Some(last.at)),
        };
        let (reported, since) = self.dates(None, last.is_none()).await?;
        let reported = retry.map_or(reported, |at| reported.max(at + 1));
        let mut draft = result.record;
        if number > 1
            && let Some(Value::String(called)) = draft.fields.get_mut(&draft.lookup_field)
        {
            *called = format!("{called} ({number})");
        }
        let told =
            Told { digest, number, at: retry.unwrap_or(reported), by: self.transaction.head.id.clone() };
        self.facts.directory.push((key, json!(told)));
        self.tell_cht(draft.about(&uuid, reported, retry.or(since)), None, None);
        let text = if number > 1 { "a correction for a CHW" } else { "a result for a CHW" };
        Ok(note(RESULT, None, text))
    }

    /// As an earlier part of this message says, or the journal.
    async fn last_told(&self, key: &str) -> Result<Option<Told>, Stop> {
        let newer = self.facts.directory.iter().rev().find(|(known, _)| known == key);
        let told = match newer {
            Some((_, told)) => Some(told.clone()),
            None => self.near.journal.directory(key).await?,
        };
        Ok(told.and_then(|told| serde_json::from_value(told).ok()))
    }

    /// Whoever told it has done so, or is at it. What failed is told anew; what is so old that it is no longer kept
    /// has been.
    async fn is_told(&self, last: &Told) -> Result<bool, Stop> {
        if last.by == self.transaction.head.id {
            return Ok(self.facts.directory.iter().any(|(_, told)| told["by"] == last.by.as_str()));
        }
        let by = self.near.journal.transaction(&last.by).await?;
        Ok(by.is_none_or(|by| !matches!(by.head.status, Status::Failed | Status::Cancelled)))
    }
}
