//! People who are met elsewhere first and become persons in CHT: under the place that the configuration finds, once,
//! and nobody whom CHT may know already. Nobody is joined to somebody else by name, phone or household.
use super::{Draughtsman, Stop};
use crate::domain::fhir::{CANONICAL, Entry, Target, Write};
use crate::domain::follow_up::Subject;
use crate::domain::identifier::{Identifier, system};
use crate::domain::message::Route;
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

/// A place of CHT, and which rule found it.
type Place = (String, &'static str);

impl Draughtsman<'_> {
    /// What EMRs send may be about people whom CHT does not know; what CHT sends is not.
    pub(super) fn makes_people(&self) -> bool {
        self.near.people.create && matches!(self.transaction.route, Route::Fhir(_))
    }

    /// A Patient who is not known to CHT, with the uuid that they get there. Nothing: it is no Patient.
    pub(super) async fn welcome(
        &mut self,
        entries: &mut [Entry],
        person: &str,
    ) -> Result<Option<Result<Newcomer, &'static str>>, Stop> {
        let Some(entry) = entries.iter_mut().find(|entry| entry.resource_type() == "Patient") else {
            return Ok(None);
        };
        let newcomer = self.newcomer(&entry.resource, person, None).await?;
        if let Ok(newcomer) = &newcomer {
            with_uuid(&mut entry.resource, &newcomer.uuid);
        }
        Ok(Some(newcomer))
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
        let Some(body) = self.person_of(patient, &uuid, &place) else {
            return Ok(Err("a person in CHT needs a name"));
        };
        Ok(Ok(Newcomer { uuid, body, by }))
    }

    /// As the mapping `patient` reads a Patient backwards.
    fn person_of(&self, patient: &Value, uuid: &str, place: &str) -> Option<Value> {
        let mut named = patient.clone();
        let own = json!({"system": system::CHT_UUID, "value": uuid});
        let all = patient["identifier"].as_array().into_iter().flatten().cloned();
        named["identifier"] = std::iter::once(own).chain(all).collect();
        let mut read = self.near.mappings.back("patient", &named, self.transaction.received).ok()?;
        let mut person = read.remove("doc")?;
        let fields = person.as_object_mut()?;
        for of_cht in ["parent", "patient_id", "type", "contact_type", "_rev", "created_by_doc", "source_id"]
        {
            fields.remove(of_cht);
        }
        fields.get("name").and_then(Value::as_str).filter(|name| !name.trim().is_empty())?;
        if let Some(Value::String(phone)) = fields.get_mut("phone") {
            *phone = self.near.mappings.phone(phone);
        }
        let number = patient["identifier"].as_array().into_iter().flatten().find_map(Identifier::of);
        if let Some(number) = number {
            fields.entry("external_id").or_insert(json!(number.value));
        }
        fields.insert("_id".into(), json!(uuid));
        fields.insert("place".into(), json!(place));
        fields.insert("reported_date".into(), json!(self.transaction.received));
        Some(person)
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
        self.make(newcomer, &person, &[]);
        Ok(Some((person, uuid)))
    }

    /// Plans the person, behind the steps by which servers learn that this uuid is theirs: what CHT pushes back is
    /// found by it there.
    pub(super) fn make(&mut self, newcomer: Newcomer, person: &str, behind: &[usize]) {
        let uuid = newcomer.uuid.clone();
        self.learn(std::iter::once(Identifier::new(system::CHT_UUID, &uuid)), person);
        let act = Act::ChtPerson { body: newcomer.body, person: person.to_string() };
        let (needs, after) = (behind.first().copied(), behind.last().copied());
        let part = self.plan.parts.len();
        self.made.insert(uuid, self.plan.steps.len());
        self.plan.steps.push(Step { destination: "cht".into(), act, after, needs, part });
    }
}

/// The uuid that CHT knows somebody by whom we make: the same each time.
fn uuid_of(person: &str) -> String {
    uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_URL, format!("person in CHT {person}").as_bytes()).to_string()
}

/// Why somebody is nobody to visit.
fn stays_away(patient: &Value) -> Option<&'static str> {
    let links = patient["link"].as_array().into_iter().flatten();
    let is_replaced = links.into_iter().any(|link| link["type"] == "replaced-by");
    let is_dead = patient["deceasedBoolean"] == true || patient["deceasedDateTime"].is_string();
    match () {
        () if is_replaced => Some("another Patient takes the place of this one"),
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
