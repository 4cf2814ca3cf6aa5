//! `serve` and `health`.
use super::fail;
use crate::config::{self, Settings};
use crate::domain::audit::{Act, Agent, Kind};
use crate::house::{House, SetLogFilter};
use crate::systems::openhim::pin;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, fmt, reload};

pub(super) async fn run(settings: Settings) -> ExitCode {
    let set_filter = log(&settings.log);
    quiet_panics();
    for warning in config::warnings(&settings) {
        tracing::warn!("{warning}");
    }
    let house = match House::open(&settings).await {
        Ok(house) => house,
        Err(error) => return fail(&format!("the mediator cannot start: {error}")),
    };
    let _ = house.live.log_filter.set(set_filter);
    eprintln!("cht-fhir-mediator {} listens on {}", crate::version::full(), house.address);
    work_until_told(&house).await;
    house.close().await;
    ExitCode::SUCCESS
}

/// Answers how its filter is changed later.
fn log(settings: &config::Log) -> SetLogFilter {
    let filter = EnvFilter::try_new(&settings.filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let (filter, handle) = reload::Layer::new(filter);
    let is_seen = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let lines = fmt::layer().with_writer(std::io::stderr).with_ansi(is_seen);
    let lines: Box<dyn Layer<_> + Send + Sync> =
        if settings.json { Box::new(lines.json()) } else { Box::new(lines) };
    if let Err(error) = tracing_subscriber::registry().with(filter).with(lines).try_init() {
        eprintln!("no log: {error}");
    }
    Box::new(move |text| {
        let filter = EnvFilter::try_new(text).map_err(|_| format!("{text:?} is no log filter"))?;
        handle.reload(filter).map_err(|e| e.to_string())
    })
}

/// A panic is a bug; its words may hold what a message said, so only its place is told.
fn quiet_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(place, "the mediator itself failed: this is a bug, please report it");
    }));
}

/// Until SIGTERM or SIGINT. SIGHUP reads the mappings anew.
async fn work_until_told(house: &House) {
    let signals =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()), signal(SignalKind::hangup()));
    let (Ok(mut term), Ok(mut int), Ok(mut hup)) = signals else {
        return std::future::pending().await;
    };
    loop {
        tokio::select! {
            _ = term.recv() => return,
            _ = int.recv() => return,
            _ = hup.recv() => {
                let by = Agent::new(Kind::User, "SIGHUP", None);
                if let Err(mistakes) = house.corridor.reload_mappings(by.clone()).await {
                    mistakes.iter().for_each(|mistake| eprintln!("{mistake}"));
                    house.corridor.journal().note(house.corridor.event(by, not_reloaded()));
                }
            }
        }
    }
}

/// As the door refuses it.
fn not_reloaded() -> Act {
    Act::Refused { request: "reload mappings".into(), status: 422, code: "invalid".into() }
}

/// Asks the mediator that these settings describe.
pub(super) async fn health(settings: Settings) -> ExitCode {
    let scheme = if settings.server.tls_cert.is_some() { "https" } else { "http" };
    let mut address = settings.server.listen;
    if address.ip().is_unspecified() {
        address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
    }
    let url = format!("{scheme}://{address}/health/ready");
    let client = match ourselves(settings.server.tls_cert.as_deref()) {
        Ok(client) => client,
        Err(error) => return fail(&error),
    };
    match client.get(url).send().await {
        Ok(answer) if answer.status().is_success() => ExitCode::SUCCESS,
        Ok(answer) => fail(&format!("not ready: {}", answer.status())),
        Err(_) => fail("not reached"),
    }
}

/// Our certificate names a host, and we are asked by address: that it is ours is enough. No proxy is between.
fn ourselves(certificate: Option<&Path>) -> Result<reqwest::Client, String> {
    let builder = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(4));
    let builder = match certificate {
        Some(file) => builder.tls_backend_preconfigured(pin::config(file)?),
        None => builder,
    };
    builder.build().map_err(|e| e.to_string())
}
