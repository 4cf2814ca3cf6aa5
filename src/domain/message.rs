//! A message: what came through which door.
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The door a message came through. Written as its path, as an operator knows it.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Route {
    /// `/cht/push`, or `/cht/push/{name}` for one mapping: a CHT document whole, `{"doc":{...}}`.
    ChtPush(Option<String>),
    /// `/cht/patient`: `{"doc":{_id,name,phone,date_of_birth,sex,patient_id}}`.
    ChtPatient,
    /// `/cht/patient_ids`: `{"doc":{_id,patient_id,external_id}}`.
    ChtPatientIds,
    /// `/cht/encounter`: `{id,patient_uuid,reported_date,observations}`.
    ChtEncounter,
    /// `/patient`, `/encounter`, `/organization`, `/endpoint`: FHIR as CHT's outbound builds it.
    /// The value is the resource type.
    DropIn(String),
    /// `/service-request`: a follow-up request as the TypeScript mediator takes it.
    ServiceRequest,
    /// `/fhir` (a Bundle; the value is empty) or `/fhir/{Type}`.
    Fhir(String),
    /// A resource found by polling the destination of this name.
    Poll(String),
    /// From ourselves: a request's day has come.
    Lapse,
}

impl Route {
    /// CHT repeats whatever is not answered 2xx, for ever: its pushes are told apart.
    pub fn is_cht(&self) -> bool {
        !matches!(self, Self::Fhir(_) | Self::Poll(_) | Self::ServiceRequest | Self::Lapse)
    }
}

impl Route {
    /// The route without what a caller chose to write into it.
    pub fn family(&self) -> &'static str {
        match self {
            Self::ChtPush(_) => "/cht/push",
            Self::ChtPatient => "/cht/patient",
            Self::ChtPatientIds => "/cht/patient_ids",
            Self::ChtEncounter => "/cht/encounter",
            Self::DropIn(_) => "drop-in",
            Self::ServiceRequest => "/service-request",
            Self::Fhir(_) => "/fhir",
            Self::Poll(_) => "poll",
            Self::Lapse => "lapse",
        }
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ChtPush(None) => f.write_str("/cht/push"),
            Self::ChtPush(Some(name)) => write!(f, "/cht/push/{name}"),
            Self::ChtPatient => f.write_str("/cht/patient"),
            Self::ChtPatientIds => f.write_str("/cht/patient_ids"),
            Self::ChtEncounter => f.write_str("/cht/encounter"),
            Self::DropIn(kind) => write!(f, "/{}", kind.to_lowercase()),
            Self::ServiceRequest => f.write_str("/service-request"),
            Self::Fhir(kind) if kind.is_empty() => f.write_str("/fhir"),
            Self::Fhir(kind) => write!(f, "/fhir/{kind}"),
            Self::Poll(destination) => write!(f, "poll/{destination}"),
            Self::Lapse => f.write_str("lapse"),
        }
    }
}

impl From<Route> for String {
    fn from(route: Route) -> Self {
        route.to_string()
    }
}

impl FromStr for Route {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "/cht/push" => Self::ChtPush(None),
            "/cht/patient" => Self::ChtPatient,
            "/cht/patient_ids" => Self::ChtPatientIds,
            "/cht/encounter" => Self::ChtEncounter,
            "/patient" => Self::DropIn("Patient".into()),
            "/encounter" => Self::DropIn("Encounter".into()),
            "/organization" => Self::DropIn("Organization".into()),
            "/endpoint" => Self::DropIn("Endpoint".into()),
            "/practitioner" => Self::DropIn("Practitioner".into()),
            "/service-request" => Self::ServiceRequest,
            "/fhir" => Self::Fhir(String::new()),
            "lapse" => Self::Lapse,
            other => {
                if let Some(name) = other.strip_prefix("/cht/push/") {
                    Self::ChtPush(Some(name.into()))
                } else if let Some(kind) = other.strip_prefix("/fhir/") {
                    Self::Fhir(kind.into())
                } else if let Some(destination) = other.strip_prefix("poll/") {
                    Self::Poll(destination.into())
                } else {
                    return Err(format!("{other} is no route"));
                }
            }
        })
    }
}

impl TryFrom<String> for Route {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::Route;

    #[test]
    fn a_route_is_read_back_as_it_was_written() {
        for text in [
            "/cht/push",
            "/cht/push/referral",
            "/patient",
            "/endpoint",
            "/service-request",
            "/fhir",
            "/fhir/Task",
            "poll/fhir",
            "lapse",
            "/cht/patient_ids",
        ] {
            assert_eq!(text.parse::<Route>().map(|r| r.to_string()), Ok(text.to_string()));
        }
    }
}
