//! `cargo xtask generate-mesh`: a mesh of any size, for benchmarks and for trying things out. The same
//! arguments give the same bytes, on any machine.
//!
//! Services stand in four tiers, and each calls four of the next tier: three calls and three `allow` for
//! each service on average, no rounds, paths of four services. `meshc check` has nothing to say about it.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use clap::Args;
use mesh_tests::Failure;

const TIERS: usize = 4;
const CALLS: usize = 4;
const SERVICES_PER_TEAM: usize = 20;
/// Longest time of an exchange in each tier: half of it, which is one try, is longer than the next tier may need.
const TIMEOUTS_MS: [u32; TIERS] = [4400, 2000, 900, 400];

/// What to generate.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Shape {
    /// Number of services.
    #[arg(long, default_value_t = 100)]
    pub(crate) services: usize,
    /// Routes of each service.
    #[arg(long, default_value_t = 10)]
    pub(crate) routes: usize,
    /// Another seed gives other names, paths, weights and calls.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
}

/// Writes the mesh below a folder, which must not exist or be empty.
pub(crate) fn run(shape: Shape, out: &Path) -> Result<(), Failure> {
    if out.exists() && fs::read_dir(out)?.next().is_some() {
        return Err(Failure::new(format!("{} is not empty", out.display())));
    }
    for (path, text) in files(shape) {
        let path = out.join(path);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(path, text)?;
    }
    Ok(())
}

/// The files of the mesh: path and text.
pub(crate) fn files(shape: Shape) -> Vec<(String, String)> {
    let mesh = Mesh::new(shape);
    let mut files = vec![("mesh.kdl".to_owned(), root())];
    for service in 0..shape.services {
        let team = service / SERVICES_PER_TEAM;
        let path = format!("teams/team-{team:03}/{}.kdl", mesh.names[service]);
        files.push((path, mesh.service(service)));
    }
    files
}

fn root() -> String {
    "mesh generated {
    trust-domain \"generated.example\"
    defaults {
        timeout \"5s\" connect=\"100ms\"
        retry-budget \"20%\" of=requests min=\"5/s\"
    }
    refuse amplification=10 attempts=3
}
"
    .to_owned()
}

/// SplitMix64: small, and the same everywhere and for ever.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound).unwrap_or(u64::MAX).max(1);
        usize::try_from(self.next() % bound).unwrap_or_default()
    }

    fn pick<'w>(&mut self, words: &[&'w str]) -> &'w str {
        let index = self.below(words.len());
        words.get(index).copied().unwrap_or_default()
    }
}

const DOMAINS: [&str; 16] = [
    "orders",
    "payments",
    "catalogue",
    "stock",
    "prices",
    "reviews",
    "ratings",
    "search",
    "accounts",
    "shipping",
    "invoices",
    "messages",
    "media",
    "reports",
    "sessions",
    "vouchers",
];
const THINGS: [&str; 12] = [
    "items", "lists", "drafts", "events", "totals", "labels", "notes", "batches", "limits",
    "quotes", "members", "exports",
];

struct Mesh {
    shape: Shape,
    names: Vec<String>,
    /// For each service its callees, and for each its callers.
    calls: Vec<Vec<usize>>,
    callers: Vec<Vec<usize>>,
}

impl Mesh {
    fn new(shape: Shape) -> Self {
        let mut random = Random(shape.seed);
        let names = (0..shape.services)
            .map(|index| format!("{}-{index:05}", random.pick(&DOMAINS)))
            .collect();
        let begin = |tier: usize| tier * shape.services / TIERS;
        let mut calls = vec![Vec::new(); shape.services];
        let mut callers = vec![Vec::new(); shape.services];
        for tier in 0..TIERS - 1 {
            let (first, next, end) = (begin(tier), begin(tier + 1), begin(tier + 2));
            let width = end - next;
            // The same shifts for a whole tier spread the callers evenly.
            let mut shifts: Vec<usize> = Vec::new();
            while shifts.len() < CALLS.min(width) {
                let shift = random.below(width);
                if !shifts.contains(&shift) {
                    shifts.push(shift);
                }
            }
            for (position, own) in calls[first..next].iter_mut().enumerate() {
                for shift in &shifts {
                    let callee = next + (position + shift) % width;
                    own.push(callee);
                    callers[callee].push(first + position);
                }
            }
        }
        Self {
            shape,
            names,
            calls,
            callers,
        }
    }

    fn tier(&self, service: usize) -> usize {
        (0..TIERS)
            .rev()
            .find(|tier| tier * self.shape.services / TIERS <= service)
            .unwrap_or_default()
    }

    fn service(&self, index: usize) -> String {
        let mut random = Random(self.shape.seed ^ (index as u64 + 1).wrapping_mul(0xD6E8_FEB8));
        let name = &self.names[index];
        let path = name.split('-').next().unwrap_or_default();
        let timeout = TIMEOUTS_MS[self.tier(index)];
        let mut text = format!("// {name}, as its team describes it.\nservice {name} {{\n");
        text.push_str("    port 8080 protocol=http\n    endpoints {\n");
        for (version, last) in [(1, 1), (2, 2)] {
            let (high, low) = (index / 250, index % 250);
            lines(
                &mut text,
                format_args!("        static \"10.{last}.{high}.{low}:8080\" version=v{version}\n"),
            );
        }
        text.push_str(
            "    }\n    subset v1 { labels version=v1 }\n    subset v2 { labels version=v2 }\n",
        );
        for route in 0..self.shape.routes {
            self::route(&mut text, &mut random, path, route, timeout);
        }
        for caller in &self.callers[index] {
            let caller = &self.names[*caller];
            lines(
                &mut text,
                format_args!(
                    "\n    allow {caller} {{\n        method GET HEAD POST\n        path \"/{path}/**\"\n    }}\n"
                ),
            );
        }
        for callee in &self.calls[index] {
            let (callee, limit) = (&self.names[*callee], TIMEOUTS_MS[self.tier(*callee)]);
            lines(
                &mut text,
                format_args!(
                    "\n    calls {callee} per-request=1 mode=parallel {{\n        timeout \"{limit}ms\"\n    }}\n"
                ),
            );
        }
        let replicas = 2 + random.below(20);
        lines(
            &mut text,
            format_args!("    facts replicas={replicas} handling=\"5ms\"\n}}\n"),
        );
        text
    }
}

fn route(text: &mut String, random: &mut Random, path: &str, number: usize, timeout: u32) {
    let thing = random.pick(&THINGS);
    let share = 50 + random.below(50);
    let per_try = timeout / 2;
    let (last, name) = (number == 0, format!("{thing}-{number}"));
    lines(
        text,
        format_args!("\n    // {name}: a canary of {} percent.\n", 100 - share),
    );
    lines(text, format_args!("    route {name} {{\n"));
    // One route of each service takes what the others leave.
    if last {
        lines(
            text,
            format_args!("        match {{ path \"/{path}/**\"; method GET HEAD POST; }}\n"),
        );
    } else {
        lines(
            text,
            format_args!(
                "        match {{\n            method GET HEAD\n            path \"/{path}/v{number}/{thing}/{{id}}\" \"/{path}/v{number}/{thing}\"\n            header x-tenant prefix=\"t{}-\"\n        }}\n",
                random.below(9)
            ),
        );
    }
    lines(
        text,
        format_args!(
            "        to v1 weight={share}\n        to v2 weight={}\n        timeout \"{timeout}ms\"\n        retry connect-failure refused reset-before-request attempts=2 per-try=\"{per_try}ms\" {{ backoff \"25ms\" max=\"100ms\" }}\n    }}\n",
            100 - share
        ),
    );
}

fn lines(text: &mut String, lines: std::fmt::Arguments<'_>) {
    // Writing to a string never fails.
    text.write_fmt(lines).unwrap_or_default();
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape {
        services: 40,
        routes: 10,
        seed: 7,
    };

    #[test]
    fn the_same_arguments_give_the_same_bytes() {
        assert_eq!(files(SHAPE), files(SHAPE));
        assert_ne!(files(SHAPE), files(Shape { seed: 8, ..SHAPE }));
    }

    #[test]
    fn services_routes_calls_and_permissions_are_as_many_as_promised() {
        let files = files(SHAPE);
        let all: String = files.iter().map(|(_, text)| text.as_str()).collect();
        let count = |word: &str| all.matches(word).count();
        assert_eq!(files.len(), 1 + SHAPE.services);
        assert_eq!(count("    route "), SHAPE.services * SHAPE.routes);
        assert_eq!(count("    calls "), SHAPE.services * 3);
        assert_eq!(count("    allow "), SHAPE.services * 3);
        for (_, text) in files.iter().skip(1) {
            for route in text.split("    route ").skip(1) {
                let end = route.find("\n    }\n").unwrap();
                let route = route.get(..end).unwrap();
                assert!(route.contains("match") && route.contains("weight="));
                assert!(route.contains("timeout") && route.contains("retry"));
            }
        }
        let routes: usize = files
            .iter()
            .flat_map(|(_, text)| text.split("\n    // ").skip(1))
            .map(|route| route.find("\n    }\n").map_or(0, |end| end + 14))
            .sum();
        assert!(routes >= SHAPE.services * SHAPE.routes * 250, "{routes}");
    }
}
