//! The server's resources and the interactions on one of them
//! (<https://hl7.org/fhir/R4/http.html>).
use super::check::check;
use super::search::criteria;
use super::{Clock, Failure, Ids, Options};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};

/// What became of a resource.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Effect {
    Created,
    Updated,
    /// It was so before.
    Unchanged,
}

/// A resource as it stands now, and how it came to.
#[derive(Clone)]
pub(super) struct Written {
    pub(super) effect: Effect,
    pub(super) resource: Value,
}

#[derive(Clone)]
pub(super) struct Store {
    clock: Clock,
    pub(super) ids: Ids,
    /// By type and id. None: deleted.
    resources: BTreeMap<String, BTreeMap<String, Option<Value>>>,
    last_id: u64,
    /// Ids of a search's matches, by the token of its pages.
    pages: HashMap<String, Vec<String>>,
    /// Written since they were last taken, for the subscriptions.
    changes: Vec<Value>,
    options: Options,
}

/// The conditions of one request.
#[derive(Default)]
pub(super) struct Conditions {
    pub(super) if_match: Option<String>,
    pub(super) if_none_exist: Option<String>,
}

pub(super) fn parse_query(query: &str) -> Vec<(String, String)> {
    url::form_urlencoded::parse(query.as_bytes()).into_owned().collect()
}

impl Store {
    pub(super) fn new(options: Options) -> Self {
        let clock = Clock::new(options.clock);
        Self {
            ids: Ids::of(&clock),
            clock,
            resources: BTreeMap::new(),
            last_id: 0,
            pages: HashMap::new(),
            changes: Vec::new(),
            options,
        }
    }

    pub(super) fn all(&self, kind: &str) -> impl Iterator<Item = &Value> {
        self.resources.get(kind).into_iter().flat_map(BTreeMap::values).flatten()
    }

    pub(super) fn kinds(&self) -> impl Iterator<Item = &String> {
        self.resources.keys()
    }

    pub(super) fn read(&self, kind: &str, id: &str) -> Result<&Value, Failure> {
        match self.resources.get(kind).and_then(|of_kind| of_kind.get(id)) {
            Some(Some(resource)) => Ok(resource),
            Some(None) => Err(Failure::new(410, "deleted", &format!("Resource was deleted: {kind}/{id}"))),
            None => Err(Failure::new(404, "not-found", &format!("Resource {kind}/{id} is not known"))),
        }
    }

    /// Matches of a search, oldest first.
    pub(super) fn search(&self, kind: &str, query: &[(String, String)]) -> Result<Vec<&Value>, Failure> {
        let criteria = criteria(query)?;
        let follow = |reference: &str| {
            let (kind, id) = reference.split_once('/')?;
            self.read(kind, id).ok()
        };
        let mut found: Vec<&Value> =
            self.all(kind).filter(|r| criteria.iter().all(|criterion| criterion.holds(r, &follow))).collect();
        found.sort_by_key(|r| id_order(r));
        let sort = query.iter().find(|(name, _)| name == "_sort").map(|(_, value)| value.as_str());
        let updated = |r: &&Value| r["meta"]["lastUpdated"].as_str().unwrap_or_default().to_string();
        match sort {
            None | Some("_id") => {}
            Some("_lastUpdated") => found.sort_by_key(updated),
            Some("-_lastUpdated") => found.sort_by_key(|r| std::cmp::Reverse(updated(r))),
            Some(other) => return Err(Failure::new(400, "processing", &format!("Invalid _sort: {other}"))),
        }
        Ok(found)
    }

    /// The only match of a condition, none, or 412.
    pub(super) fn only_match(&self, kind: &str, query: &str) -> Result<Option<String>, Failure> {
        let query = parse_query(query);
        if query.is_empty() {
            return Err(Failure::new(400, "processing", "A condition needs a search parameter"));
        }
        match self.search(kind, &query)?.as_slice() {
            [] => Ok(None),
            [one] => Ok(one["id"].as_str().map(Into::into)),
            several => Err(Failure::new(
                412,
                "multiple-matches",
                &format!("Condition on {kind} matches {} resources", several.len()),
            )),
        }
    }

    pub(super) fn next_id(&mut self) -> String {
        self.last_id += 1;
        self.last_id.to_string()
    }

    pub(super) fn create(
        &mut self,
        kind: &str,
        resource: Value,
        conditions: &Conditions,
    ) -> Result<Written, Failure> {
        check(kind, &resource)?;
        if let Some(query) = &conditions.if_none_exist {
            // Some clients send the type before it, as in a search.
            let query = query.rsplit('?').next().unwrap_or_default();
            if let Some(id) = self.only_match(kind, query)? {
                return Ok(Written { effect: Effect::Unchanged, resource: self.read(kind, &id)?.clone() });
            }
        }
        let id = self.next_id();
        self.put(kind, &id, resource)
    }

    /// `PUT Type/id`.
    pub(super) fn update(
        &mut self,
        kind: &str,
        id: &str,
        resource: Value,
        conditions: &Conditions,
    ) -> Result<Written, Failure> {
        check(kind, &resource)?;
        if resource["id"] != id {
            let text = "Can not update resource, resource body must contain an ID element which matches the request URL";
            return Err(Failure::new(400, "processing", text));
        }
        let known = self.read(kind, id).ok().cloned();
        if known.is_none() && !id.is_empty() && id.chars().all(|c| c.is_ascii_digit()) {
            let text = format!(
                "Can not create resource with ID[{id}], no resource with this ID exists and clients may only assign IDs which contain at least one non-numeric character"
            );
            return Err(Failure::new(400, "processing", &text));
        }
        self.check_version(known.as_ref(), conditions)?;
        self.put(kind, id, resource)
    }

    /// `PUT Type?query`.
    pub(super) fn conditional_update(
        &mut self,
        kind: &str,
        query: &str,
        mut resource: Value,
        conditions: &Conditions,
    ) -> Result<Written, Failure> {
        check(kind, &resource)?;
        let Some(id) = self.only_match(kind, query)? else {
            let id = self.next_id();
            return self.put(kind, &id, resource);
        };
        if !resource["id"].is_null() && resource["id"] != id.as_str() {
            let text = "The resource's ID does not match the resource that the condition matches";
            return Err(Failure::new(400, "processing", text));
        }
        let known = self.read(kind, &id)?.clone();
        self.check_version(Some(&known), conditions)?;
        resource["id"] = id.as_str().into();
        self.put(kind, &id, resource)
    }

    pub(super) fn delete(&mut self, kind: &str, id: &str) -> Result<(), Failure> {
        self.read(kind, id)?;
        self.resources.entry(kind.into()).or_default().insert(id.into(), None);
        Ok(())
    }

    fn check_version(&self, known: Option<&Value>, conditions: &Conditions) -> Result<(), Failure> {
        let Some(wanted) = &conditions.if_match else { return Ok(()) };
        let wanted = wanted.trim_start_matches("W/").trim_matches('"');
        let version = known.and_then(|r| r["meta"]["versionId"].as_str()).unwrap_or_default();
        if wanted == version {
            return Ok(());
        }
        let text = format!("If-Match names version {wanted}, but the current version is {version}");
        Err(Failure::new(self.options.if_match_status, "conflict", &text))
    }

    /// Writes it under this id. A resource that says what it said before stays the version it was.
    pub(super) fn put(&mut self, kind: &str, id: &str, mut resource: Value) -> Result<Written, Failure> {
        self.resolve_conditional_references(&mut resource)?;
        if self.options.referential_integrity {
            self.check_references(&resource)?;
        }
        let known = self.read(kind, id).ok();
        let version = known.and_then(|r| r["meta"]["versionId"].as_str()?.parse::<u64>().ok()).unwrap_or(0);
        let effect = if known.is_some() { Effect::Updated } else { Effect::Created };
        resource["id"] = id.into();
        let mut meta = resource["meta"].as_object().cloned().unwrap_or_default();
        meta.insert("versionId".into(), version.to_string().into());
        meta.insert(
            "lastUpdated".into(),
            known.map(|r| r["meta"]["lastUpdated"].clone()).unwrap_or_default(),
        );
        resource["meta"] = meta.into();
        if known == Some(&resource) {
            return Ok(Written { effect: Effect::Unchanged, resource });
        }
        resource["meta"]["versionId"] = (version + 1).to_string().into();
        resource["meta"]["lastUpdated"] = self.now().into();
        self.resources.entry(kind.into()).or_default().insert(id.into(), Some(resource.clone()));
        self.changes.push(resource.clone());
        Ok(Written { effect, resource })
    }

    /// `Patient?identifier=s|v` in a reference stands for its only match.
    fn resolve_conditional_references(&self, resource: &mut Value) -> Result<(), Failure> {
        each_reference(resource, &mut |reference| {
            if reference.starts_with("urn:uuid:") {
                return Err(Failure::new(
                    400,
                    "processing",
                    &format!("Unable to satisfy placeholder ID: {reference}"),
                ));
            }
            let Some((kind, query)) = reference.split_once('?') else { return Ok(()) };
            let kind = kind.trim_end_matches('/').to_string();
            match self.only_match(&kind, query)? {
                Some(id) => *reference = format!("{kind}/{id}"),
                None => {
                    let text = format!("Invalid match URL \"{reference}\" - No resources match this search");
                    return Err(Failure::new(404, "not-found", &text));
                }
            }
            Ok(())
        })
    }

    fn check_references(&self, resource: &Value) -> Result<(), Failure> {
        each_reference(&mut resource.clone(), &mut |reference| {
            let Some((kind, id)) = reference.split_once('/').filter(|_| !reference.contains("://")) else {
                return Ok(());
            };
            let missing = || Failure::new(400, "processing", &format!("Resource {kind}/{id} not found"));
            self.read(kind, id).map(|_| ()).map_err(|_| missing())
        })
    }

    /// A page of matches that were found before. The token of the rest, if there is one.
    pub(super) fn page(
        &self,
        token: &str,
        kind: &str,
        offset: usize,
        count: usize,
    ) -> Result<(Vec<&Value>, usize, bool), Failure> {
        let ids = self.pages.get(token).ok_or_else(|| {
            Failure::new(
                410,
                "processing",
                &format!("Search ID \"{token}\" does not exist and may have expired"),
            )
        })?;
        let page = ids.iter().skip(offset).take(count).filter_map(|id| self.read(kind, id).ok()).collect();
        Ok((page, ids.len(), offset + count < ids.len()))
    }

    /// Keeps a search's matches, so that its pages don't shift.
    pub(super) fn keep_pages(&mut self, ids: Vec<String>) -> String {
        let token = self.ids.next().to_string();
        self.pages.insert(token.clone(), ids);
        token
    }

    fn now(&self) -> String {
        let now = jiff::Timestamp::from_millisecond(self.clock.now_ms()).unwrap_or_default();
        now.strftime("%Y-%m-%dT%H:%M:%S%.3f+00:00").to_string()
    }

    pub(super) fn take_changes(&mut self) -> Vec<Value> {
        std::mem::take(&mut self.changes)
    }
}

/// Numbers by size, other ids behind them.
fn id_order(resource: &Value) -> (u64, String) {
    let id = resource["id"].as_str().unwrap_or_default();
    (id.parse().unwrap_or(u64::MAX), id.to_string())
}

/// Every `reference` in a resource, wherever it stands.
pub(super) fn each_reference<E>(
    value: &mut Value,
    visit: &mut impl FnMut(&mut String) -> Result<(), E>,
) -> Result<(), E> {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                match value {
                    Value::String(text) if key == "reference" => visit(text)?,
                    _ => each_reference(value, visit)?,
                }
            }
            Ok(())
        }
        Value::Array(items) => items.iter_mut().try_for_each(|item| each_reference(item, visit)),
        _ => Ok(()),
    }
}

/// `Type/id/_history/v`.
pub(super) fn location(resource: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
    format!(
        "{}/{}/_history/{}",
        text(&resource["resourceType"]),
        text(&resource["id"]),
        text(&resource["meta"]["versionId"])
    )
}

/// A searchset or page as a Bundle, by the id of the search.
pub(super) fn searchset(
    base: &str,
    id: &str,
    total: usize,
    matches: &[&Value],
    links: Vec<(&str, String)>,
) -> Value {
    let links: Vec<Value> =
        links.into_iter().map(|(relation, url)| json!({"relation": relation, "url": url})).collect();
    let entry = |r: &&Value| {
        let (kind, id) =
            (r["resourceType"].as_str().unwrap_or_default(), r["id"].as_str().unwrap_or_default());
        json!({"fullUrl": format!("{base}/{kind}/{id}"), "resource": r, "search": {"mode": "match"}})
    };
    let mut bundle =
        json!({"resourceType": "Bundle", "id": id, "type": "searchset", "total": total, "link": links});
    // An empty array is no valid FHIR.
    if !matches.is_empty() {
        bundle["entry"] = matches.iter().map(entry).collect();
    }
    bundle
}
