//! A person of CHT whom another system knows: what it says of them, and what CHT's own people made of that.
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// What another system has said of a person, as fields of CHT's document.
pub type Said = Map<String, Value>;

/// Fields of `POST /api/v1/people` that nobody says of a person.
const NOT_SAID: &[&str] = &["_id", "place", "reported_date"];

/// What was said when CHT was last told, by the transaction with this number.
#[derive(Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct LastSaid {
    pub seq: i64,
    pub said: Said,
}

impl LastSaid {
    /// Of the body that made the person.
    pub fn by_body(seq: i64, body: &Value) -> Self {
        let fields = body.as_object().into_iter().flatten();
        let said = fields.filter(|(field, _)| !NOT_SAID.contains(&field.as_str()));
        Self { seq, said: said.map(|(field, value)| (field.clone(), value.clone())).collect() }
    }
}

/// What CHT itself pushed, field by field, as it reads when it comes back from a FHIR server: the newest last.
#[derive(Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Pushes(BTreeMap<String, Vec<Pushed>>);

#[derive(Clone, PartialEq, Serialize, Deserialize)]
struct Pushed {
    /// Milliseconds since 1970.
    at: i64,
    value: Value,
}

/// For so long something that CHT pushed, and has pushed otherwise since, may still be under way.
const UNDER_WAY_MS: i64 = 60 * 60 * 1000;

/// Fields that a server may put in each other's place: it keeps their phones beside CHT's.
const PHONES: &[&str] = &["phone", "phone_alternate"];

impl Pushes {
    pub fn hear(&mut self, fields: Said, at: i64) {
        for (field, value) in fields {
            let known = self.0.entry(field).or_default();
            known.retain(|pushed| pushed.value != value && pushed.at > at - UNDER_WAY_MS);
            known.push(Pushed { at, value });
        }
    }

    /// CHT's own word that comes back is nothing new: of such fields it is now said elsewhere too.
    pub fn agree(&self, said: &mut Said, now: &mut Said, at: i64) {
        let is_known =
            |field: &&str, phone| said.get(*field) == Some(phone) || self.contain(field, phone, at);
        if now.get("phone_alternate").is_some_and(|phone| PHONES.iter().any(|field| is_known(field, phone))) {
            now.remove("phone_alternate");
        }
        for (field, value) in now.iter().filter(|(field, value)| self.contain(field, value, at)) {
            said.insert(field.clone(), value.clone());
        }
    }

    fn contain(&self, field: &str, value: &Value, at: i64) -> bool {
        let Some(known) = self.0.get(field) else { return false };
        let newest = known.last().map(|pushed| &pushed.value);
        newest == Some(value)
            || known.iter().any(|pushed| pushed.value == *value && pushed.at > at - UNDER_WAY_MS)
    }
}

/// What is said of a person now. `null`: no longer.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Change {
    pub uuid: String,
    pub before: Said,
    pub now: Said,
}

impl Change {
    /// The fields that are said otherwise than before.
    pub fn fields(&self) -> Vec<&str> {
        let changed = self
            .now
            .iter()
            .filter(|(field, value)| self.before.get(*field).unwrap_or(&Value::Null) != *value);
        changed.map(|(field, _)| field.as_str()).collect()
    }

    /// CHT's document as it should be; nothing if it is so already. A field that CHT's own people have changed
    /// meanwhile is theirs.
    pub fn applied_to(&self, doc: &Value) -> Option<Value> {
        let mut changed = doc.clone();
        for field in self.fields() {
            let (before, now) = (self.before.get(field).unwrap_or(&Value::Null), &self.now[field]);
            if doc[field] != *before {
                continue;
            }
            match now {
                Value::Null => drop(changed.as_object_mut()?.remove(field)),
                now => changed[field] = now.clone(),
            }
        }
        (changed != *doc).then_some(changed)
    }

    /// All that has been said once CHT has been told.
    pub fn said(&self, seq: i64) -> LastSaid {
        let mut said = self.before.clone();
        said.extend(self.now.clone());
        said.retain(|_, value| !value.is_null());
        LastSaid { seq, said }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn said(fields: Value) -> Said {
        fields.as_object().cloned().expect("fields")
    }

    #[test]
    fn what_is_said_otherwise_is_changed_and_what_a_chw_wrote_stays() {
        let change = Change {
            uuid: "a".into(),
            before: said(json!({"name": "Otieno", "phone": "+254712000101", "muted": "2026-11-01"})),
            now: said(json!({"name": "Otieno Ouma", "phone": "+254712000102", "sex": "male", "muted": null})),
        };
        let doc = json!({"_id": "a", "_rev": "3-x", "name": "Otieno", "phone": "+254712000999", "muted": "2026-11-01",
            "role": "patient", "parent": {"_id": "area"}});
        let changed = change.applied_to(&doc).expect("a change");
        assert_eq!(
            changed,
            json!({"_id": "a", "_rev": "3-x", "name": "Otieno Ouma", "phone": "+254712000999", "sex": "male",
                "role": "patient", "parent": {"_id": "area"}})
        );
        assert_eq!(change.applied_to(&changed), None, "once is enough");
        assert_eq!(
            change.said(7).said,
            said(json!({"name": "Otieno Ouma", "phone": "+254712000102", "sex": "male"}))
        );
    }

    #[test]
    fn what_cht_pushed_is_known_when_it_comes_back() {
        let before = said(json!({"phone": "+1", "sex": "male"}));
        let mut pushes = Pushes::default();
        pushes.hear(said(json!({"phone": "+1"})), 0);
        pushes.hear(said(json!({"phone": "+2"})), 5);
        pushes.hear(said(json!({"phone": "+3"})), UNDER_WAY_MS);
        let agreed = |phone: &str, at: i64| {
            let mut before = before.clone();
            pushes.agree(&mut before, &mut said(json!({"phone": phone})), at);
            before["phone"] == phone
        };
        assert!(agreed("+3", i64::MAX), "the newest for ever");
        assert!(agreed("+2", UNDER_WAY_MS + 4), "an older one while it may be under way");
        assert!(!agreed("+2", UNDER_WAY_MS + 5), "and then it is somebody's new word");
        assert!(!agreed("+4", 6));
        // A server keeps their phone beside CHT's.
        let mut now = said(json!({"phone": "+3", "phone_alternate": "+1"}));
        pushes.agree(&mut before.clone(), &mut now, UNDER_WAY_MS);
        assert_eq!(now, said(json!({"phone": "+3"})));
    }
}
