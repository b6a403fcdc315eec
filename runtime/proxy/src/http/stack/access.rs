//! Whether a request may enter where it arrives: tokens, rules, authorizers, and how many there may be, in this order.

use http::HeaderName;
use http::header::HeaderValue;
use mesh_daemon::telemetry::Reason;
use mesh_engine::jwt::Brought;
use mesh_engine::{InboundTable, Peer};
use tokio::time::Instant;

use super::super::local_reply;
use super::super::rate_limit::Limited;
use super::super::sanitise::{Rule, remove_all, spells};
use super::super::server::Side;
use super::{Exchanging, Refusal, Reply};
use crate::access::authorizers::{self, Judged, Verdict, may_be_set};
use crate::access::{ask, tokens};
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
        self.forget_what_authorizers_say(tables, table);
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
        let metrics = &self.connection.plane.access.tokens;
        metrics.refused(table.service(), provider, why);
        Err(Refusal::Reason(Reason::JwtInvalid(why.as_str())))
    }

    /// Takes out what only an authorizer may say to the service, whether or not it is asked about this request.
    fn forget_what_authorizers_say(&mut self, tables: &Tables, table: &InboundTable) {
        let snapshot = tables.snapshot();
        let authorizers = table
            .authorizers()
            .filter_map(|name| snapshot.authorizer(name));
        for kept in authorizers.flat_map(|authorizer| &authorizer.keep_headers) {
            if may_be_set(kept).is_some() {
                remove_all(&mut self.head.headers, |name| spells(name, kept));
            }
        }
    }

    /// Whether the authorizers that policy names let the request in, and then whether it is not too many; `route` is
    /// the gateway's that takes the request.
    pub(super) async fn consult(
        &mut self,
        tables: &Tables,
        arrival: Arrival<'_>,
        route: Option<&str>,
    ) -> Result<(), NotLetIn> {
        self.ask_authorizers(tables, arrival, route).await?;
        self.count_elsewhere(tables, arrival, route).await?;
        self.count(tables, arrival, route)
    }

    async fn ask_authorizers(
        &mut self,
        tables: &Tables,
        arrival: Arrival<'_>,
        route: Option<&str>,
    ) -> Result<(), NotLetIn> {
        let Arrival {
            table,
            host,
            port,
            peer,
        } = arrival;
        if table.authorizers().next().is_none() {
            return Ok(());
        }
        let asked: Vec<&str> = self.ask(host, port, peer, |request| {
            table.asked(request, route).collect()
        })?;
        for name in asked {
            let Some(authorizer) = tables.snapshot().authorizer(name) else {
                return Err(Refusal::Reason(Reason::ExtAuthzDenied).into());
            };
            let waiting = Instant::now();
            let verdict = authorizers::judge(
                tables,
                authorizer,
                &Judged {
                    head: &self.head,
                    authority: &self.authority,
                    scheme: self.scheme(),
                    peer,
                    client_ip: self.client_ip,
                    service: table.service(),
                    port,
                    hops: self.hops.saturating_add(1),
                },
            )
            .await;
            self.record.waited(waiting);
            let metrics = &self.connection.plane.access.authorizers;
            match verdict {
                Verdict::Enter { adding, outcome } => {
                    metrics.count(table.service(), name, outcome);
                    self.head.headers.extend(adding);
                }
                Verdict::Refused { denial, outcome } => {
                    metrics.count(table.service(), name, outcome);
                    let reason = Reason::ExtAuthzDenied;
                    return Err(match denial {
                        None => Refusal::Reason(reason).into(),
                        Some(denial) => {
                            let reply = local_reply::denied(denial, self.asked);
                            NotLetIn::Told(reason, Box::new(reply))
                        }
                    });
                }
            }
        }
        Ok(())
    }

    fn scheme(&self) -> &'static str {
        match &self.connection.side {
            Side::Gateway(entrance) if entrance.tls => "https",
            _ => "http",
        }
    }

    async fn count_elsewhere(
        &mut self,
        tables: &Tables,
        arrival: Arrival<'_>,
        route: Option<&str>,
    ) -> Result<(), NotLetIn> {
        let Arrival {
            table,
            host,
            port,
            peer,
        } = arrival;
        let limits = tables.rate_limits(table.service());
        let Some(limits) = limits.filter(|limits| !limits.is_empty()) else {
            return Ok(());
        };
        let questions = self.ask(host, port, peer, |request| {
            limits.counted_elsewhere(table, request, route)
        })?;
        for question in questions {
            let waiting = Instant::now();
            let headers = ask::trace(&self.head.headers);
            let hops = self.hops.saturating_add(1);
            let counted = question.count(tables, headers, hops).await;
            self.record.waited(waiting);
            let plane = &self.connection.plane;
            plane
                .access
                .counted
                .count(table.service(), question.via(), counted.outcome);
            if let Some(retry_after) = counted.retry_after {
                let limit = question.limit;
                let limited = Limited { retry_after, limit };
                return Err(self.too_many(&limited, table, route));
            }
        }
        Ok(())
    }

    fn count(
        &self,
        tables: &Tables,
        arrival: Arrival<'_>,
        route: Option<&str>,
    ) -> Result<(), NotLetIn> {
        let Arrival {
            table,
            host,
            port,
            peer,
        } = arrival;
        let limits = tables.rate_limits(table.service());
        let Some(limits) = limits.filter(|limits| !limits.is_empty()) else {
            return Ok(());
        };
        let limited = self.ask(host, port, peer, |request| {
            limits.admit(table, request, route)
        })?;
        match limited {
            None => Ok(()),
            Some(limited) => Err(self.too_many(&limited, table, route)),
        }
    }

    fn too_many(
        &self,
        limited: &Limited<'_>,
        table: &InboundTable,
        route: Option<&str>,
    ) -> NotLetIn {
        let plane = &self.connection.plane;
        plane.rate_limits.refused(table.service(), route);
        let reply = local_reply::limited(limited, self.asked);
        NotLetIn::Told(Reason::RateLimited, Box::new(reply))
    }

    /// The answer to a request that goes no further. The exchange is over.
    pub(super) fn turn_away(self, why: NotLetIn) -> Reply {
        match why {
            NotLetIn::Refused(refusal) => self.refuse(refusal),
            NotLetIn::Told(reason, reply) => self.over(Some(reason), *reply),
        }
    }
}

/// Why a request does not enter that the rules let in.
pub(super) enum NotLetIn {
    /// As anything is refused.
    Refused(Refusal),
    /// With an answer that policy, or an authorizer, has words for.
    Told(Reason, Box<Reply>),
}

impl From<Refusal> for NotLetIn {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Rule> for NotLetIn {
    fn from(rule: Rule) -> Self {
        Self::Refused(Refusal::Rule(rule))
    }
}

impl From<Rule> for Refusal {
    fn from(rule: Rule) -> Self {
        Self::Rule(rule)
    }
}
