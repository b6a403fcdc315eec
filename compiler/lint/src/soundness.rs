//! What facts claim, against the engine, over generated services: on every request of a world that
//! tells apart whatever the generated conditions tell apart. A failure prints the policy, and proptest
//! the seed that makes it again.

use std::collections::BTreeMap;

use mesh_compiler::analysis::request_space::{FieldKind, Point};
use mesh_compiler::linked::{LinkedMesh, ServiceId};
use proptest::prelude::*;

use crate::tester::{draw, load, sources};

mod access;
mod changes;
mod fronts;
mod invariants;
mod order;
mod passages;
mod routes;

/// A bounded run; a failure is printed with its seed and writes no file.
fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

/// A group of conditions that look at one thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Look {
    Path,
    Method,
    HeaderX,
    HeaderY,
    Query,
    Cookie,
    Claim,
    Host,
    Port,
    ClientIp,
    PeerIp,
    From,
}

const LOOKS: [Look; 12] = [
    Look::Path,
    Look::Method,
    Look::HeaderX,
    Look::HeaderY,
    Look::Query,
    Look::Cookie,
    Look::Claim,
    Look::Host,
    Look::Port,
    Look::ClientIp,
    Look::PeerIp,
    Look::From,
];

impl Look {
    /// Conditions, each of which may also stand in `not`.
    const fn conditions(self) -> &'static [&'static str] {
        match self {
            Self::Path => &[
                "path \"/a\"",
                "path \"/a/*\"",
                "path \"/a/**\"",
                "path \"/a\" \"/b/**\"",
                "path regex=\"/a/[0-9]+\"",
                "path regex=\"/[ab].*\"",
                "path \"/A/*\" case=ignore",
            ],
            Self::Method => &["method GET", "method GET POST"],
            Self::HeaderX => &[
                "header x",
                "header x \"1\"",
                "header x \"1\" \"2\"",
                "header x regex=\"[12]\"",
            ],
            Self::HeaderY => &[
                "header y \"A\" case=ignore",
                "header y suffix=\"z\"",
                "header y contains=\"z\"",
            ],
            Self::Query => &["query q", "query q \"1\"", "query q prefix=\"1\""],
            Self::Cookie => &["cookie c", "cookie c \"1\""],
            Self::Claim => &["claim g", "claim g \"a\"", "claim g prefix=\"a\""],
            Self::Host => &[
                "host \"a\"",
                "host \"*.x\"",
                "host \"**.x\"",
                "host \"a\" \"b.x\"",
            ],
            Self::Port => &["port 80", "port 80 81"],
            Self::ClientIp => &[
                "client-ip \"10.0.0.0/8\"",
                "client-ip \"10.0.0.0/16\" \"fd00::/8\"",
            ],
            Self::PeerIp => &["peer-ip \"10.0.0.0/8\"", "peer-ip \"10.0.0.0/16\""],
            Self::From => &[
                "from web",
                "from any",
                "from unauthenticated",
                "from web other",
            ],
        }
    }

    /// Changes to a request, one for each case that the conditions tell apart.
    fn cases(self) -> Vec<Change> {
        let texts = |texts: &[&'static str], change: fn(&mut Point, &str)| -> Vec<Change> {
            let case = |text: &&'static str| {
                let text = *text;
                Box::new(move |point: &mut Point| change(point, text)) as Change
            };
            texts.iter().map(case).collect()
        };
        match self {
            Self::Path => texts(&PATHS, |point, text| text.clone_into(&mut point.path)),
            Self::Method => texts(&["GET", "POST", "PUT"], |point, text| {
                text.clone_into(&mut point.method);
            }),
            Self::Host => texts(&["a", "b.x", "e.x", "c.b.x", "d"], |point, text| {
                text.clone_into(&mut point.host);
            }),
            Self::Port => texts(&["80", "81"], |point, text| {
                point.port = text.parse().expect("a number");
            }),
            Self::ClientIp => texts(
                &["10.0.0.9", "10.1.0.9", "192.168.0.1", "fd00::1", "::1"],
                |point, text| point.client_ip = text.parse().expect("an address"),
            ),
            Self::PeerIp => texts(&["10.0.0.9", "10.1.0.9", "192.168.0.1"], |point, text| {
                point.peer_ip = text.parse().expect("an address");
            }),
            Self::From => texts(&["web", "other", "third", ELSEWHERE, ""], |point, text| {
                point.from = match text {
                    "" => None,
                    ELSEWHERE => Some(ELSEWHERE.to_owned()),
                    name => Some(identity(name)),
                };
            }),
            Self::HeaderX => subsets(FieldKind::Header, "x", &["1", "2", "3"]),
            Self::HeaderY => subsets(FieldKind::Header, "y", &["a", "z", "zq"]),
            Self::Query => subsets(FieldKind::Query, "q", &["1", "1a", "2"]),
            Self::Cookie => subsets(FieldKind::Cookie, "c", &["1", "2"]),
            Self::Claim => subsets(FieldKind::Claim, "g", &["a", "ab", "b"]),
        }
    }
}

type Change = Box<dyn Fn(&mut Point)>;

const PATHS: [&str; 12] = [
    "/", "/ab", "/a", "/a/", "/a/7", "/a/b", "/a/b/c", "/b", "/b/c", "/c", "/A/7", "/A",
];

/// An identity that only rules for everybody cover.
const ELSEWHERE: &str = "spiffe://elsewhere.test/x";

fn identity(service: &str) -> String {
    format!("spiffe://example.test/service/{service}")
}

/// A value for each part of the texts, nothing included: whether several are sent makes a difference.
fn subsets(kind: FieldKind, name: &'static str, texts: &'static [&'static str]) -> Vec<Change> {
    let subset = |bits: usize| {
        let chosen: Vec<String> = texts
            .iter()
            .enumerate()
            .filter(|(index, _)| bits & (1 << index) != 0)
            .map(|(_, text)| (*text).to_owned())
            .collect();
        Box::new(move |point: &mut Point| {
            let key = (kind, name.to_owned());
            if chosen.is_empty() {
                point.fields.remove(&key);
            } else {
                point.fields.insert(key, chosen.clone());
            }
        }) as Change
    };
    (0..1 << texts.len()).map(subset).collect()
}

fn ordinary() -> Point {
    Point {
        method: "GET".to_owned(),
        host: "a".to_owned(),
        path: "/".to_owned(),
        port: 80,
        from: Some(identity("web")),
        client_ip: [10, 0, 0, 9].into(),
        peer_ip: [10, 0, 0, 9].into(),
        fields: BTreeMap::new(),
    }
}

/// Every request that the conditions of some looks could tell from another.
fn world(looks: &[Look]) -> Vec<Point> {
    let mut world = vec![ordinary()];
    for look in looks {
        let cases = look.cases();
        let vary = |point: &Point| {
            let with = |change: &Change| {
                let mut point = point.clone();
                change(&mut point);
                point
            };
            cases.iter().map(with).collect::<Vec<_>>()
        };
        world = world.iter().flat_map(vary).collect();
    }
    world
}

/// Three looks, of which the caller is always one: rules are about it.
fn any_looks() -> impl Strategy<Value = Vec<Look>> {
    let others: Vec<Look> = LOOKS
        .iter()
        .copied()
        .filter(|look| *look != Look::From)
        .collect();
    prop::sample::subsequence(others, 2).prop_map(|mut looks| {
        looks.push(Look::From);
        looks
    })
}

/// At most `most` conditions of these looks, some of them negated.
fn any_conditions(looks: &[Look], most: usize) -> impl Strategy<Value = String> + use<> {
    let conditions: Vec<String> = looks
        .iter()
        .flat_map(|look| look.conditions())
        .flat_map(|condition| [(*condition).to_owned(), format!("not {{ {condition} }}")])
        .collect();
    prop::collection::vec(prop::sample::select(conditions), 0..=most)
        .prop_map(|conditions| conditions.join("; "))
}

/// Access rules for the callers of the world.
fn any_rules(looks: &[Look]) -> impl Strategy<Value = Vec<String>> + use<> {
    // Who calls is not a condition of a rule.
    let looks: Vec<Look> = looks
        .iter()
        .copied()
        .filter(|look| *look != Look::From)
        .collect();
    let rule = (
        prop::sample::select(vec![
            "allow web",
            "allow other",
            "allow any",
            "allow unauthenticated",
            "allow \"spiffe://example.test/service/**\"",
            "deny",
            "deny web",
        ]),
        any_conditions(&looks, 2),
    );
    let rule = rule.prop_map(|(rule, conditions)| format!("{rule} {{ {conditions} }}"));
    prop::collection::vec(rule, 0..5)
}

/// A service `a` and three others, of which one declares to call it.
#[derive(Clone, Debug)]
struct Policy {
    looks: Vec<Look>,
    /// What is said of its second port.
    port: &'static str,
    routes: Vec<String>,
    rules: Vec<String>,
}

impl Policy {
    fn text(&self) -> String {
        let other = |name: &str, number: u8, calls: &str| {
            format!(
                "service {name} {{ port 80; endpoints {{ static \"10.0.0.{number}:80\" }}{calls} }}\n"
            )
        };
        format!(
            "{}{}{}service a {{\n port 80\n port 81{}\n mtls permissive\n endpoints {{ static \"10.0.0.4:80\" }}\n {}\n {}\n}}",
            other("web", 1, "; calls a"),
            other("other", 2, ""),
            other("third", 3, ""),
            self.port,
            self.routes.join("\n "),
            self.rules.join("\n "),
        )
    }

    fn world(&self) -> Vec<Point> {
        let mut looks = self.looks.clone();
        if !self.port.is_empty() && !looks.contains(&Look::Port) {
            looks.push(Look::Port);
        }
        world(&looks)
    }
}

/// What is said of a port that may carry bytes. Conditions on ports could leave in question only one of these,
/// and then nothing about requests is taken.
fn any_port(looks: &[Look]) -> impl Strategy<Value = &'static str> + use<> {
    let ports = if looks.contains(&Look::Port) {
        vec![""]
    } else {
        vec!["", " protocol=tcp", " protocol=tls"]
    };
    prop::sample::select(ports)
}

fn any_policy() -> impl Strategy<Value = Policy> {
    any_looks().prop_flat_map(|looks| {
        let matching = any_conditions(&looks, 3).prop_map(|conditions| match conditions.as_str() {
            "" => String::new(),
            _ => format!("match {{ {conditions} }}"),
        });
        let route = prop::collection::vec(matching, 1..=2);
        (
            prop::collection::vec(route, 1..5),
            any_rules(&looks),
            any_port(&looks),
            Just(looks),
        )
            .prop_map(|(routes, rules, port, looks)| Policy {
                looks,
                port,
                routes: routes
                    .iter()
                    .enumerate()
                    .map(|(index, matches)| format!("route r{index} {{ {} }}", matches.join("\n ")))
                    .collect(),
                rules,
            })
    })
}

fn linked(policy: &str) -> Result<(LinkedMesh, ServiceId), TestCaseError> {
    let sources = sources(policy);
    let analysed = load(&sources);
    let mesh = analysed
        .mesh
        .ok_or_else(|| TestCaseError::fail(draw(&sources, &analysed.diagnostics)))?;
    let id = mesh
        .service_named("a")
        .ok_or_else(|| TestCaseError::fail("no service"))?;
    Ok((mesh, id))
}

fn shown<'p>(witness: Option<&'p Point>, policy: &Policy) -> Result<&'p Point, TestCaseError> {
    witness.ok_or_else(|| TestCaseError::fail(format!("no witness\n{}", policy.text())))
}
