//! Calling back an address that came in data: only where the configuration allows, and only to
//! where the name leads at that moment.
use super::client::Http;
use crate::config;
use crate::flow::ports::{Callbacks, Failure};
use async_trait::async_trait;
use reqwest::Method;
use serde_json::Value;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use url::{Host, Url};

pub struct HttpCallbacks {
    http: Http,
    rules: Arc<Rules>,
}

struct Rules {
    allow: Vec<String>,
    allow_private: bool,
}

impl HttpCallbacks {
    pub fn new(settings: &config::Callbacks) -> Result<Self, String> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let rules = Rules::new(settings);
        let http = reqwest::Client::builder()
            .timeout(Duration::from_millis(settings.timeout_ms))
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .dns_resolver(Arc::new(Resolver(rules.clone())))
            .build()
            .map_err(|e| e.to_string())?;
        Ok(Self { http: http.into(), rules })
    }

    /// What it calls is called by `http`.
    pub fn over(http: Http, settings: &config::Callbacks) -> Self {
        Self { http, rules: Rules::new(settings) }
    }
}

#[async_trait]
impl Callbacks for HttpCallbacks {
    fn check(&self, address: &str) -> Result<(), String> {
        self.rules.check(address)
    }

    async fn put(&self, address: &str, kind: &str, id: &str, resource: &Value) -> Result<(), Failure> {
        self.rules.check(address).map_err(Failure::permanent)?;
        let request = self
            .http
            .request(Method::PUT, format!("{address}/{kind}/{id}"))
            .header(reqwest::header::CONTENT_TYPE, "application/fhir+json")
            .body(resource.to_string());
        let answer = self.http.send(request, "the requester's endpoint").await?;
        if answer.status.is_success() {
            return Ok(());
        }
        // A redirect could lead anywhere.
        Err(answer.failure("the requester's endpoint"))
    }
}

impl Rules {
    fn new(settings: &config::Callbacks) -> Arc<Self> {
        Arc::new(Self { allow: settings.allow.clone(), allow_private: settings.allow_private })
    }

    fn check(&self, address: &str) -> Result<(), String> {
        let url = Url::parse(address).map_err(|_| "the callback address is no URL".to_string())?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err("the callback address is neither http nor https".into());
        }
        if !url.username().is_empty()
            || url.password().is_some()
            || url.query().is_some()
            || url.fragment().is_some()
        {
            return Err("the callback address must be plain: no user, no query".into());
        }
        let host = url.host().ok_or("the callback address has no host")?;
        let name = host.to_string();
        let port = url.port_or_known_default().unwrap_or_default();
        if !self.allow.is_empty() && !self.allow.iter().any(|rule| matches(rule, &name, port)) {
            return Err(format!("the callback host {name} is not in callbacks.allow"));
        }
        let ip = match host {
            Host::Ipv4(ip) => Some(IpAddr::V4(ip)),
            Host::Ipv6(ip) => Some(IpAddr::V6(ip)),
            Host::Domain(_) => None,
        };
        match ip {
            Some(ip) if !self.may_reach(ip) => Err(not_public()),
            None if !self.allow_private && name.eq_ignore_ascii_case("localhost") => Err(not_public()),
            _ => Ok(()),
        }
    }

    fn may_reach(&self, ip: IpAddr) -> bool {
        self.allow_private || is_public(ip)
    }
}

fn not_public() -> String {
    "the callback address is not a public one; callbacks.allow_private permits it".into()
}

/// `host`, `host:port`, or `*.domain`.
fn matches(rule: &str, host: &str, port: u16) -> bool {
    let (rule_host, rule_port) = match rule.rsplit_once(':') {
        Some((name, digits)) if digits.parse::<u16>().is_ok() => (name, digits.parse().ok()),
        _ => (rule, None),
    };
    if rule_port.is_some_and(|wanted: u16| wanted != port) {
        return false;
    }
    let (rule_host, host) = (rule_host.to_lowercase(), host.to_lowercase());
    match rule_host.strip_prefix("*.") {
        Some(domain) => host.ends_with(&format!(".{domain}")),
        None => host == rule_host,
    }
}

/// Ranges that are somebody's own network, a machine's own, or no host's at all (IANA special-purpose
/// registries, RFC 6890).
fn is_public(ip: IpAddr) -> bool {
    const SPECIAL: &[&str] = &[
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
        "::/128",
        "::1/128",
        "64:ff9b::/96",
        "64:ff9b:1::/48",
        "100::/64",
        "2001::/23",
        "2001:db8::/32",
        "2002::/16",
        "fc00::/7",
        "fe80::/10",
        "fec0::/10",
        "ff00::/8",
    ];
    let ip = match ip {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().or_else(|| v6.to_ipv4()).map_or(ip, IpAddr::V4),
        v4 => v4,
    };
    !SPECIAL.iter().filter_map(|net| net.parse::<ipnet::IpNet>().ok()).any(|net| net.contains(&ip))
}

/// Checks what a name leads to when it is called, not when it was given: it may have changed since.
struct Resolver(Arc<Rules>);

impl reqwest::dns::Resolve for Resolver {
    fn resolve(&self, name: reqwest::dns::Name) -> reqwest::dns::Resolving {
        let rules = self.0.clone();
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let allowed: Vec<SocketAddr> = found.filter(|address| rules.may_reach(address.ip())).collect();
            if allowed.is_empty() {
                return Err(not_public().into());
            }
            Ok(Box::new(allowed.into_iter()) as reqwest::dns::Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(allow: &[&str], allow_private: bool) -> Rules {
        Rules { allow: allow.iter().map(|s| s.to_string()).collect(), allow_private }
    }

    #[test]
    fn only_public_addresses_unless_configured() {
        for address in [
            "http://127.0.0.1/x",
            "http://localhost:9/x",
            "http://10.1.2.3/x",
            "http://169.254.169.254/latest",
            "http://[::1]/",
            "http://[::ffff:127.0.0.1]/",
            "http://[fd00::1]/",
            "http://2130706433/",
            "http://0x7f.1/",
            "http://100.64.0.1/",
            "http://[::127.0.0.1]/",
        ] {
            assert!(rules(&[], false).check(address).is_err(), "{address}");
            assert!(rules(&[], true).check(address).is_ok(), "{address}");
        }
        assert!(rules(&[], false).check("https://emr.example.org/callback").is_ok());
    }

    #[test]
    fn only_allowed_hosts_if_any_are_named() {
        let rules = rules(&["emr.example.org", "*.moh.example", "lab.example.org:8443"], false);
        for (address, allowed) in [
            ("https://emr.example.org/cb", true),
            ("https://emr.example.org.evil.example/cb", false),
            ("https://a.moh.example/cb", true),
            ("https://moh.example/cb", false),
            ("https://lab.example.org:8443/cb", true),
            ("https://lab.example.org/cb", false),
        ] {
            assert_eq!(rules.check(address).is_ok(), allowed, "{address}");
        }
    }

    #[test]
    fn only_plain_addresses() {
        for address in [
            "ftp://emr.example.org/",
            "file:///etc/passwd",
            "https://u:p@emr.example.org/",
            "emr",
            "https://emr.example.org/?q=",
        ] {
            assert!(rules(&[], true).check(address).is_err(), "{address}");
        }
    }
}
