//! Work that grows with the policies, and not faster, from reading through linking to the last check: counted in the
//! bytes that are allocated on the way, so that no clock and no busy machine decides. What reading alone looks at is
//! counted in `mesh-syntax`.
//!
//! One test in a program of its own: what others allocate beside it would count.

use std::alloc::System;
use std::fmt::Write as _;

use mesh_compiler::Input;
use mesh_compiler::date::Date;
use mesh_syntax::SourceSet;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const MESH: &str = "mesh m { trust-domain \"m.example\"; environment prod }\n";

/// How much is compared with how much.
const N: usize = 100;
const TIMES: usize = 4;

fn each(n: usize, line: impl Fn(usize) -> String) -> String {
    (0..n).map(line).collect()
}

/// A service with an endpoint, what it calls, whom it lets in, and more.
fn service(name: &str, more: &str) -> String {
    let number: Option<u32> = name
        .strip_prefix('s')
        .and_then(|number| number.parse().ok());
    let address = match number {
        Some(number) => std::net::Ipv4Addr::from_bits(0x0A01_0000 + number),
        None if name == "web" => std::net::Ipv4Addr::new(10, 0, 0, 1),
        None => std::net::Ipv4Addr::new(10, 0, 0, 2),
    };
    format!("service {name} {{ port 80; endpoints {{ static \"{address}:80\" }}; {more} }}\n")
}

/// One service, of which everything else is said.
fn one(more: &str) -> String {
    service("web", "calls a") + &service("a", more)
}

/// Bytes allocated for checking files by path.
fn work(files: &[(&str, String)]) -> usize {
    let region = Region::new(ALLOCATOR);
    let mut sources = SourceSet::new();
    sources.add("mesh.kdl", MESH.as_bytes().to_vec());
    for (path, text) in files {
        sources.add(*path, text.clone().into_bytes());
    }
    let mut analysed = mesh_compiler::load(Input {
        sources: &sources,
        environment: "prod",
        root_path: "",
    });
    assert!(
        analysed.mesh.is_some(),
        "{:?}",
        analysed.diagnostics.first()
    );
    let today = Date::parse("2026-01-01").expect("there is such a day");
    let judgement = mesh_lint::judge(&mut analysed, None, today);
    drop((judgement, analysed));
    region.change().bytes_allocated
}

type Shape = (&'static str, fn(usize) -> Vec<(&'static str, String)>);

fn policies(text: String) -> Vec<(&'static str, String)> {
    vec![("a.kdl", text)]
}

const SHAPES: &[Shape] = &[
    ("services that nobody calls", |n| {
        policies(each(n, |i| service(&format!("s{i}"), "")))
    }),
    ("a chain of calls that are all tried again", |n| {
        policies(each(n, |i| {
            let more = format!(
                "calls s{}; retry \"5xx\" attempts=2; retry-budget \"20%\"; timeout \"5s\"; allow {}",
                (i + 1).min(n - 1),
                if i == 0 {
                    "s0".to_owned()
                } else {
                    format!("s{}", i - 1)
                }
            );
            service(
                &format!("s{i}"),
                if i == n - 1 { "allow any" } else { &more },
            )
        }))
    }),
    ("a round of calls that are all tried again", |n| {
        policies(each(n, |i| {
            let more = format!(
                "calls s{}; retry \"5xx\" attempts=2; timeout \"5s\"; allow any",
                (i + 1) % n
            );
            service(&format!("s{i}"), &more)
        }))
    }),
    ("everybody calls everybody", |n| {
        // As many calls as the others have services.
        let side = (1..=n)
            .take_while(|side| side * side <= n)
            .last()
            .unwrap_or(1);
        policies(each(side, |i| {
            let calls = each(side, |other| {
                if other == i {
                    String::new()
                } else {
                    format!("calls s{other}; ")
                }
            });
            service(
                &format!("s{i}"),
                &format!("{calls} retry \"5xx\" attempts=2; timeout \"5s\"; allow any"),
            )
        }))
    }),
    ("many callers of one", |n| {
        let callers = each(n, |i| {
            service(&format!("s{i}"), "calls a; retry \"5xx\" attempts=2")
        });
        let allows = each(n, |i| format!("allow s{i}; "));
        policies(callers + &service("a", &allows))
    }),
    ("many callees of one", |n| {
        let callees = each(n, |i| {
            service(&format!("s{i}"), "allow a; retry \"5xx\" attempts=2")
        });
        let calls = each(n, |i| format!("calls s{i}; "));
        policies(callees + &service("a", &calls))
    }),
    ("routes that are apart", |n| {
        let routes = each(n, |i| {
            format!("route r{i} {{ match {{ path \"/{i}/**\" }}; timeout \"2s\"; to }}\n")
        });
        policies(one(&format!("allow web\n{routes}")))
    }),
    ("matches that are apart", |n| {
        let matches = each(n, |i| format!("match {{ path \"/{i}/**\" }}\n"));
        policies(one(&format!("allow web\nroute r {{ {matches} }}\n")))
    }),
    ("paths of one match", |n| {
        let paths = each(n, |i| format!(" \"/{i}/**\""));
        policies(one(&format!(
            "allow web\nroute r {{ match {{ path{paths} }} }}\n"
        )))
    }),
    ("rules that are apart", |n| {
        let rules = each(n, |i| {
            format!("allow web {{ path \"/{i}/**\"; method GET }}\n")
        });
        policies(one(&rules))
    }),
    ("groups within groups", |n| {
        let rules = each(n, |i| {
            let deep = 4;
            format!(
                "allow web {{ {}path \"/{i}\"{} }}\n",
                "not { ".repeat(deep),
                " }".repeat(deep)
            )
        });
        policies(one(&rules))
    }),
    ("services that an environment changes", |n| {
        let overrides = each(n, |i| {
            format!("override service s{i} {{ timeout \"{}ms\" }}\n", i + 1)
        });
        vec![
            (
                "a.kdl",
                each(n, |i| service(&format!("s{i}"), "timeout \"9s\"")),
            ),
            ("environments/prod/a.kdl", overrides),
        ]
    }),
    ("tests of one route each", |n| {
        let routes = each(n, |i| {
            format!("route r{i} {{ match {{ path \"/{i}\" }} }}\n")
        });
        let tests = each(n, |i| {
            format!(
                "test \"t{i}\" {{ request GET \"/{i}\" from=web to=a; expect allowed route=r{i} }}\n"
            )
        });
        vec![
            ("a.kdl", one(&format!("allow web\n{routes}"))),
            ("a.test.kdl", tests),
        ]
    }),
    ("routes of a gateway", |n| {
        let routes = each(n, |i| {
            format!("route r{i} {{ match {{ path \"/{i}/**\" }}; to s{i} }}\n")
        });
        let services = each(n, |i| service(&format!("s{i}"), "allow g { method GET }"));
        policies(format!(
            "gateway g {{ listen 8080; allow unauthenticated {{ method GET }}\n{routes} }}\n{services}"
        ))
    }),
    ("findings without end", |n| {
        policies(each(n, |i| {
            service(
                &format!("s{i}"),
                "calls s0; timeout \"1s\"; retry \"5xx\" attempts=3 per-try=\"2s\"",
            )
        }))
    }),
];

/// FIXME: shapes whose parts are still compared, or said, each with each: services of one round, of which the calls from
/// each entry to each service are counted; matches of one route, up to the effort that MSH0221 tells; and tests, each of
/// which is asked for each route. They leave this list when the work of their shape grows as that of the others.
const SQUARES: &[&str] = &[
    "a round of calls that are all tried again",
    "matches that are apart",
    "tests of one route each",
];

#[test]
fn hostile_shapes_are_checked_in_linear_work() {
    // Four times the policies, and somewhat more for what is sorted and looked up.
    let (linear, square) = (22, 4 * TIMES * TIMES + 4);
    let mut wrong = String::new();
    for (name, shape) in SHAPES {
        // What is made once in a program is not the shape's.
        work(&shape(2));
        let (once, more) = (work(&shape(N)), work(&shape(TIMES * N)));
        let most = if SQUARES.contains(name) {
            square
        } else {
            linear
        };
        if more * 4 > once * most {
            let _written = writeln!(
                wrong,
                "{name}: {once} bytes, and {more} for {TIMES} times the policies"
            );
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}
