//! The words of the policy language: each is declared once, and that declaration drives decoding,
//! "did you mean", completion and the published schema. Meaning across definitions is for `link`.

use crate::value::Kind;

mod access;
mod action;
mod authorizer;
mod balance;
mod calls;
mod condition;
mod cors;
mod decode;
mod defaults;
mod endpoints;
mod expect;
mod external;
mod facts;
mod fault;
mod gateway;
mod headers;
mod health_check;
mod hedge;
mod invariant;
mod inventory;
mod jwt;
mod later;
mod limits;
mod listen;
mod locality;
mod mesh;
mod mirror;
mod mtls;
mod outlier;
mod overriding;
mod per;
mod policy;
mod probe;
mod rate_limit;
mod reach;
mod reader;
mod redirect;
mod reference;
mod refuse;
mod request;
mod require;
mod respond;
mod retry;
mod retry_budget;
mod rewrite;
mod rollout;
mod route;
mod schema;
mod service;
mod subset;
mod suppress;
mod symbol;
mod team;
mod telemetry;
mod test;
mod timeout;
mod tls;
mod to;
mod upgrade;

pub use balance::{Balance, EffectiveBalance, Method, algorithm_word};
pub use decode::is_inventory;
pub(crate) use decode::{Known, decode, decode_library};
pub use health_check::{EffectiveHealthCheck, HealthCheck};
pub use later::LATER;
pub use limits::{EffectiveLimits, Limits};
pub use locality::{EffectiveLocality, Locality, Nearness};
pub use outlier::{EffectiveOutlier, Outlier};
pub(crate) use overriding::{KINDS, kind as overridden_kind};
pub(crate) use reader::{Entry, Reader};
pub use reference::reference;
pub use schema::{SCHEMA_LANGUAGE, schema};
pub use symbol::{Naming, Symbol};

/// Every word that this release enforces; a word may have several declarations for several places.
pub static KEYWORDS: &[&Keyword] = &[
    &mesh::MESH,
    &mesh::TRUST_DOMAIN,
    &mtls::MTLS,
    &mesh::FEDERATE,
    &rollout::ROLLOUT,
    &telemetry::TELEMETRY,
    &telemetry::ACCESS_LOG,
    &telemetry::ONLY,
    &telemetry::STATUS,
    &telemetry::SLOWER_THAN,
    &telemetry::TRACES,
    &mesh::ENVIRONMENT,
    &defaults::DEFAULTS,
    &refuse::REFUSE,
    &team::TEAM,
    &team::OWNS,
    &team::SERVICE,
    &policy::POLICY,
    &policy::USE,
    &service::SERVICE,
    &reach::PORT,
    &reach::ADDRESS,
    &reach::UNMESHED,
    &external::EXTERNAL,
    &external::VIA,
    &service::HOST,
    &service::IDENTITY,
    &service::CALLERS_MAY_EXTEND,
    &gateway::GATEWAY,
    &gateway::DELEGATE,
    &listen::LISTEN,
    &listen::HOST,
    &listen::CLIENT_IP,
    &tls::TLS,
    &endpoints::ENDPOINTS,
    &endpoints::STATIC,
    &endpoints::DNS,
    &endpoints::KUBERNETES,
    &subset::SUBSET,
    &subset::LABELS,
    &facts::FACTS,
    &calls::CALLS,
    &calls::LISTEN,
    &route::ROUTE,
    &route::ROUTE_OF_GATEWAY,
    &route::MATCH,
    &to::TO,
    &to::ELSE,
    &redirect::REDIRECT,
    &respond::RESPOND,
    &respond::HEADER,
    &rewrite::REWRITE,
    &mirror::MIRROR,
    &fault::FAULT,
    &fault::DELAY,
    &fault::ABORT,
    &headers::REQUEST_HEADERS,
    &headers::RESPONSE_HEADERS,
    &headers::SET,
    &headers::ADD,
    &headers::REMOVE,
    &cors::CORS,
    &cors::ORIGIN,
    &cors::METHOD,
    &cors::HEADER,
    &cors::EXPOSE,
    &upgrade::UPGRADE,
    &upgrade::PATH_ACCEPTS,
    &upgrade::STREAMING,
    &upgrade::STICKY,
    &timeout::TIMEOUT,
    &retry::RETRY,
    &retry::BACKOFF,
    &hedge::HEDGE,
    &retry_budget::RETRY_BUDGET,
    &balance::BALANCE,
    &per::PER,
    &locality::LOCALITY,
    &locality::ELSE,
    &limits::LIMITS,
    &outlier::OUTLIER,
    &health_check::HEALTH_CHECK,
    &access::ALLOW,
    &access::DENY,
    &require::REQUIRE,
    &require::ACCEPT,
    &rate_limit::RATE_LIMIT,
    &probe::PROBE,
    &probe::PEER_IP,
    &invariant::INVARIANT,
    &invariant::REACHES,
    &invariant::ONLY,
    &invariant::ISOLATED,
    &invariant::FROM,
    &invariant::TO,
    &invariant::ALLOWED,
    &invariant::DENIED,
    &invariant::DECIDED_TO,
    &jwt::JWT,
    &jwt::ISSUER,
    &jwt::AUDIENCE,
    &jwt::JWKS,
    &jwt::LOCATION,
    &jwt::FORWARD,
    &authorizer::AUTHORIZER,
    &authorizer::TO,
    &authorizer::TIMEOUT,
    &authorizer::ON_FAILURE,
    &authorizer::SEND_HEADER,
    &authorizer::KEEP_HEADER,
    &authorizer::RETURN_HEADER,
    &authorizer::BODY,
    &condition::METHOD,
    &condition::PATH,
    &condition::GRPC,
    &condition::HOST,
    &condition::PORT,
    &condition::FROM,
    &condition::CLIENT_IP,
    &condition::PEER_IP,
    &condition::HEADER,
    &condition::QUERY,
    &condition::COOKIE,
    &condition::CLAIM,
    &condition::NOT,
    &suppress::SUPPRESS,
    &inventory::INVENTORY,
    &inventory::SERVICE,
    &inventory::INSTANCES,
    &inventory::OBSERVED,
    &inventory::IDENTITY,
    &inventory::CERTIFICATE,
    &overriding::OVERRIDE,
    &overriding::REMOVE,
    &test::TEST,
    &test::ENVIRONMENT,
    &request::REQUEST,
    &request::CONNECT,
    &request::HEADER,
    &request::QUERY,
    &request::COOKIE,
    &request::CLAIM,
    &expect::EXPECT,
    &expect::TO,
    &expect::REQUEST_HEADER,
    &expect::RESPONSE_HEADER,
];

/// A place where words may stand: the top of a file, or the block of a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// The top of a policy file.
    Root,
    /// The top of a `*.test.kdl` file.
    TestFile,
    /// The top of a file of an environment.
    Environment,
    /// The top of a file called `inventory.kdl`.
    InventoryFile,
    /// The block of `inventory`.
    Inventory,
    /// The block of a `service` in `inventory`.
    InventoryService,
    /// The block of `override`, besides what its target holds.
    Override,
    /// The block of `mesh`.
    Mesh,
    /// The block of `team`.
    Team,
    /// The block of `defaults`.
    Defaults,
    /// The block of `policy`.
    Policy,
    /// The block of `service`.
    Service,
    /// The block of `gateway`.
    Gateway,
    /// The block of `listen` in a gateway.
    Listen,
    /// The block of `delegate`.
    Delegate,
    /// The block of `require` and `accept`.
    Requirement,
    /// The block of `rate-limit`.
    RateLimit,
    /// The block of `probe`.
    Probe,
    /// The block of `invariant`.
    Invariant,
    /// The block of `reaches`.
    Reaches,
    /// The block of `isolated`.
    Isolated,
    /// The block of `allowed` and `denied`.
    Decided,
    /// The block of `jwt`.
    Jwt,
    /// The block of `authorizer`.
    Authorizer,
    /// The block of `telemetry`.
    Telemetry,
    /// The block of `access-log`.
    AccessLog,
    /// The block of `only` in `access-log`.
    Only,
    /// The block of `endpoints`.
    Endpoints,
    /// The block of `subset`.
    Subset,
    /// The block of `calls`.
    Calls,
    /// The block of `route`.
    Route,
    /// The block of `match`.
    Match,
    /// The block of `to`.
    To,
    /// The block of `external`.
    External,
    /// The block of `port`.
    Port,
    /// The block of `respond`.
    Respond,
    /// The block of `fault`.
    Fault,
    /// The block of `request-headers` and of `response-headers`.
    HeaderEdits,
    /// The block of `cors`.
    Cors,
    /// The block of `retry`.
    Retry,
    /// The block of `balance`.
    Balance,
    /// The block of `locality`.
    Locality,
    /// The block of `allow`.
    Allow,
    /// The block of `deny`.
    Deny,
    /// The block of `not`.
    Not,
    /// The block of `test`.
    Test,
    /// The block of `request`.
    Request,
    /// The block of `expect`.
    Expect,
}

impl Place {
    /// Where it is, as it fits after "stands".
    pub const fn describe(self) -> &'static str {
        match self {
            Self::Root => "at the top of a policy file",
            Self::TestFile => "at the top of a test file",
            Self::Environment => "at the top of an environment's file",
            Self::InventoryFile => "at the top of `inventory.kdl`",
            Self::Inventory => "in `inventory`",
            Self::InventoryService => "in `service` of an inventory",
            Self::Override => "in `override`",
            Self::Mesh => "in `mesh`",
            Self::Team => "in `team`",
            Self::Defaults => "in `defaults`",
            Self::Policy => "in `policy`",
            Self::Service => "in `service`",
            Self::Gateway => "in `gateway`",
            Self::Listen => "in `listen`",
            Self::Delegate => "in `delegate`",
            Self::Requirement => "in `require` and `accept`",
            Self::RateLimit => "in `rate-limit`",
            Self::Probe => "in `probe`",
            Self::Invariant => "in `invariant`",
            Self::Reaches => "in `reaches`",
            Self::Isolated => "in `isolated`",
            Self::Decided => "in `allowed` and `denied`",
            Self::Jwt => "in `jwt`",
            Self::Authorizer => "in `authorizer`",
            Self::Telemetry => "in `telemetry`",
            Self::AccessLog => "in `access-log`",
            Self::Only => "in `only`",
            Self::Endpoints => "in `endpoints`",
            Self::Subset => "in `subset`",
            Self::Calls => "in `calls`",
            Self::Route => "in `route`",
            Self::Match => "in `match`",
            Self::To => "in `to`",
            Self::External => "in `external`",
            Self::Port => "in `port`",
            Self::Respond => "in `respond`",
            Self::Fault => "in `fault`",
            Self::HeaderEdits => "in `request-headers` and `response-headers`",
            Self::Cors => "in `cors`",
            Self::Retry => "in `retry`",
            Self::Balance => "in `balance`",
            Self::Locality => "in `locality`",
            Self::Allow => "in `allow`",
            Self::Deny => "in `deny`",
            Self::Not => "in `not`",
            Self::Test => "in `test`",
            Self::Request => "in `request`",
            Self::Expect => "in `expect`",
        }
    }
}

/// The declaration of a word.
#[derive(Debug)]
pub struct Keyword {
    /// The word.
    pub name: &'static str,
    /// Where it may stand.
    pub stands: &'static [Place],
    /// How often.
    pub repeats: Repeats,
    /// Its arguments.
    pub args: Args,
    /// Its properties.
    pub props: &'static [Property],
    /// The kind of the properties whose names people choose (labels).
    pub labels: Option<&'static Kind>,
    /// What its block holds; none: it has no block.
    pub block: Option<Place>,
    /// Whether it means something without argument, property and block.
    pub alone: bool,
    /// What an `override` does with it; none: as [`Keyword::merging`] says.
    pub merge: Option<Merge>,
    /// What it does, in a sentence.
    pub summary: &'static str,
}

impl Keyword {
    /// A word without arguments, properties and block, to be completed with struct update syntax.
    pub(crate) const fn new(
        name: &'static str,
        stands: &'static [Place],
        summary: &'static str,
    ) -> Self {
        Self {
            name,
            stands,
            repeats: Repeats::Once,
            args: Args::NONE,
            props: &[],
            labels: None,
            block: None,
            alone: false,
            merge: None,
            summary,
        }
    }

    /// What an `override` does with this word.
    pub fn merging(&self) -> Merge {
        self.merge.unwrap_or(match self.repeats {
            Repeats::Once => Merge::Fields,
            Repeats::Many => Merge::Adds,
        })
    }
}

/// What an environment's `override` does with a word that its target may have too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Merge {
    /// Field by field: the arguments together, each property by itself, the block by this same rule.
    Fields,
    /// Whole, because its parts mean something only together.
    Whole,
    /// Whole, one definition by its name; the target must have it.
    Named,
    /// Whole, one definition by its name; an environment may add one.
    NamedOrNew,
    /// All of them replace all of the target's.
    List,
    /// It is one more.
    Adds,
}

/// How often a word may stand in one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeats {
    /// A setting: twice at one level is an error.
    Once,
    /// A declaration or condition: they add up.
    Many,
}

/// The arguments of a word.
#[derive(Clone, Copy, Debug)]
pub struct Args {
    /// The first ones, each with its own meaning.
    pub leading: &'static [Argument],
    /// All that follow.
    pub rest: Option<Argument>,
    /// How many there must be.
    pub required: usize,
}

impl Args {
    pub(crate) const NONE: Self = Self {
        leading: &[],
        rest: None,
        required: 0,
    };

    pub(crate) const fn required(leading: &'static [Argument]) -> Self {
        Self {
            leading,
            rest: None,
            required: leading.len(),
        }
    }

    pub(crate) const fn optional(leading: &'static [Argument]) -> Self {
        Self {
            leading,
            rest: None,
            required: 0,
        }
    }

    pub(crate) const fn list(name: &'static str, kind: &'static Kind, required: usize) -> Self {
        Self {
            leading: &[],
            rest: Some(Argument::new(name, kind)),
            required,
        }
    }

    /// Says what the names of a list refer to.
    pub(crate) const fn refers(self, symbol: Symbol) -> Self {
        self.naming(Naming::Refers(symbol))
    }

    /// Says what the names of a list define.
    pub(crate) const fn defines(self, symbol: Symbol) -> Self {
        self.naming(Naming::Defines(symbol))
    }

    const fn naming(self, naming: Naming) -> Self {
        match self.rest {
            Some(rest) => Self {
                rest: Some(Argument {
                    names: Some(naming),
                    ..rest
                }),
                ..self
            },
            None => self,
        }
    }

    /// The declaration of the argument at a position.
    pub fn at(&self, index: usize) -> Option<&Argument> {
        self.leading.get(index).or(self.rest.as_ref())
    }
}

/// An argument.
#[derive(Clone, Copy, Debug)]
pub struct Argument {
    /// What stands for it in the grammar.
    pub name: &'static str,
    /// What it may be.
    pub kind: &'static Kind,
    /// What it names; none: it is no name of a definition.
    pub names: Option<Naming>,
}

impl Argument {
    pub(crate) const fn new(name: &'static str, kind: &'static Kind) -> Self {
        Self {
            name,
            kind,
            names: None,
        }
    }

    /// Says that it names something that is defined elsewhere.
    pub(crate) const fn refers(self, symbol: Symbol) -> Self {
        Self {
            names: Some(Naming::Refers(symbol)),
            ..self
        }
    }

    /// Says that it is the name of what the word defines.
    pub(crate) const fn defines(self, symbol: Symbol) -> Self {
        Self {
            names: Some(Naming::Defines(symbol)),
            ..self
        }
    }
}

/// A property.
#[derive(Clone, Copy, Debug)]
pub struct Property {
    /// Its name.
    pub name: &'static str,
    /// What it may be.
    pub kind: &'static Kind,
    /// Whether it must be there.
    pub required: bool,
    /// What it does, in a sentence.
    pub summary: &'static str,
    /// What it refers to; none: it is no name of a definition.
    pub names: Option<Naming>,
}

impl Property {
    pub(crate) const fn new(
        name: &'static str,
        kind: &'static Kind,
        summary: &'static str,
    ) -> Self {
        Self {
            name,
            kind,
            required: false,
            summary,
            names: None,
        }
    }

    /// Says that it names something that is defined elsewhere.
    pub(crate) const fn refers(self, symbol: Symbol) -> Self {
        Self {
            names: Some(Naming::Refers(symbol)),
            ..self
        }
    }

    pub(crate) const fn required(self) -> Self {
        Self {
            required: true,
            ..self
        }
    }
}

/// The words that may stand in a place, in the order of the table.
pub fn words_in(place: Place) -> impl Iterator<Item = &'static Keyword> {
    KEYWORDS
        .iter()
        .copied()
        .filter(move |keyword| keyword.stands.contains(&place))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_has_each_word_once() {
        for keyword in KEYWORDS {
            for place in keyword.stands {
                let same = words_in(*place)
                    .filter(|other| other.name == keyword.name)
                    .count();
                assert_eq!(same, 1, "`{}` in {}", keyword.name, place.describe());
            }
        }
    }

    #[test]
    fn a_word_is_either_here_or_later() {
        for later in LATER {
            for place in later.stands {
                assert!(
                    !words_in(*place).any(|word| word.name == later.name),
                    "`{}` in {}",
                    later.name,
                    place.describe()
                );
            }
        }
    }
}
