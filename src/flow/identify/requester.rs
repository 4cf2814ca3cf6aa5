//! Who asks, and where they want to be told.
use super::reshape::identifiers_of;
use super::{Draughtsman, Stop, refused};
use crate::domain::follow_up::FollowUp;
use crate::domain::identifier::search_value;
use crate::domain::message::Route;
use crate::domain::plan::Status;
use crate::flow::ports::{Failure, FhirServer, Filter, Row};
use crate::translate::requester_of;
use serde_json::Value;
use std::sync::Arc;

impl Draughtsman<'_> {
    /// The callback address of the organization that asks, checked. No requester, or one without an
    /// endpoint, is told nothing: the FHIR server has the outcome.
    pub(super) async fn callback_of(&self, requester: Option<&str>) -> Result<Option<String>, Stop> {
        let must = matches!(self.transaction.route, Route::ServiceRequest);
        let path = "ServiceRequest.requester";
        let Some(requester) = requester else {
            return if must {
                Err(Stop::Refused(refused(path, "required", "name the Organization that wants the outcome")))
            } else {
                Ok(None)
            };
        };
        let address = self.endpoint_address(&self.transaction.client, requester, true).await?;
        match address {
            Some(address) => match self.near.callbacks.check(&address) {
                Ok(()) => Ok(Some(address)),
                Err(why) => Err(Stop::Refused(refused("Endpoint.address", "forbidden", &why))),
            },
            None if must => Err(Stop::Refused(refused(
                path,
                "not-found",
                "no Organization with this identifier and an Endpoint is known; POST /organization and /endpoint first",
            ))),
            None => Ok(None),
        }
    }

    /// Where the outcome of a request is told. Its client may have said so only after it asked.
    pub(super) async fn callback_for(&self, request: &FollowUp) -> Result<Option<String>, Stop> {
        match (&request.callback, requester_of(&request.resource)) {
            (Some(address), _) => Ok(Some(address.clone())),
            (None, Some(requester)) => {
                let address = self.endpoint_address(&request.client, &requester, false).await?;
                match address {
                    Some(address) => Ok(Some(address)),
                    None => self.nobody_is_on_the_way(&request.client).await.map(|()| None),
                }
            }
            (None, None) => Ok(None),
        }
    }

    /// What a client has sent and nobody has looked at yet may say where it wants to be told: that is waited for.
    async fn nobody_is_on_the_way(&self, client: &str) -> Result<(), Stop> {
        let open = Filter { status: Some(Status::Open), ..Filter::default() };
        let rows = self.near.journal.list(open).await?;
        let may_say = |route: &str| {
            matches!(route, "/organization" | "/endpoint" | "/fhir" | "/fhir/Organization" | "/fhir/Endpoint")
        };
        let is_unread = |row: &Row| row.mapping.is_none() && row.client == client && may_say(&row.route);
        match rows.iter().any(|row| row.id != self.transaction.head.id && is_unread(row)) {
            true => Err(Stop::Wait {
                destination: "requester".into(),
                failure: Failure::transient("what it has sent meanwhile is looked at first"),
            }),
            false => Ok(()),
        }
    }

    /// By what `client` has told us, and if `asks`, by what the FHIR server has.
    async fn endpoint_address(
        &self,
        client: &str,
        requester: &str,
        asks: bool,
    ) -> Result<Option<String>, Stop> {
        let organization = self.find(client, "Organization", requester, asks).await?;
        let Some(organization) = organization else { return Ok(None) };
        let endpoints = organization["endpoint"].as_array().cloned().unwrap_or_default();
        for endpoint in endpoints {
            let name = endpoint["reference"].as_str().or(endpoint["identifier"]["value"].as_str());
            let Some(name) = name else { continue };
            if let Some(endpoint) = self.find(client, "Endpoint", name, asks).await?
                && let Some(address) = endpoint["address"].as_str()
            {
                return Ok(Some(address.trim_end_matches('/').to_string()));
            }
        }
        Ok(None)
    }

    /// An Organization or Endpoint by `Type/x`, where x is an id or an identifier's value.
    async fn find(&self, client: &str, kind: &str, name: &str, asks: bool) -> Result<Option<Value>, Stop> {
        let name = name.rsplit(['/', '=', '|']).next().unwrap_or(name);
        let key = directory_key(client, kind, name);
        if let Some((_, resource)) = self.facts.directory.iter().find(|(known, _)| *known == key) {
            return Ok(Some(resource.clone()));
        }
        if let Some(resource) = self.near.journal.directory(&key).await? {
            return Ok(Some(resource));
        }
        let Some((destination, server)) = self.first_server().filter(|_| asks) else { return Ok(None) };
        let found =
            self.ask(&destination, server.search(kind, &[("identifier", &search_value(name))])).await?;
        Ok(if found.len() == 1 { found.into_iter().next() } else { None })
    }

    pub(super) fn first_server(&self) -> Option<(String, Arc<dyn FhirServer>)> {
        let destinations = self.destinations();
        let first = destinations.first()?;
        Some((first.clone(), self.near.servers.get(first)?.clone()))
    }

    pub(super) fn keep_in_directory(&mut self, resource: &Value) {
        let kind = resource["resourceType"].as_str().unwrap_or_default();
        if !matches!(kind, "Organization" | "Endpoint") {
            return;
        }
        let values = identifiers_of(resource).into_iter().map(|i| i.value);
        for name in values.chain(resource["id"].as_str().map(String::from)) {
            let key = directory_key(&self.transaction.client, kind, &name);
            self.facts.directory.push((key, resource.clone()));
        }
    }
}

pub(super) fn callback_destination(address: &str) -> String {
    let host = url::Url::parse(address).ok().and_then(|url| url.host_str().map(String::from));
    format!("callback:{}", host.unwrap_or_default())
}

pub fn directory_key(client: &str, kind: &str, name: &str) -> String {
    format!("{client} {kind}/{name}")
}
