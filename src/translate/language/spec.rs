//! What may stand in a mapping's file. `mapping.schema.json` is made from these types.
//!
//! Templates are read from the YAML itself, so that an error knows its line; here they are only said
//! to be templates.
use super::codec::Codec;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde_json::Value;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// One mapping: which messages it serves, and what they become.
#[derive(Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MappingFile {
    /// Its name: the file's, without `.yaml`.
    pub mapping: String,
    /// What it is for, in one line.
    #[serde(default)]
    pub title: String,
    /// Which messages it serves. Without it, only those that name it (`/cht/push/NAME`, `include`, `fragment`).
    pub when: Option<Condition>,
    /// It serves only what no mapping without `fallback` serves.
    #[serde(default)]
    pub fallback: bool,
    /// It serves only what none of these mappings serves.
    #[serde(default)]
    pub after: Vec<String>,
    /// These mappings serve only what it does not.
    #[serde(default)]
    pub before: Vec<String>,
    /// It is not read backwards, for this reason.
    pub one_way: Option<String>,
    /// Switched off: a built-in mapping of this name serves nothing.
    #[serde(default)]
    pub disabled: bool,
    /// Short names of paths: `c: doc.fields.inputs.contact`.
    #[serde(default, rename = "let")]
    pub aliases: BTreeMap<String, String>,
    /// Code tables by name.
    #[serde(default)]
    pub tables: BTreeMap<String, TableSpec>,
    /// The FHIR resources that are made, in an order in which each refers to earlier ones.
    #[serde(default)]
    pub entries: Vec<EntrySpec>,
    /// Name of the entry that is the patient: what is about one patient is delivered in order.
    pub subject: Option<String>,
    /// Name of the entry that refers the patient to a clinic: the clinic's news of it come back.
    pub referral: Option<String>,
    /// The report says what came of a request.
    pub outcome: Option<OutcomeSpec>,
    /// The CHT report that is made.
    pub record: Option<RecordSpec>,
}

/// A resource to be made, or all that another mapping makes.
#[derive(Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EntrySpec {
    /// Its name, for `ref`. Two may have one name: the first that is made counts.
    pub entry: Option<String>,
    /// Every entry of the mapping of this name stands here.
    pub include: Option<String>,
    /// Only if this holds.
    #[serde(rename = "if")]
    pub condition: Option<Condition>,
    /// Once for each item of the list at this path.
    pub each: Option<String>,
    /// Once for each answered question below this path; `item` has `path`, `name`, `value`, `kind` and
    /// `hidden`, and in a repeat `list`, `number` and `row`.
    pub leaves: Option<String>,
    /// What `leaves` passes over: names or dotted paths below it.
    #[serde(default)]
    pub except: Vec<String>,
    /// Name of the item in this entry; `item` if not given.
    pub item: Option<String>,
    /// What happens to the resource that the server already has.
    #[serde(default)]
    pub write: WriteSpec,
    /// Elements that stay as the server has them.
    #[serde(default)]
    pub keep: Vec<String>,
    /// URL of the profile that it must fulfil.
    pub profile: Option<String>,
    /// The resource, in its own shape. Its first identifier is what it goes by.
    pub resource: Option<Template>,
}

#[derive(Clone, Copy, Default, PartialEq, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WriteSpec {
    /// Ours is laid over it: elements that we don't make stay.
    #[default]
    Merge,
    /// The same, and the document says all that CHT knows: what it no longer says is taken back.
    Whole,
    /// Ours takes its place.
    Replace,
    /// It stays; ours is only created where there is none.
    Create,
}

/// What a report that answers requests says.
#[derive(Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OutcomeSpec {
    /// The entry that is the visit.
    pub encounter: String,
    /// The request that it names: its identifier, or the CHT uuid of the record that raised the task.
    pub answers: Template,
    /// Forms of the records that it answers if it names none.
    pub forms: Template,
    /// What came of it, as a code; or `says`.
    pub code: Option<Template>,
    /// The entry whose coded value is what came of it.
    pub says: Option<String>,
    /// How far the request is after it, as a Task's status: `completed` if not given, `in-progress` if
    /// another attempt is planned.
    pub state: Option<Template>,
}

/// A JSON-form report for CHT.
#[derive(Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RecordSpec {
    /// The form's code, as app_settings has it.
    pub form: String,
    /// The field that names the patient: `patient_uuid` or `patient_id`.
    pub patient_field: String,
    /// The field by which a repeat is found.
    pub lookup_field: String,
    /// One for each contact of the request, about the contact: to the mapping, `resource` has that one as its only
    /// RelatedPerson.
    #[serde(default)]
    pub each_contact: bool,
    /// Every other field.
    pub fields: Template,
}

/// Codes of one side and of the other. One of `codes`, `from` and `url`.
#[derive(Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TableSpec {
    /// The source's code: the target's code, or `{system, code, display}`.
    pub codes: Option<BTreeMap<String, CodeSpec>>,
    /// A file beside the mappings: YAML of such codes, a FHIR ConceptMap (JSON), or the choices of a
    /// CHT form (CSV with `list_name`, `name`, `label`).
    pub from: Option<String>,
    /// The canonical URL of a ConceptMap in the profiles.
    pub url: Option<String>,
    /// Of a choices file: which list.
    pub list: Option<String>,
    /// Of a choices file: the language of the labels.
    pub language: Option<String>,
    /// The system of codes that name none.
    pub system: Option<String>,
    /// What becomes of a code that is not in the table.
    #[serde(default)]
    pub unmapped: Unmapped,
}

#[derive(Clone, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum CodeSpec {
    Code(String),
    Coding(CodingSpec),
}

#[derive(Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CodingSpec {
    pub system: Option<String>,
    pub code: String,
    pub display: Option<String>,
}

/// A code that is not in its table.
#[derive(Clone, Default, PartialEq, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unmapped {
    /// The message fails, visibly.
    #[default]
    Refuse,
    /// The code goes through as it is.
    Pass,
    /// The value is left out.
    Omit,
    /// This code is taken.
    Default(String),
}

/// A rule: where a value comes from, and what is done with it. One of `path`, `expr`, `ref`, `each`,
/// `leaves`, `index`, `if`, `join`, `derive`, `by_age`, `rest`, `fragment` and `literal`.
#[derive(Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RuleSpec {
    /// Where the value stands; of several, the first that is answered.
    pub path: Option<OneOrMany<String>>,
    /// JavaScript; for what paths, tables and codecs can't say.
    pub expr: Option<String>,
    /// A reference to the entry of this name.
    #[serde(rename = "ref")]
    pub reference: Option<String>,
    /// `do`, once for each item of the list at this path.
    pub each: Option<String>,
    /// `do`, once for each answered question below this path.
    pub leaves: Option<String>,
    /// What `leaves` and `rest` pass over.
    #[serde(default)]
    pub except: Vec<String>,
    /// With `each`: the list is one text, split here (a CHT multi-select: `" "`).
    pub split: Option<String>,
    /// Name of the item in `do`; `item` if not given.
    pub item: Option<String>,
    #[serde(rename = "do")]
    pub body: Option<Template>,
    /// Only if this holds. Alone with `then` and `else`, or beside any rule.
    #[serde(rename = "if")]
    pub condition: Option<Condition>,
    pub then: Option<Template>,
    #[serde(rename = "else")]
    pub otherwise: Option<Template>,
    /// Texts that become one.
    pub join: Option<Vec<Template>>,
    /// What stands between the texts of `join`; a line break if not given.
    pub with: Option<String>,
    /// An id (uuid) made of these texts: the same for the same texts.
    pub derive: Option<Vec<Template>>,
    /// The number of the item of this name, from 0.
    pub index: Option<String>,
    /// A partial birth date from an age.
    pub by_age: Option<AgeSpec>,
    /// Every answer below this path that no rule of the mapping reads, as lines of text.
    pub rest: Option<String>,
    /// The entry of another mapping, as `mapping.entry`, made of the document at `of`.
    pub fragment: Option<String>,
    /// The document of `fragment`; with `ref`, the identifier's value of the one that is meant of several.
    pub of: Option<String>,
    /// As it stands, whatever its keys are.
    pub literal: Option<Value>,
    /// How it is written.
    #[serde(rename = "as")]
    pub codec: Option<OneOrMany<Codec>>,
    /// The code table.
    pub table: Option<String>,
    /// What of the table's coding is taken.
    #[serde(default)]
    pub give: Option<Give>,
    /// The value where there is none.
    pub default: Option<Value>,
    /// Without it the message fails, visibly.
    #[serde(default)]
    pub required: bool,
    /// How it is read backwards: `false` for not at all, or paths of the source with what to write
    /// there; `value` is what stands here.
    pub back: Option<BackSpec>,
}

#[derive(Clone, Copy, PartialEq, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Give {
    Code,
    Display,
    /// `{system, code, display}`.
    Coding,
    /// A CodeableConcept.
    Concept,
}

/// An age, and the day on which it was told.
#[derive(Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AgeSpec {
    pub years: Option<String>,
    pub months: Option<String>,
    /// Path of the date.
    pub on: String,
}

#[derive(Clone, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum BackSpec {
    Never(bool),
    To(BTreeMap<String, Template>),
}

#[derive(Clone, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
}

impl<T> OneOrMany<T> {
    pub fn into_vec(self) -> Vec<T> {
        match self {
            Self::One(one) => vec![one],
            Self::Many(many) => many,
        }
    }
}

/// Literals, rules, and objects and lists of them, in the shape of what is made.
#[derive(Clone, Deserialize)]
pub struct Template(pub Value);

impl JsonSchema for Template {
    fn schema_name() -> Cow<'static, str> {
        "Template".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let rule = generator.subschema_for::<RuleSpec>();
        let template = generator.subschema_for::<Self>();
        let sources: Vec<Value> =
            super::compile::SOURCES.iter().map(|source| serde_json::json!({"required": [source]})).collect();
        json_schema!({
            "description": "A literal, a rule, or an object or list of them in the shape of what is made.",
            "if": {"type": "object", "anyOf": sources},
            "then": rule,
            "else": {
                "anyOf": [
                    {"type": ["string", "number", "boolean", "null"]},
                    {"type": "array", "items": template},
                    {"type": "object", "additionalProperties": template}
                ]
            }
        })
    }
}

/// What must hold: paths with the value that must stand there, all of them; or a list, any of which.
#[derive(Clone, Deserialize)]
pub struct Condition(pub Value);

impl JsonSchema for Condition {
    fn schema_name() -> Cow<'static, str> {
        "Condition".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let own = generator.subschema_for::<Self>();
        let plain = serde_json::json!({"type": ["string", "number", "boolean"]});
        json_schema!({
            "description": "Paths and what must stand there: a value, a list of values of which one, {present: true}, {not: value}, {has: word}, {has_text: part}, {uuid: true}. All must hold; of a list of conditions, any.",
            "anyOf": [
                {"type": "array", "items": own},
                {"type": "object", "properties": {"not": own, "any": {"type": "array", "items": own}, "all": {"type": "array", "items": own},
                    "expr": {"type": "string"}},
                 "additionalProperties": {"anyOf": [
                    plain,
                    {"type": "array", "items": plain},
                    {"type": "object", "additionalProperties": false, "minProperties": 1, "properties": {
                        "present": {"type": "boolean"}, "not": {"anyOf": [plain, {"type": "array", "items": plain}]}, "has": {"type": "string"}, "has_text": {"type": "string"}, "uuid": {"type": "boolean"}}}
                 ]}}
            ]
        })
    }
}
