//! A CHT JSON-form report on its way to `POST /api/v2/records` (contract: cht.md, records).
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// A report before the patient's CHT ids are known.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RecordDraft {
    /// The form's code, in capitals as app_settings has it.
    pub form: String,
    /// The field that names the patient: `patient_uuid` or `patient_id`.
    pub patient_field: String,
    /// A field of the form, indexed by CHT, by which a repeat is found.
    pub lookup_field: String,
    /// Every other field, keys in lower case.
    pub fields: Map<String, Value>,
}

/// A report ready to be sent.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    pub form: String,
    pub lookup_field: String,
    pub fields: Map<String, Value>,
    /// Milliseconds since 1970. Ours, so that a repeat can be recognised by it.
    pub reported_date: i64,
    /// The date of the first attempt at the same act. A report of a date from then on, and without
    /// errors, is this one; one that was saved with errors is mended by a new one.
    #[serde(default)]
    pub since: Option<i64>,
}

impl RecordDraft {
    /// The record about the person with this CHT uuid or short code.
    pub fn about(self, patient: &str, reported_date: i64, since: Option<i64>) -> Record {
        let mut fields = self.fields;
        fields.insert(self.patient_field, Value::from(patient));
        Record { form: self.form, lookup_field: self.lookup_field, fields, reported_date, since }
    }
}

impl Record {
    /// The body for `POST /api/v2/records`.
    pub fn body(&self) -> Value {
        let mut body = self.fields.clone();
        body.insert("_meta".into(), json!({"form": self.form, "reported_date": self.reported_date}));
        Value::Object(body)
    }
}
