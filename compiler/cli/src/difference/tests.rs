//! What changes is named: one setting after the other, and whatever somebody edits.

use std::fs;
use std::path::Path;

use mesh_compiler::analysis::call_graph::CallGraph;
use mesh_compiler::analysis::retry::{Question, Report};
use mesh_compiler::diff::Change;
use mesh_compiler::{DEFAULT_ENVIRONMENT, Input, LinkedMesh};
use mesh_syntax::SourceSet;

use super::Difference;
use super::collect::{Meshes, difference};

type Files = Vec<(String, String)>;

const KEY: &str = r#"{"keys":[{"kty":"EC","crv":"P-256","kid":"one","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}"#;

const MESH: &str = r#"mesh m {
    trust-domain "m.example"
    refuse amplification=8 attempts=4
    team shop { owns "mesh.kdl"; owns "other.kdl" }
    rollout "10%" "100%"
}
jwt users { issuer "https://issuer.example"; audience "shop"; jwks file="keys.jwks.json" }
authorizer az { to a; on-failure deny }
gateway edge {
    listen 8443 { host "shop.example"; tls certificate=shop client=required trust=partners min="1.2" }
    route shop { match { path "/**" }; to web }
}
external pay {
    host "pay.example"
    port 443 protocol=http { tls sni="pay.example" trust=public }
    endpoints { static "192.0.2.7:443" }
}
service web {
    port 80; endpoints { static "10.0.0.1:80" }
    calls a per-request=2
    facts replicas=3 capacity="100/s"
    callers-may-extend timeout
    rate-limit "10/s" burst=20 { per client-ip }
    require authorizer az { path "/admin/**" }
    allow edge
}
service a {
    port 80; endpoints { static "10.0.0.2:80"; static "10.0.0.3:80" }
    balance ring-hash { per header user }
    allow web
}
invariant "only web asks" { reaches a { only web } }
"#;

fn linked(files: &Files) -> (Option<LinkedMesh>, SourceSet, String) {
    let mut sources = SourceSet::new();
    for (path, text) in files {
        sources.add(path, text.clone().into_bytes());
    }
    let analysed = mesh_compiler::load(Input {
        sources: &sources,
        environment: DEFAULT_ENVIRONMENT,
        root_path: "",
    });
    let wrong = format!("{:?}", analysed.diagnostics);
    (analysed.mesh, sources, wrong)
}

fn compared(before: &Files, after: &Files) -> Result<Difference, String> {
    let (base, old, wrong) = linked(before);
    let base = base.ok_or(wrong)?;
    let (head, new, wrong) = linked(after);
    let head = head.ok_or(wrong)?;
    Ok(difference(&Meshes {
        change: Change::new(&base, &head),
        old: &old,
        new: &new,
    }))
}

fn files(mesh: &str, keys: &str) -> Files {
    vec![
        ("mesh.kdl".to_owned(), mesh.to_owned()),
        ("keys.jwks.json".to_owned(), keys.to_owned()),
    ]
}

/// What one replaced text is told as: `guard` or `setting`, its name, and whether it may let more in.
#[track_caller]
fn check(old: &str, new: &str, expected: &[(&str, &str, bool)]) {
    assert!(MESH.contains(old) || KEY.contains(old), "{old}");
    let after = files(&MESH.replace(old, new), &KEY.replace(old, new));
    let found = compared(&files(MESH, KEY), &after).unwrap();
    let guards = found.guards.iter().map(|each| ("guard", each));
    let settings = found.settings.iter().map(|each| ("setting", each));
    let told: Vec<(&str, &str, bool)> = guards
        .chain(settings)
        .map(|(kind, each)| (kind, each.name.as_str(), each.may_widen))
        .collect();
    assert_eq!(told, expected, "{old} ⇒ {new}");
    assert!(!found.is_nothing());
}

#[test]
fn what_decides_about_entering_is_named() {
    check(
        r#""one""#,
        r#""two""#,
        &[("setting", "jwt users jwks", true)],
    );
    check(
        r#"audience "shop""#,
        r#"audience "all""#,
        &[("setting", "jwt users audience", true)],
    );
    check(
        "client=required",
        "client=optional",
        &[("setting", "listen", true)],
    );
    check(
        "trust=partners",
        "trust=anybody",
        &[("setting", "listen", true)],
    );
    check(
        r#"min="1.2""#,
        r#"min="1.3""#,
        &[("setting", "listen", false)],
    );
    check("trust=public", "trust=other", &[("setting", "dial", true)]);
    check(
        r#"sni="pay.example""#,
        r#"sni="x.example""#,
        &[("setting", "dial", true)],
    );
    check("/admin/**", "/admin/x", &[("setting", "require", true)]);
    check(
        "on-failure deny",
        "on-failure allow",
        &[("setting", "authorizer", true)],
    );
}

#[test]
fn what_guards_is_named() {
    check(
        "{ only web }",
        "{ only web edge }",
        &[("guard", "invariant", true)],
    );
    check(
        "amplification=8",
        "amplification=20",
        &[("guard", "refuse amplification", true)],
    );
    check(
        "amplification=8",
        "amplification=7",
        &[("guard", "refuse amplification", false)],
    );
    check(
        "capacity=\"100/s\"",
        "capacity=\"200/s\"",
        &[("guard", "facts capacity", false)],
    );
    check(
        "callers-may-extend timeout",
        "callers-may-extend attempts",
        &[("guard", "callers-may-extend", true)],
    );
    check("; owns \"other.kdl\"", "", &[("guard", "team", true)]);
    check(
        "invariant",
        "suppress MSH0601 reason=\"known\" owner=shop until=\"2030-01-01\"\ninvariant",
        &[("guard", "suppress", true)],
    );
}

#[test]
fn limits_balance_and_calls_are_named() {
    check("burst=20", "burst=30", &[("setting", "rate-limit", false)]);
    check(
        "per client-ip",
        "per caller",
        &[("setting", "rate-limit", false)],
    );
    check(
        "per header user",
        "per header name",
        &[("setting", "balance_keys", false)],
    );
    check(
        "per-request=2",
        "per-request=3",
        &[("setting", "calls", false)],
    );
    check("\"10%\"", "\"20%\"", &[("setting", "rollout", false)]);
}

#[test]
fn what_is_only_written_otherwise_is_nothing() {
    for (old, new) in [
        ("audience \"shop\"; jwks", "audience \"shop\"\n jwks"),
        ("{ to a; on-failure deny }", "{ on-failure deny; to a }"),
        ("rollout \"10%\"", "rollout    \"10%\""),
    ] {
        let after = files(&MESH.replace(old, new), KEY);
        let found = compared(&files(MESH, KEY), &after).unwrap();
        assert!(found.is_nothing(), "{found:?}");
    }
}

#[test]
fn what_has_no_other_name_is_named_by_its_field() {
    // The same callers by other rules: nobody gains or loses, and proxies are told something else.
    check(
        "    allow edge\n",
        "    allow edge\n    allow edge { method GET }\n",
        &[("setting", "slice field access.services.rules", false)],
    );
}

/// The bookshop, as its files are.
fn bookshop() -> Files {
    fn walk(root: &Path, folder: &Path, files: &mut Files) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(root, &path, files);
            } else if let Ok(text) = fs::read_to_string(&path) {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap();
                files.push((name.to_owned(), text));
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../policies/examples/bookshop");
    let mut files = Files::new();
    walk(&root, &root, &mut files);
    files.sort();
    files
}

/// Other texts of a line: without it, and with each of its numbers one higher.
fn edits(line: &str) -> Vec<String> {
    let mut parts: Vec<String> = Vec::new();
    for char in line.chars() {
        let digit = |part: &String| part.ends_with(|last: char| last.is_ascii_digit());
        match parts.last_mut() {
            Some(part) if digit(part) == char.is_ascii_digit() => part.push(char),
            _ => parts.push(char.to_string()),
        }
    }
    let mut edits = vec![String::new()];
    for (index, part) in parts.iter().enumerate() {
        if let Ok(number) = part.parse::<u32>() {
            let mut edited = parts.clone();
            edited[index] = (number + 1).to_string();
            edits.push(edited.concat());
        }
    }
    edits
}

#[test]
fn whatever_is_edited_no_slice_changes_without_a_word() {
    let before = bookshop();
    let (mut compiled, mut changed) = (0, 0);
    for file in 0..before.len() {
        let (path, text) = &before[file];
        if path.ends_with(".test.kdl") {
            continue;
        }
        let lines: Vec<&str> = text.lines().collect();
        for (at, line) in lines.iter().enumerate() {
            for edit in edits(line) {
                let mut edited = lines.clone();
                edited[at] = &edit;
                let mut after = before.clone();
                after[file].1 = edited.join("\n");
                let Ok(found) = compared(&before, &after) else {
                    continue;
                };
                compiled += 1;
                changed += usize::from(!found.slices.is_empty());
                let rest = Difference {
                    slices: Vec::new(),
                    ..found.clone()
                };
                assert!(
                    found.slices.is_empty() || !rest.is_nothing(),
                    "{path}:{} `{line}` ⇒ `{edit}`",
                    at + 1
                );
            }
        }
    }
    assert!(compiled > 50 && changed > 20, "{compiled} {changed}");
}

#[test]
fn calls_without_paths_are_those_of_a_report() {
    for files in [bookshop(), files(MESH, KEY)] {
        let (mesh, _, wrong) = linked(&files);
        let graph = CallGraph::of(&mesh.expect(&wrong));
        let report = Report::of(&graph, Question::default());
        let of_report = report.services.iter().map(|service| {
            let fast = service.worst.as_ref()?.calls;
            Some(fast.max(service.slow.unwrap_or(0.0)))
        });
        let of_report: Vec<Option<f64>> = of_report.collect();
        assert_eq!(Report::worst_calls(&graph), of_report);
    }
}
