//! Gateways: from a request that comes from outside to the route of the service behind.
//!
//! How a gateway is entered is its [`crate::InboundTable`]; what takes the request then is decided here.
//! A request is matched as received, then rewritten, then its headers are edited; what comes of it takes
//! the callee's own routes once, the gateway being the caller.

use mesh_bundle::slice::{Destination, Exchange, Gateway, Port, Protocol};

use crate::path::{Accepts, NormalisedPath, PathError};
use crate::request::{Peer, Request};
use crate::retry::RetryPolicy;
use crate::route::{CalleeTable, Explanation, RouteError, RouteSet, RouteTable};
use crate::snapshot::Snapshot;

/// The routes of one gateway.
#[derive(Clone, Debug)]
pub struct GatewayTable {
    name: Box<str>,
    routes: RouteSet,
}

/// What becomes of a gateway's request at the service that its route leads to.
#[derive(Clone, Debug)]
pub struct Onward<'t> {
    /// The service.
    pub callee: &'t CalleeTable,
    /// The port of it.
    pub port: Port,
    /// The route of the service that takes the request.
    pub route: &'t RouteTable,
    /// The subset that the gateway's route names, instead of those that the service's own route splits
    /// between.
    pub subset: Option<&'t str>,
    /// Timeouts of the two routes together.
    pub exchange: &'t Exchange,
    /// Retries of the two routes together.
    pub retry: &'t RetryPolicy,
    /// The path after both rewrites; `None`: as received.
    pub path: Option<NormalisedPath<'static>>,
    /// The host after both rewrites; `None`: as received.
    pub host: Option<&'t str>,
}

/// Why a gateway's request goes nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OnwardError {
    /// The gateway may not call the service.
    #[error("the service is no callee of the gateway")]
    NoCallee,
    /// The service has several ports, and the destination names none.
    #[error("the destination does not say which port of the service is meant")]
    NoPort,
    /// No route of the service takes the request.
    #[error("no route of the service takes the request")]
    NoRoute,
    /// The service is outside the mesh, and its rules do not let the gateway call it like that.
    #[error("the gateway may not send this to the service outside the mesh")]
    Denied,
    /// The rewritten path cannot be sent.
    #[error(transparent)]
    Path(#[from] PathError),
}

impl GatewayTable {
    /// Compiles a gateway of a slice.
    pub fn build(gateway: &Gateway) -> Result<Self, RouteError> {
        Ok(Self {
            name: gateway.name.as_str().into(),
            routes: RouteSet::build(&gateway.routes)?,
        })
    }

    /// Name of the gateway.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The route that takes the request, whose port is that of the listener; `None` is `no_route`.
    pub fn route(&self, request: &Request<'_>) -> Option<&RouteTable> {
        self.routes.find(request)
    }

    /// The route that takes the request, and why each of the others does not.
    pub fn explain(&self, request: &Request<'_>) -> Explanation<'_> {
        self.routes.explain(request)
    }

    /// What a path may hold for some route, see [`RouteSet::path_accepts`].
    pub fn path_accepts(&self) -> Accepts {
        self.routes.path_accepts()
    }

    /// Its routes, in the order of the slice.
    pub fn routes(&self) -> &[RouteTable] {
        self.routes.routes()
    }
}

impl Snapshot {
    /// What becomes of a request, as received, that a gateway's route sends to this destination. Whether it may
    /// leave the mesh is decided here too, as nobody behind does.
    pub fn onward<'t>(
        &'t self,
        route: &'t RouteTable,
        to: &'t Destination,
        request: &Request<'_>,
    ) -> Result<Onward<'t>, OnwardError> {
        let callee = self
            .callee(&to.target.service)
            .ok_or(OnwardError::NoCallee)?;
        let port = callee.port(to.target.port).ok_or(OnwardError::NoPort)?;
        route.filters().path_accepts.allow(request.path)?;
        route.forwarded(request, Some(to), |onward| {
            let onward = Request {
                port: port.number,
                peer: Peer::Identity(self.identity()),
                ..*onward
            };
            let verdict = if matches!(port.protocol, Protocol::Tcp | Protocol::Tls) {
                self.leave_with_bytes(callee, &onward)
            } else {
                self.leave(callee, &onward)
            };
            if verdict.is_some_and(|verdict| !verdict.is_allowed()) {
                return Err(OnwardError::Denied);
            }
            let next = callee.route(&onward).ok_or(OnwardError::NoRoute)?;
            // The gateway names the branch, or any of the service's own may be picked.
            let mut branches = next.split().destinations().iter();
            let is_refused = |branch: &Destination| {
                branch.weight > 0 && !self.may_go(callee, next, branch, &onward)
            };
            if to.target.subset.is_none() && branches.any(is_refused) {
                return Err(OnwardError::Denied);
            }
            next.filters().path_accepts.allow(onward.path)?;
            let second = next.rewrite(&onward)?;
            let (exchange, retry) = route.exchange_through(callee.service(), next.name());
            let first_path = || {
                let rewritten = onward.path != request.path;
                rewritten.then(|| onward.path.clone().into_owned())
            };
            let first_host = || route.filters().rewrite.as_ref()?.host();
            Ok(Onward {
                callee,
                port,
                route: next,
                subset: to.target.subset.as_deref(),
                exchange,
                retry,
                path: second.path.or_else(first_path),
                host: second.host.or_else(first_host),
            })
        })?
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mesh_bundle::slice::{
        Access, AccessRule, CalleeExchange, CalleeKind, Effect, Enforcement, HeaderEdits,
        HeaderLine, InboundService, OutboundService, Principal, Rewrite, Route, Slice, Target,
    };
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;
    use crate::path;
    use crate::testing::{all, callee, exact, from, host, id, path as path_is, port, route};

    fn to(service: &str, port: Option<u16>) -> Destination {
        Destination::only(Target {
            service: service.into(),
            subset: None,
            port,
        })
    }

    fn within(timeout: u64) -> Exchange {
        Exchange {
            timeout: Some(Duration::from_secs(timeout)),
            ..Exchange::default()
        }
    }

    /// A gateway whose route `shop` rewrites `/shop/**` to `/**` and marks requests, before a service
    /// with routes on paths, headers, hosts and callers.
    fn slice() -> Slice {
        let mut shop = route("shop", vec![all([path_is("/shop/**")])]);
        shop.destinations = vec![to("shop", Some(80))];
        shop.exchange = within(9);
        shop.filters.rewrite = Some(Rewrite {
            path: Some("/**".into()),
            host: Some("inside".into()),
        });
        shop.filters.request_headers = HeaderEdits {
            set: vec![HeaderLine {
                name: "edge".into(),
                value: "yes".into(),
            }],
            ..HeaderEdits::default()
        };
        shop.exchanges = vec![CalleeExchange {
            service: "shop".into(),
            route: "cart".into(),
            exchange: within(3),
        }];
        let conditions = || {
            use mesh_bundle::slice::Condition::Header;
            vec![all([
                path_is("/cart/**"),
                host("inside"),
                from("public"),
                Header(exact("edge", "yes")),
            ])]
        };
        let mut cart = route("cart", conditions());
        cart.filters.rewrite = Some(Rewrite {
            path: Some("/v2/**".into()),
            host: None,
        });
        let mut service = callee("shop", vec![cart, route("rest", Vec::new())]);
        service.ports.push(port(81));
        let only = callee("only", vec![route("one", vec![all([path_is("/one")])])]);
        let mut other = route("other", vec![all([path_is("/**")])]);
        other.destinations = vec![to("only", None)];
        let mut lost = route("lost", vec![all([path_is("/lost/**")])]);
        lost.destinations = vec![to("stranger", None)];
        let mut vague = route("vague", vec![all([path_is("/vague/**")])]);
        vague.destinations = vec![to("shop", None)];
        Slice {
            access: Access {
                services: vec![InboundService {
                    service: "public".into(),
                    ports: vec![port(8080)],
                    ..InboundService::default()
                }],
                ..Access::default()
            },
            callees: vec![service, only],
            gateways: vec![Gateway {
                name: "public".into(),
                routes: vec![shop, other, lost, vague],
            }],
            ..Slice::new(id("public"))
        }
    }

    /// What becomes of `GET path`, as people say it.
    fn onward(received: &str) -> String {
        let snapshot = Snapshot::build(&slice()).unwrap();
        let path = path::normalise(received).unwrap();
        let request = Request {
            port: 8080,
            ..Request::new("GET", "shop.example", &path)
        };
        let gateway = snapshot.gateway("public").unwrap();
        let Some(route) = gateway.route(&request) else {
            return "no route".to_owned();
        };
        let destination = route.split().destinations().first().unwrap();
        match snapshot.onward(route, destination, &request) {
            Ok(onward) => format!(
                "{} > {}:{} {} {} {} {:?}",
                route.name(),
                onward.callee.service(),
                onward.port.number,
                onward.route.name(),
                onward.host.unwrap_or("-"),
                onward.path.as_ref().map_or("-", NormalisedPath::as_str),
                onward.exchange.timeout.unwrap_or_default(),
            ),
            Err(error) => format!("{}: {error}", route.name()),
        }
    }

    /// design.md: "A request is matched as received, then rewritten, then its headers edited", and "a
    /// gateway's `to productpage` then passes that service's own routes once, the gateway being the caller".
    #[test]
    fn what_the_gateway_makes_of_a_request_is_what_the_service_routes() {
        assert_eq!(
            onward("/shop/cart/7"),
            "shop > shop:80 cart inside /v2/7 3s"
        );
        // No exchange is given for that pair: the gateway's route's own holds.
        assert_eq!(onward("/shop/x"), "shop > shop:80 rest inside /x 9s");
        assert_eq!(onward("/one"), "other > only:80 one - - 15s");
    }

    #[test]
    fn a_request_may_go_nowhere() {
        assert_eq!(
            onward("/two"),
            "other: no route of the service takes the request"
        );
        assert_eq!(
            onward("/lost/x"),
            "lost: the service is no callee of the gateway"
        );
        assert_eq!(
            onward("/vague/x"),
            "vague: the destination does not say which port of the service is meant"
        );
    }

    /// Nobody behind the gateway judges what leaves the mesh.
    #[test]
    fn what_leaves_the_mesh_by_a_gateway_is_judged_there() {
        let leaves = |rules: &[&str], protocol| {
            let mut slice = slice();
            let only = slice.callees.iter_mut().find(|own| own.service == "only");
            let only = only.unwrap();
            only.kind = CalleeKind::External { via: None };
            only.identities.clear();
            only.ports[0].protocol = protocol;
            let rules = rules.iter().map(|who| AccessRule {
                name: "allow".into(),
                effect: Effect::Allow,
                enforcement: Enforcement::Enforce,
                who: vec![Principal::SpiffeId(id(who))],
                conditions: Vec::new(),
            });
            slice.access.externals = vec![OutboundService {
                service: "only".into(),
                rules: rules.collect(),
            }];
            let snapshot = Snapshot::build(&slice).unwrap();
            let path = path::normalise("/one").unwrap();
            let request = Request {
                port: 8080,
                ..Request::new("GET", "shop.example", &path)
            };
            let route = snapshot.gateway("public").unwrap().route(&request);
            let route = route.unwrap();
            let to = route.split().destinations().first().unwrap();
            snapshot.onward(route, to, &request).map(|_| ())
        };
        for protocol in [Protocol::Http, Protocol::Tcp] {
            assert_eq!(leaves(&["public"], protocol), Ok(()));
            assert_eq!(leaves(&["other"], protocol), Err(OnwardError::Denied));
            assert_eq!(leaves(&[], protocol), Err(OnwardError::Denied));
        }
    }

    /// A route may lead to another service, and that one be outside of the mesh.
    #[test]
    fn what_leaves_the_mesh_by_a_route_of_a_service_is_judged_where_it_is_sent() {
        let goes = |who: &str, received: &str| {
            let mut slice = slice();
            let mut out = callee("out", vec![route("all", Vec::new())]);
            out.kind = CalleeKind::External { via: None };
            out.identities.clear();
            slice.callees[1].routes[0].destinations = vec![to("out", None)];
            slice.callees.insert(1, out);
            slice
                .callees
                .sort_by(|one, other| one.service.cmp(&other.service));
            slice.access.externals = vec![OutboundService {
                service: "out".into(),
                rules: vec![AccessRule {
                    name: "allow".into(),
                    effect: Effect::Allow,
                    enforcement: Enforcement::Enforce,
                    who: vec![Principal::SpiffeId(id(who))],
                    conditions: vec![path_is("/one")],
                }],
            }];
            let snapshot = Snapshot::build(&slice).unwrap();
            let path = path::normalise(received).unwrap();
            let request = Request {
                port: 80,
                ..Request::new("GET", "only", &path)
            };
            let callee = snapshot.callee("only").unwrap();
            let route = callee.routes().first().unwrap();
            let own = route.split().destinations().first().unwrap();
            let gateway = snapshot.gateway("public").unwrap();
            let other = gateway
                .routes()
                .iter()
                .find(|route| route.name() == "other");
            let other = other.unwrap();
            let branch = other.split().destinations().first().unwrap();
            let by_gateway = snapshot.onward(other, branch, &request).is_ok();
            (snapshot.may_go(callee, route, own, &request), by_gateway)
        };
        assert_eq!(goes("public", "/one"), (true, true));
        assert_eq!(goes("other", "/one"), (false, false));
        assert!(!goes("public", "/two").0);
    }

    #[test]
    fn a_gateway_needs_ports_of_its_own() {
        let mut slice = slice();
        slice.access.services.clear();
        let error = Snapshot::build(&slice).unwrap_err();
        assert_eq!(error.to_string(), "gateway \"public\" has no ports");
    }

    fn template() -> impl Strategy<Value = String> {
        let piece = select(vec!["/a", "/b", "/{x}", "/{y}"]);
        (
            proptest::collection::vec(piece, 0..3),
            select(vec!["", "/**"]),
        )
            .prop_map(|(pieces, end)| {
                let text = pieces.concat() + end;
                if text.is_empty() {
                    "/".to_owned()
                } else {
                    text
                }
            })
            .prop_filter("a name once", |text| {
                text.matches("{x}").count() < 2 && text.matches("{y}").count() < 2
            })
    }

    /// Segment by segment: `None` if the pattern does not take the path.
    fn naive(pattern: &str, to: &str, received: &str) -> Option<String> {
        let pieces =
            |text: &str| -> Vec<String> { text.split('/').skip(1).map(str::to_owned).collect() };
        let (pattern, received) = (pieces(pattern), pieces(received));
        let mut captured = std::collections::BTreeMap::new();
        let mut rest: Option<Vec<String>> = None;
        let mut left = received.as_slice();
        for piece in &pattern {
            if piece == "**" {
                rest = Some(left.to_vec());
                left = &[];
                break;
            }
            let (first, after) = left.split_first()?;
            left = after;
            if piece.starts_with('{') {
                if first.is_empty() {
                    return None;
                }
                captured.insert(piece.clone(), first.clone());
            } else if piece != first {
                return None;
            }
        }
        if !left.is_empty() {
            return None;
        }
        let mut made: Vec<String> = Vec::new();
        for piece in pieces(to) {
            match piece.as_str() {
                "**" => made.extend(rest.clone()?),
                name if name.starts_with('{') => made.push(captured.get(name)?.clone()),
                literal => made.push(literal.to_owned()),
            }
        }
        Some(format!("/{}", made.join("/")))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        /// A rewrite is refused exactly when its captures are not the pattern's, and else makes what
        /// putting segments in their places by hand makes.
        #[test]
        fn rewrites_are_those_of_a_naive_model(
            pattern in template(), to in template(),
            pieces in proptest::collection::vec(select(vec!["a", "b", "c"]), 1..4), slash in any::<bool>(),
        ) {
            let mut shop: Route = route("r", vec![all([path_is(&pattern)])]);
            shop.filters.rewrite = Some(Rewrite { path: Some(to.clone()), host: None });
            let gateway = Gateway { name: "g".into(), routes: vec![shop] };
            let has = |what: &str| pattern.contains(what) || !to.contains(what);
            let table = GatewayTable::build(&gateway);
            prop_assert_eq!(table.is_ok(), has("**") && has("{x}") && has("{y}"));
            let Ok(table) = table else { return Ok(()) };
            let received = format!("/{}{}", pieces.join("/"), if slash { "/" } else { "" });
            let path = path::normalise(&received).unwrap();
            let request = Request::new("GET", "h", &path);
            let route = table.route(&request);
            let expected = naive(&pattern, &to, &received);
            prop_assert_eq!(route.is_some(), expected.is_some(), "{} {}", pattern, received);
            let Some(route) = route else { return Ok(()) };
            let made = route.rewrite(&request).unwrap().path.unwrap();
            prop_assert_eq!(made.as_str(), expected.unwrap());
        }
    }
}
