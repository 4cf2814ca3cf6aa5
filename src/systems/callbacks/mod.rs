//! Calling back an address that came in data: only where the configuration allows, and only to
//! where the name leads at that moment.
use super::client::Http;
use crate::config;
use crate::flow::follow_ups::Subscription;
use crate::flow::ports::{Callbacks, Failure};
use async_trait::async_trait;
use reqwest::{Method, RequestBuilder};
use serde_json::Value;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use url::{Host, Url};

pub struct HttpCallbacks {
    http: Http,
    rules: Arc<Rules>,
}

/// Where a name leads at this moment.
#[async_trait]
trait Names: Send + Sync + 'static {
    async fn look_up(&self, name: &str) -> std::io::Result<Vec<IpAddr>>;
}

struct SystemNames;

#[async_trait]
impl Names for SystemNames {
    async fn look_up(&self, name: &str) -> std::io::Result<Vec<IpAddr>> {
        Ok(tokio::net::lookup_host((name, 0)).await?.map(|found| found.ip()).collect())
    }
}

struct Rules {
    allow: Vec<String>,
    allow_private: bool,
}

impl HttpCallbacks {
    pub fn new(settings: &config::Callbacks) -> Result<Self, String> {
        Self::by(SystemNames, settings)
    }

    fn by(names: impl Names, settings: &config::Callbacks) -> Result<Self, String> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let rules = Rules::new(settings);
        let http = reqwest::Client::builder()
            .timeout(Duration::from_millis(settings.timeout_ms))
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .dns_resolver(Arc::new(Resolver { names: Arc::new(names), rules: rules.clone() }))
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
        self.send(address, self.with_resource(address, kind, id, resource)).await
    }

    async fn notify(&self, subscription: &Subscription, id: &str, resource: &Value) -> Result<(), Failure> {
        let address = subscription.endpoint.trim_end_matches('/');
        let mut request = match subscription.with_payload {
            true => self.with_resource(address, &subscription.resource_type, id, resource),
            false => self.http.request(Method::POST, address.to_string()),
        };
        for (name, value) in subscription.headers.iter().filter_map(|line| line.split_once(':')) {
            request = request.header(name.trim(), value.trim());
        }
        self.send(address, request).await
    }
}

impl HttpCallbacks {
    fn with_resource(&self, address: &str, kind: &str, id: &str, resource: &Value) -> RequestBuilder {
        self.http
            .request(Method::PUT, format!("{address}/{kind}/{id}"))
            .header(reqwest::header::CONTENT_TYPE, "application/fhir+json")
            .body(resource.to_string())
    }

    async fn send(&self, address: &str, request: RequestBuilder) -> Result<(), Failure> {
        self.rules.check(address).map_err(Failure::permanent)?;
        let answer = self.http.tell(request, "the requester's endpoint").await?;
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
            None if !self.allow_private && is_localhost(&name) => Err(not_public()),
            _ => Ok(()),
        }
    }

    fn may_reach(&self, ip: IpAddr) -> bool {
        self.allow_private || is_public(ip)
    }
}

/// Names that lead to this machine by convention (RFC 6761), with or without the root's dot.
fn is_localhost(name: &str) -> bool {
    let name = name.trim_end_matches('.').to_lowercase();
    name == "localhost" || name.ends_with(".localhost")
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
/// registries, RFC 6890), and a cloud's service for its machines that has a public address.
fn is_public(ip: IpAddr) -> bool {
    const SPECIAL: &[&str] = &[
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "168.63.129.16/32",
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
        "::ffff:0:0:0/96",
        "64:ff9b::/96",
        "64:ff9b:1::/48",
        "100::/64",
        "2001::/23",
        "2001:db8::/32",
        "2002::/16",
        "3fff::/20",
        "5f00::/16",
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
struct Resolver {
    names: Arc<dyn Names>,
    rules: Arc<Rules>,
}

impl reqwest::dns::Resolve for Resolver {
    fn resolve(&self, name: reqwest::dns::Name) -> reqwest::dns::Resolving {
        let (names, rules) = (self.names.clone(), self.rules.clone());
        Box::pin(async move {
            let found = names.look_up(name.as_str()).await?;
            let allowed = found.into_iter().filter(|ip| rules.may_reach(*ip));
            let allowed: Vec<SocketAddr> = allowed.map(|ip| (ip, 0).into()).collect();
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
    use std::collections::VecDeque;
    use std::sync::Mutex;

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
            // Spellings of 127.0.0.1, of 169.254.169.254, and of names for this machine.
            "http://127.1/",
            "http://017700000001/",
            "http://0177.0.0.1/",
            "http://0x7f000001/",
            "http://%31%32%37.0.0.1/",
            "http://①②⑦.0.0.1/",
            "http://2852039166/",
            "http://0xa9fea9fe/",
            "http://0251.0376.0251.0376/",
            "http://127.0.0.1./",
            "http://localhost./",
            "http://LOCALHOST/",
            "http://emr.localhost/",
            "http://[::]/",
            "http://0/",
            "http://[::ffff:a9fe:a9fe]/",
            "http://[::ffff:0:127.0.0.1]/",
            "http://[64:ff9b::127.0.0.1]/",
            "http://[2002:7f00:1::]/",
            "http://[fe80::1]/",
            "http://[fd00:ec2::254]/",
            "http://168.63.129.16/",
            "http://100.100.100.200/",
            "http://192.0.0.192/",
            "http:\\\\127.0.0.1\\",
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
            "https://emr.example.org@127.0.0.1/",
            "https://emr.example.org:443@127.0.0.1/",
            "https://emr.example.org\\@127.0.0.1/#",
            "https://emr.example.org/#x",
            "http://169.254.169.254\t.example.org@x/",
            "http:///",
            "gopher://127.0.0.1:6379/_x",
        ] {
            assert!(rules(&[], true).check(address).is_err(), "{address}");
        }
    }

    /// Answers from a list, one after the other, and the last for ever.
    struct Scripted(Mutex<VecDeque<Vec<IpAddr>>>);

    #[async_trait]
    impl Names for Scripted {
        async fn look_up(&self, _: &str) -> std::io::Result<Vec<IpAddr>> {
            let mut left = self.0.lock().expect("the answers");
            let next = if left.len() > 1 { left.pop_front() } else { left.front().cloned() };
            Ok(next.unwrap_or_default())
        }
    }

    fn scripted(answers: &[&[&str]]) -> Scripted {
        let parsed = |answer: &&[&str]| answer.iter().map(|ip| ip.parse().expect("an address")).collect();
        Scripted(Mutex::new(answers.iter().map(parsed).collect()))
    }

    #[tokio::test]
    async fn a_name_that_leads_elsewhere_the_second_time_is_looked_at_again() {
        let names = Arc::new(scripted(&[&["93.184.215.14"], &["127.0.0.1"], &["10.0.0.1", "93.184.215.14"]]));
        let resolver = Resolver { names, rules: Arc::new(rules(&[], false)) };
        let mut resolved = Vec::new();
        for _ in 0..3 {
            let name = "rebind.example".parse().expect("a name");
            let found = reqwest::dns::Resolve::resolve(&resolver, name).await;
            resolved.push(found.map(|found| found.map(|a| a.ip().to_string()).collect::<Vec<_>>()).ok());
        }
        let public = Some(vec!["93.184.215.14".to_string()]);
        assert_eq!(resolved, [public.clone(), None, public], "of a mixed answer only what is public");
    }

    #[tokio::test]
    async fn a_name_that_leads_inside_is_never_connected_to() {
        let inside = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = inside.local_addr().expect("its address").port();
        let settings = config::Callbacks {
            allow: vec!["*.example".into()],
            allow_private: false,
            timeout_ms: 2000,
            max_concurrent: 1,
            holds_up_ms: 30_000,
        };
        let callbacks = HttpCallbacks::by(scripted(&[&["127.0.0.1"]]), &settings).expect("callbacks");
        let address = format!("http://rebind.example:{port}");
        assert_eq!(callbacks.check(&address), Ok(()), "the name itself is allowed");
        let put = callbacks.put(&address, "Encounter", "1", &Value::Null).await;
        let words = put.expect_err("refused").message;
        assert!(words.contains("not a public one"), "{words}");
        let knocked = tokio::time::timeout(Duration::from_millis(100), inside.accept()).await;
        assert!(knocked.is_err(), "nobody came");
    }
}
