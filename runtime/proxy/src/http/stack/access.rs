//! Whether a request may enter where it arrives: tokens, rules, and how many there may be, in this order.

use http::HeaderName;
use http::header::HeaderValue;
use mesh_daemon::telemetry::Reason;
use mesh_engine::jwt::Brought;
use mesh_engine::{InboundTable, Peer};

use super::super::local_reply;
use super::super::sanitise::{Rule, remove_all, spells};
use super::{Exchanging, Refusal, Reply};
use crate::access::tokens;
use crate::tables::Tables;

/// How a service or gateway sees the request that comes to it.
#[derive(Clone, Copy)]
pub(super) struct Arrival<'a> {
    pub(super) table: &'a InboundTable,
    pub(super) host: &'a str,
    pub(super) port: u16,
    pub(super) peer: Peer<'a>,
}

impl Exchanging<'_> {
    /// Whether tokens and rules let the request in.
    pub(super) fn authorise(
        &mut self,
        tables: &Tables,
        arrival: Arrival<'_>,
    ) -> Result<(), Refusal> {
        let Arrival {
            table,
            host,
            port,
            peer,
        } = arrival;
        self.identify(tables, arrival)?;
        self.consider_logging(tables, host, port, peer);
        self.require_token(arrival, None)?;
        let counters = tables.authz(table.service());
        let allowed = self.ask(host, port, peer, |request| {
            for rule in table.audit_hits(request) {
                counters.took(rule);
            }
            let verdict = table.authorise(request);
            counters.decided(verdict);
            verdict.is_allowed()
        })?;
        if !allowed {
            return Err(Refusal::Reason(Reason::AuthzDenied));
        }
        self.remember(None, host, port, peer);
        Ok(())
    }

    /// Reads the tokens that the request brings. What they say is told in headers, and nobody else can say it: what
    /// a client sends under these names is gone before anything looks at it.
    fn identify(&mut self, tables: &Tables, arrival: Arrival<'_>) -> Result<(), Rule> {
        let Arrival {
            table,
            host,
            port,
            peer,
        } = arrival;
        if table.token_providers().is_empty() {
            return Ok(());
        }
        let snapshot = tables.snapshot();
        for forward in snapshot
            .token_providers(table)
            .flat_map(|provider| &provider.forwards)
        {
            remove_all(&mut self.head.headers, |name| spells(name, &forward.header));
        }
        let now = tokens::now();
        let tokens = self.ask(host, port, peer, |request| {
            tables.providers().read(snapshot, table, request, now)
        })?;
        tables.providers().count(table.service(), &tokens);
        for (header, value) in tokens.forwards() {
            let name = HeaderName::try_from(header);
            // A value that no header can have is not told at all, rather than changed.
            if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value)) {
                self.head.headers.append(name, value);
            }
        }
        self.tokens = Some(Box::new(tokens));
        Ok(())
    }

    /// Whether the request brings the tokens that it must; `route` is the gateway's that takes it, once that is known.
    pub(super) fn require_token(
        &self,
        arrival: Arrival<'_>,
        route: Option<&str>,
    ) -> Result<(), Refusal> {
        let Arrival {
            table,
            host,
            port,
            peer,
        } = arrival;
        let Some(tokens) = &self.tokens else {
            return Ok(());
        };
        let brought = |provider: &str| -> Brought { tokens.of(provider) };
        let unmet = self.ask(host, port, peer, |request| {
            table.unmet_token(request, route, brought)
        })?;
        let Some((_, provider, why)) = unmet else {
            return Ok(());
        };
        let metrics = &self.connection.plane.tokens;
        metrics.refused(table.service(), provider, why);
        Err(Refusal::Reason(Reason::JwtInvalid(why.as_str())))
    }

    /// Whether it is not too many; `route` is the gateway's that takes the request. `Some`: what is answered.
    pub(super) fn count(
        &self,
        tables: &Tables,
        arrival: Arrival<'_>,
        route: Option<&str>,
    ) -> Result<Option<Reply>, Rule> {
        let Arrival {
            table,
            host,
            port,
            peer,
        } = arrival;
        let limits = tables.rate_limits(table.service());
        let Some(limits) = limits.filter(|limits| !limits.is_empty()) else {
            return Ok(None);
        };
        let limited = self.ask(host, port, peer, |request| {
            limits.admit(table, request, route)
        })?;
        Ok(limited.map(|limited| {
            let plane = &self.connection.plane;
            plane.rate_limits.refused(table.service(), route);
            local_reply::limited(&limited, self.asked)
        }))
    }
}

impl From<Rule> for Refusal {
    fn from(rule: Rule) -> Self {
        Self::Rule(rule)
    }
}
