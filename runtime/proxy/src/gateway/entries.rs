//! The listeners of one generation as connections meet them: which certificate is shown, and which
//! listener a request came in by.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use mesh_engine::host::{self, HostPattern, HostPatternError};
use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use thiserror::Error;

use super::proxy_protocol::TrustedProxies;
use super::tls::{self, Terms, TermsError};
use crate::secrets::{Secrets, provider};

/// What a slice says of one listener.
#[derive(Clone, Debug)]
pub(crate) struct Listener {
    /// Its port.
    pub(crate) port: u16,
    /// Hosts that it takes requests for.
    pub(crate) hosts: Vec<String>,
    /// How clients are met; none: in plaintext.
    pub(crate) terms: Option<Terms>,
    /// Proxies in front of it that are trusted to say who the client is.
    pub(crate) hops: usize,
    /// Whether the proxy in front of it says so in the PROXY protocol.
    pub(crate) proxied: bool,
}

/// Why listeners cannot be used.
#[derive(Debug, Error)]
pub(crate) enum ListenerError {
    /// A host.
    #[error("host {pattern:?} of listener {port}: {source}")]
    Host {
        /// The port.
        port: u16,
        /// As written.
        pattern: String,
        /// Why.
        source: HostPatternError,
    },
    /// TLS and plaintext cannot be told apart by host.
    #[error("listener {port} is TLS for some hosts and plaintext for others")]
    Mixed {
        /// The port.
        port: u16,
    },
    /// Before the first byte of a client there is nothing to tell hosts by.
    #[error(
        "listener {port} has its clients from the PROXY protocol for some hosts and not for others"
    )]
    MixedSource {
        /// The port.
        port: u16,
    },
    /// Whoever reaches the port could claim to be anyone.
    #[error(
        "listener {port} has its clients from the PROXY protocol; this proxy needs --trusted-proxy CIDR, the proxies that may say who they are"
    )]
    NoTrustedProxy {
        /// The port.
        port: u16,
    },
    /// TLS.
    #[error("listener {port}: {source}")]
    Terms {
        /// The port.
        port: u16,
        /// Why.
        source: TermsError,
    },
}

/// All listeners by port.
#[derive(Debug, Default)]
pub(crate) struct Entries(BTreeMap<u16, Port>);

/// The listeners that share a port; never none.
#[derive(Debug, Default)]
pub(crate) struct Port(Vec<Entry>);

/// One listener.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Most specific first.
    hosts: Vec<HostPattern>,
    tls: Option<(Terms, Arc<ServerConfig>)>,
    /// Proxies in front of it that are trusted to say who the client is.
    pub(crate) hops: usize,
    proxied: bool,
}

impl Entries {
    /// Makes everything ready that meeting clients takes.
    pub(crate) fn build(
        listeners: impl IntoIterator<Item = Listener>,
        secrets: &Secrets,
        trusted_proxies: &TrustedProxies,
    ) -> Result<Self, ListenerError> {
        let mut ports: BTreeMap<u16, Port> = BTreeMap::new();
        for listener in listeners {
            let Listener {
                port,
                hosts,
                terms,
                hops,
                proxied,
            } = listener;
            if proxied && trusted_proxies.is_empty() {
                return Err(ListenerError::NoTrustedProxy { port });
            }
            let parse = |pattern: &String| {
                HostPattern::parse(pattern).map_err(|source| ListenerError::Host {
                    port,
                    pattern: pattern.clone(),
                    source,
                })
            };
            let mut hosts = hosts.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
            hosts.sort_by_key(|host| std::cmp::Reverse(host.specificity()));
            let config = |terms: Terms| match tls::server_config(&terms, secrets) {
                Ok(config) => Ok((terms, config)),
                Err(source) => Err(ListenerError::Terms { port, source }),
            };
            let tls = terms.map(config).transpose()?;
            let sharing = ports.entry(port).or_default();
            if sharing
                .0
                .iter()
                .any(|other| other.tls.is_some() != tls.is_some())
            {
                return Err(ListenerError::Mixed { port });
            }
            if sharing.0.iter().any(|other| other.proxied != proxied) {
                return Err(ListenerError::MixedSource { port });
            }
            sharing.0.push(Entry {
                hosts,
                tls,
                hops,
                proxied,
            });
        }
        Ok(Self(ports))
    }

    /// The ports that must be open.
    pub(crate) fn ports(&self) -> impl Iterator<Item = u16> {
        self.0.keys().copied()
    }

    /// The listeners of a port.
    pub(crate) fn port(&self, port: u16) -> Option<&Port> {
        self.0.get(&port)
    }
}

impl Port {
    /// Whether its clients speak TLS.
    pub(crate) fn is_tls(&self) -> bool {
        self.0.iter().any(|entry| entry.tls.is_some())
    }

    /// Whether its connections begin with a header of the PROXY protocol.
    pub(crate) fn is_proxied(&self) -> bool {
        self.0.iter().any(|entry| entry.proxied)
    }

    /// The listener for a host: the one that names it most specifically.
    pub(crate) fn entry(&self, host: &str) -> Option<&Entry> {
        let best = |entry: &Entry| {
            let taken = entry.hosts.iter().find(|pattern| pattern.matches(host));
            taken.map(HostPattern::specificity)
        };
        let candidates = self
            .0
            .iter()
            .filter_map(|entry| Some((best(entry)?, entry)));
        // The first of two that are alike, as in the slice; the compiler lets no such two through.
        let best = candidates.reduce(|best, next| if next.0 > best.0 { next } else { best });
        best.map(|(_, entry)| entry)
    }

    /// How a client that asks for this name is met; one that asks for none gets the only listener.
    pub(crate) fn meet(&self, name: Option<&str>) -> Arc<ServerConfig> {
        let normalised = name.and_then(|name| host::normalise(name).ok());
        let entry = match (name, normalised) {
            (Some(_), Some(name)) => self.entry(name.host()),
            (Some(_), None) => None,
            (None, _) => match self.0.as_slice() {
                [only] => Some(only),
                _ => None,
            },
        };
        let config = entry.and_then(|entry| entry.tls.as_ref());
        config.map_or_else(|| Arc::clone(&NOBODY), |(_, config)| Arc::clone(config))
    }

    /// On which terms a client that asks for this name is met.
    pub(crate) fn terms(&self, name: Option<&str>) -> Option<&Terms> {
        let normalised = name.and_then(|name| host::normalise(name).ok());
        let entry = match (name, normalised) {
            (Some(_), Some(name)) => self.entry(name.host()),
            (None, _) => self.0.first(),
            (Some(_), None) => None,
        };
        Some(&entry?.tls.as_ref()?.0)
    }

    /// Whether more is asked of clients of this host by now than of the one that was met on these terms: the
    /// certificate that it did not have to show, or roots that it did not have to lead to.
    pub(crate) fn asks_more(&self, host: &str, met: Option<&Terms>) -> bool {
        let asked = self.entry(host).and_then(|entry| entry.tls.as_ref());
        let Some((asked, _)) = asked.filter(|(terms, _)| terms.clients.is_some()) else {
            return false;
        };
        met.is_none_or(|met| met.clients != asked.clients || (met.optional && !asked.optional))
    }

    /// Whether a request for `host` may come over a connection that was made for `name`: not if its
    /// own listener would have met the client otherwise (RFC 9110 section 7.4).
    pub(crate) fn is_misdirected(&self, host: &str, name: Option<&str>) -> bool {
        let terms = |name: &str| Some(&self.entry(name)?.tls.as_ref()?.0);
        name.is_some_and(|name| {
            // As it was met: in either case, with the root's dot or without.
            let name = host::normalise(name).ok();
            name.and_then(|name| terms(name.host())) != terms(host)
        })
    }
}

/// For names that no listener has: the handshake fails.
static NOBODY: LazyLock<Arc<ServerConfig>> = LazyLock::new(|| {
    let versions = ServerConfig::builder_with_provider(Arc::new(provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider has ciphers for the default versions");
    let config = versions
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Nothing));
    Arc::new(config)
});

#[derive(Debug)]
struct Nothing;

impl ResolvesServerCert for Nothing {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secrets::SecretPath;
    use crate::secrets::tests::certificate;

    fn listener(port: u16, hosts: &[&str], certificate: Option<&str>) -> Listener {
        Listener {
            port,
            hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
            terms: certificate.map(|name| Terms {
                certificate: name.to_owned(),
                clients: None,
                optional: false,
                only_tls13: false,
            }),
            hops: 0,
            proxied: false,
        }
    }

    #[test]
    fn the_most_specific_host_decides() {
        let folder = tempfile::tempdir().unwrap();
        let paths = ["shop", "any"].map(|name| {
            let path = folder.path().join(name);
            std::fs::write(&path, certificate("shop.example").0).unwrap();
            let name = name.to_owned();
            SecretPath { name, path }
        });
        let secrets = Secrets::read(&paths).unwrap();
        let listeners = [
            listener(8443, &["**"], Some("any")),
            listener(8443, &["api.shop.example", "shop.example"], Some("shop")),
            listener(8080, &["shop.example"], None),
        ];
        let entries = Entries::build(listeners, &secrets, &TrustedProxies::default()).unwrap();
        assert_eq!(entries.ports().collect::<Vec<_>>(), [8080, 8443]);
        let port = entries.port(8443).unwrap();
        assert!(port.is_tls());
        assert!(!entries.port(8080).unwrap().is_tls());
        let shop = port.meet(Some("Shop.Example"));
        assert!(Arc::ptr_eq(&shop, &port.meet(Some("api.shop.example"))));
        assert!(!Arc::ptr_eq(&shop, &port.meet(Some("other.example"))));
        assert!(Arc::ptr_eq(&NOBODY, &port.meet(None)));
        assert!(!port.is_misdirected("shop.example", Some("api.shop.example")));
        assert!(port.is_misdirected("shop.example", Some("other.example")));
        assert!(!port.is_misdirected("shop.example", None));
        assert!(!port.is_misdirected("shop.example", Some("Shop.Example.")));
        assert!(port.is_misdirected("other.example", Some("shop.example.")));
    }

    #[test]
    fn what_cannot_be_met_is_refused() {
        let build = |listeners: &[Listener]| {
            let (secrets, nobody) = (Secrets::default(), TrustedProxies::default());
            let built = Entries::build(listeners.to_vec(), &secrets, &nobody);
            built.unwrap_err().to_string()
        };
        let mut proxied = listener(8443, &["**"], None);
        proxied.proxied = true;
        assert!(build(&[proxied.clone()]).contains("needs --trusted-proxy CIDR"));
        let somebody = TrustedProxies(vec!["10.0.0.0/8".parse().unwrap()]);
        let both = [proxied, listener(8443, &["a.example"], None)];
        let built = Entries::build(both, &Secrets::default(), &somebody);
        assert!(matches!(
            built,
            Err(ListenerError::MixedSource { port: 8443 })
        ));
        assert_eq!(
            build(&[listener(8443, &["**"], Some("shop-cert"))]),
            "listener 8443: no key material is called shop-cert; this proxy needs --secret shop-cert=FILE"
        );
    }
}
