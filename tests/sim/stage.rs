//! What all runs share: settings, mappings, and what is costly to make.
use cht_fhir_mediator::config::{self, Settings};
use cht_fhir_mediator::http::auth::Clients;
use cht_fhir_mediator::translate::Mappings;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use std::sync::{Arc, OnceLock};

pub const CHT: &str = "http://cht.example.org";
pub const FHIR: &str = "http://fhir.example.org/fhir";
pub const EMR: &str = "http://emr.example.org/hook";

pub struct Stage {
    pub settings: Settings,
    pub mappings: Arc<Mappings>,
    pub clients: Arc<Clients>,
    pub metrics: PrometheusHandle,
    pub client: reqwest::Client,
}

pub fn stage() -> &'static Stage {
    static STAGE: OnceLock<Stage> = OnceLock::new();
    STAGE.get_or_init(|| {
        let settings = settings();
        let mappings = Mappings::new(&settings.translate).map_err(|_| "mistakes").expect("mappings");
        Stage {
            mappings: Arc::new(mappings),
            clients: Arc::new(Clients::new(&[], true)),
            metrics: PrometheusBuilder::new().build_recorder().handle(),
            client: cht_fhir_mediator::standins::client(crate::net::TIMEOUT).expect("a client"),
            settings,
        }
    })
}

fn settings() -> Settings {
    let own = [
        ("CHT__URL", CHT),
        ("CHT__USERNAME", crate::world::USERNAME),
        ("CHT__PASSWORD", crate::world::PASSWORD),
        ("CHT__INDEX_LAG_MS", "3000"),
        ("FHIR__URL", FHIR),
        ("FHIR__POLL_SECONDS", "20"),
        ("FHIR__POLL_OVERLAP_SECONDS", "1"),
        ("DELIVERY__LONGEST_RETRY_MS", "10000"),
        ("DELIVERY__BREAKER_PAUSE_MS", "5000"),
    ];
    let environment = own.into_iter().map(|(key, value)| (format!("MEDIATOR__{key}"), value.to_string()));
    config::load(None, environment).map_err(|e| format!("{e:?}")).expect("settings")
}
