//! People who are met elsewhere first and become persons in CHT: under the place that the configuration finds, once,
//! and nobody whom CHT may know already. Nobody is joined to somebody else by name, phone or household.
use super::changes::replaced_by;
use super::{Draughtsman, Neighbours, Stop};
use crate::domain::fhir::{CANONICAL, Entry, Target, Write};
use crate::domain::follow_up::Subject;
use crate::domain::identifier::{Identifier, system};
use crate::domain::message::Route;
use crate::domain::person::Said;
use crate::domain::plan::{Act, Step};
use crate::flow::ports::Cht;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Somebody who is to be made in CHT.
pub(super) struct Newcomer {
    pub uuid: String,
    /// What `POST /api/v1/people` takes.
    pub body: Value,
    /// Which rule found the place.
    pub by: &'static str,
}

/// What a Patient from elsewhere means for CHT.
pub(super) enum Arrival {
    New(Newcomer),
    /// They came so before, and have this uuid there.
    Known(String),
    /// No person of CHT is made or changed, and why.
    Nobody(&'static str),
}

/// A place of CHT, and which rule found it.
type Place = (String, &'static str);

impl Draughtsman<'_> {
    /// What EMRs send may be about people whom CHT does not know; what CHT sends is not.
    pub(super) fn makes_people(&self) -> bool {
        self.near.people.create && matches!(self.transaction.route, Route::Fhir(_))
    }

    /// What a Patient means for CHT; if they are or become a person there because of it, with their uuid.
    pub(super) async fn arrival(&mut self, patient: &mut Value, person: &str) -> Result<Arrival, Stop> {
        if let Some(uuid) = self.made_elsewhere(person).await? {
            with_uuid(patient, &uuid);
            return Ok(Arrival::Known(uuid));
        }
        Ok(match self.newcomer(patient, person, None).await? {
            Ok(newcomer) => {
                with_uuid(patient, &newcomer.uuid);
                Arrival::New(newcomer)
            }
            Err(why) => Arrival::Nobody(why),
        })
    }

    /// The server that the Patient came from learns the uuid too.
    pub(super) fn told_at_home(&self, entries: &[Entry], uuid: &str) -> Option<(String, Entry)> {
        let home = self.transaction.home.clone()?;
        let patient = entries.iter().find(|entry| entry.resource_type() == "Patient")?;
        let body: Value = serde_json::from_slice(&self.transaction.body).ok()?;
        let id = body["id"].as_str().filter(|_| body["resourceType"] == "Patient")?;
        let mut resource = json!({"resourceType": "Patient"});
        with_uuid(&mut resource, uuid);
        let target = Target::Id(format!("Patient/{id}"));
        let write = Write::Merge { keep: Vec::new() };
        Some((home, Entry { full_url: patient.full_url.clone(), target, write, resource }))
    }

    /// Whether a Patient becomes a person of CHT; in words, why not. `request` is the one that they are to be looked
    /// for by, if they are.
    pub(super) async fn newcomer(
        &mut self,
        patient: &Value,
        person: &str,
        request: Option<&Value>,
    ) -> Result<Result<Newcomer, &'static str>, Stop> {
        if let Some(why) = stays_away(patient) {
            return Ok(Err(why));
        }
        let uuid = uuid_of(person);
        let known = self.identifiers(person).await?;
        let in_cht = known.iter().any(|one| one.system == system::IN_CHT);
        // A CHT uuid that somebody claims is looked up when they are asked for, and never made.
        let is_another = known.iter().any(|one| {
            one.system == system::CHT_SHORTCODE || (one.system == system::CHT_UUID && one.value != uuid)
        });
        if in_cht || is_another {
            return Ok(Err("CHT knows them"));
        }
        let nearest = match request {
            Some(_) => self.household_with(patient).await?,
            None => None,
        };
        let said = nearest.or_else(|| self.place_said(patient));
        let facility = || request.and_then(|request| self.facility_of(request));
        let Some((place, by)) = said.or_else(facility).or_else(|| self.holding_place()) else {
            return Ok(Err("no rule of [people] finds a place for them in CHT"));
        };
        let Some(mut body) = fields_of(self.near, patient, &uuid, self.transaction.received) else {
            return Ok(Err("a person in CHT needs a name"));
        };
        body.insert("_id".into(), json!(uuid));
        body.insert("place".into(), json!(place));
        body.insert("reported_date".into(), json!(self.transaction.received));
        Ok(Ok(Newcomer { uuid, body: Value::Object(body), by }))
    }

    /// By what the Patient says of a place, the nearest first.
    fn place_said(&self, patient: &Value) -> Option<Place> {
        let household = patient["extension"].as_array().into_iter().flatten().find(|extension| {
            extension["url"] == format!("{CANONICAL}StructureDefinition/household").as_str()
        });
        let named =
            [household.map(|household| &household["valueReference"]), Some(&patient["managingOrganization"])];
        let named: Vec<&Value> = named.into_iter().flatten().collect();
        let in_cht = named.iter().find_map(|place| {
            Identifier::of(&place["identifier"]).filter(|own| own.system == system::CHT_PLACE)
        });
        if let Some(place) = in_cht {
            return Some((place.value, "the place of CHT that is named"));
        }
        let of_references = named.iter().find_map(|place| self.place_called(place));
        let addresses = patient["address"].as_array().into_iter().flatten();
        of_references.or_else(|| addresses.into_iter().find_map(|address| self.place_at(address)))
    }

    /// By whom the request is to be done, else by who asks.
    fn facility_of(&self, request: &Value) -> Option<Place> {
        let performers = request["performer"].as_array().into_iter().flatten();
        let all = performers.chain([&request["owner"], &request["requester"]]);
        all.into_iter().find_map(|place| self.place_called(place))
    }

    /// By a reference to a place or an organization: its identifier, itself, or its name.
    fn place_called(&self, place: &Value) -> Option<Place> {
        let identifier =
            Identifier::of(&place["identifier"]).map(|own| format!("{}|{}", own.system, own.value));
        let names = [identifier.as_deref(), place["reference"].as_str(), place["display"].as_str()];
        names
            .into_iter()
            .flatten()
            .find_map(|name| self.in_table(name))
            .map(|place| (place, "the organization"))
    }

    fn place_at(&self, address: &Value) -> Option<Place> {
        let lines = address["line"].as_array().into_iter().flatten();
        let parts = ["city", "district", "state", "text"].map(|key| &address[key]);
        let words = lines.chain(parts).filter_map(Value::as_str);
        words.into_iter().find_map(|word| self.in_table(word)).map(|place| (place, "the address"))
    }

    fn holding_place(&self) -> Option<Place> {
        let place = &self.near.people.holding_place;
        (!place.is_empty()).then(|| (place.clone(), "nothing, so the holding place"))
    }

    /// Capitals and spaces around don't matter.
    fn in_table(&self, name: &str) -> Option<String> {
        let plain = |text: &str| text.trim().to_lowercase();
        let name = plain(name);
        let places = &self.near.people.places;
        places.iter().find(|(known, _)| plain(known) == name).map(|(_, place)| place.clone())
    }

    /// The household of whoever has this phone in CHT: one household, or none. The one who has it is not taken for
    /// the newcomer.
    async fn household_with(&self, patient: &Value) -> Result<Option<Place>, Stop> {
        let phones =
            patient["telecom"].as_array().into_iter().flatten().filter(|one| one["system"] == "phone");
        let phones: BTreeSet<String> =
            phones.filter_map(|one| Some(self.near.mappings.phone(one["value"].as_str()?))).collect();
        let mut households = BTreeSet::new();
        for phone in phones.iter().filter(|phone| phone.starts_with('+')) {
            let cht: &dyn Cht = &*self.near.cht;
            let people = self.ask("cht", cht.contacts_with_phone(phone)).await?;
            households
                .extend(people.iter().filter_map(|one| one["parent"]["_id"].as_str().map(String::from)));
        }
        let one = if households.len() == 1 { households.pop_first() } else { None };
        Ok(one.map(|place| (place, "the household with this phone")))
    }

    /// Somebody who is to be looked for, by what came with the request: as CHT will know them.
    pub(super) async fn made_for(
        &mut self,
        patient: &Value,
        subject: &Subject,
        request: &Value,
    ) -> Result<Option<(String, String)>, Stop> {
        if !self.makes_people() {
            return Ok(None);
        }
        let before = self.learned_so_far();
        let person = self.link(subject).await?;
        let Ok(newcomer) = self.newcomer(patient, &person, Some(request)).await? else {
            self.unlearn(before);
            return Ok(None);
        };
        let uuid = newcomer.uuid.clone();
        let part = self.plan.parts.len();
        self.make(newcomer, &person, &[], part);
        Ok(Some((person, uuid)))
    }

    /// Plans the person, behind the steps by which servers learn that this uuid is theirs: what CHT pushes back is
    /// found by it there.
    pub(super) fn make(&mut self, newcomer: Newcomer, person: &str, behind: &[usize], part: usize) {
        let uuid = newcomer.uuid.clone();
        self.learn(std::iter::once(Identifier::new(system::CHT_UUID, &uuid)), person);
        let act = Act::ChtPerson { body: newcomer.body, person: person.to_string() };
        let (needs, after) = (behind.first().copied(), behind.last().copied());
        self.made.insert(uuid, self.plan.steps.len());
        self.plan.steps.push(Step { destination: "cht".into(), act, after, needs, part });
    }
}

/// What a Patient says of a person in CHT's words, as the mapping `patient` reads it backwards. Nothing without a name.
pub(super) fn fields_of(near: &Neighbours, patient: &Value, uuid: &str, received: i64) -> Option<Said> {
    let mut named = patient.clone();
    let own = json!({"system": system::CHT_UUID, "value": uuid});
    let all = patient["identifier"].as_array().into_iter().flatten();
    let others = all.clone().filter(|one| **one != own).cloned();
    named["identifier"] = std::iter::once(own.clone()).chain(others).collect();
    let mut read = near.mappings.back("patient", &named, received).ok()?;
    let Some(Value::Object(mut fields)) = read.remove("doc") else { return None };
    for of_cht in OF_CHT {
        fields.remove(*of_cht);
    }
    fields.get("name").and_then(Value::as_str).filter(|name| !name.trim().is_empty())?;
    for field in ["phone", "phone_alternate"] {
        if let Some(Value::String(phone)) = fields.get_mut(field) {
            *phone = near.mappings.phone(phone);
        }
    }
    let number = all.filter_map(Identifier::of).find(|number| number.system != system::CHT_UUID);
    if let Some(number) = number {
        fields.entry("external_id").or_insert(json!(number.value));
    }
    Some(fields)
}

/// Fields of a person that CHT gives, and no Patient.
const OF_CHT: &[&str] =
    &["_id", "_rev", "parent", "patient_id", "type", "contact_type", "created_by_doc", "source_id", "muted"];

/// The uuid that CHT knows somebody by whom we make: the same each time.
pub(super) fn uuid_of(person: &str) -> String {
    uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_URL, format!("person in CHT {person}").as_bytes()).to_string()
}

/// Why somebody is nobody to visit.
fn stays_away(patient: &Value) -> Option<&'static str> {
    let is_dead = patient["deceasedBoolean"] == true || patient["deceasedDateTime"].is_string();
    match () {
        () if replaced_by(patient).is_some() => Some("another Patient takes the place of this one"),
        () if patient["active"] == false => Some("the Patient is not active"),
        () if is_dead => Some("the Patient has died"),
        () => None,
    }
}

/// The Patient with the uuid that they get in CHT.
pub(super) fn with_uuid(patient: &mut Value, uuid: &str) {
    let own = json!({"system": system::CHT_UUID, "value": uuid});
    match patient["identifier"].as_array_mut() {
        Some(all) if !all.contains(&own) => all.push(own),
        Some(_) => {}
        None => patient["identifier"] = json!([own]),
    }
}
