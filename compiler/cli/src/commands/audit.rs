//! `meshc audit`: who can reach what, through which rule, since which commit, for whoever has to answer for it.

use std::collections::BTreeMap;
use std::path::Path;

use mesh_bundle::slice::{Effect, Enforcement, MtlsMode};
use mesh_compiler::LinkedMesh;
use mesh_compiler::analysis::audit::{self, Left, Who};
use mesh_compiler::analysis::entrance::Way;
use mesh_compiler::analysis::invariant;
use mesh_compiler::linked::{Kind, Service, Source};
use mesh_repo::{CommitId, Repository, Since};
use mesh_syntax::{FileId, SourceSet, Span};
use serde::Serialize;

use super::{Failure, folder};
use crate::args::{Audit, AuditFormat, Place};
use crate::compile::{Subject, compile};
use crate::exit_code::Exit;
use crate::load::load;
use crate::output;
use crate::render::{audit as render, human, json};

/// The report. Field names are a contract.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) mesh: String,
    pub(crate) environment: String,
    pub(crate) trust_domain: String,
    /// What is checked out; null outside of a repository.
    pub(crate) commit: Option<String>,
    /// Policy files that differ from the commit.
    pub(crate) uncommitted: Vec<String>,
    /// Why no commits are named, if none are.
    pub(crate) no_history: Option<String>,
    pub(crate) services: Vec<Audited>,
    pub(crate) invariants: Vec<Held>,
    pub(crate) suppressions: Vec<Suppressed>,
}

/// One service, gateway or external.
#[derive(Debug, Serialize)]
pub(crate) struct Audited {
    pub(crate) name: String,
    pub(crate) kind: &'static str,
    pub(crate) owner: Option<String>,
    pub(crate) identities: Vec<String>,
    /// Of each port: `strict`, `permissive` or `off`.
    pub(crate) encryption: BTreeMap<u16, &'static str>,
    pub(crate) grants: Vec<Granted>,
    pub(crate) denials: Vec<Rule>,
    pub(crate) requirements: Vec<Rule>,
    /// The shortest path of permitted calls from a gateway that admits clients without an identity.
    pub(crate) from_outside: Option<Vec<String>>,
}

/// Somebody who can reach it.
#[derive(Debug, Serialize)]
pub(crate) struct Granted {
    /// A service or gateway, an identity, `any` or `unauthenticated`, as policy writes it; `anybody` where no proxy stands.
    pub(crate) who: String,
    /// `whole`, `part`, `nothing` or `unknown`: what a `deny` or a required token leaves of it.
    pub(crate) effect: &'static str,
    #[serde(flatten)]
    pub(crate) rule: Rule,
}

/// What makes it so.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Rule {
    /// As it is written, on one line.
    #[serde(rename = "rule")]
    pub(crate) written: String,
    /// The level that holds it.
    pub(crate) level: &'static str,
    pub(crate) file: Option<String>,
    pub(crate) line: Option<u32>,
    /// The commit that last changed any line of it; null: it is not committed, or nobody can say.
    pub(crate) since: Option<SinceCommit>,
}

/// A commit.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct SinceCommit {
    pub(crate) commit: String,
    /// As in 2027-03-01.
    pub(crate) date: String,
    pub(crate) author: String,
}

/// One line of an invariant.
#[derive(Debug, Serialize)]
pub(crate) struct Held {
    pub(crate) invariant: String,
    /// Null: the sets of requests grew too large to say.
    pub(crate) holds: Option<bool>,
    #[serde(flatten)]
    pub(crate) rule: Rule,
}

/// A finding that somebody answers for.
#[derive(Debug, Serialize)]
pub(crate) struct Suppressed {
    pub(crate) code: String,
    pub(crate) reason: String,
    pub(crate) owner: String,
    pub(crate) until: String,
    #[serde(flatten)]
    pub(crate) rule: Rule,
}

pub(super) fn run(args: &Audit, place: &Place) -> Result<Exit, Failure> {
    let folder = folder(place, args.folder.as_deref());
    let loaded = load(&folder)?;
    let compiled = compile(Subject::new(&loaded, place));
    compiled.has_environment(place.environment())?;
    let Some(mesh) = compiled.mesh() else {
        match args.format {
            AuditFormat::Json => output::data(&json::check(&loaded.sources, &compiled)?)?,
            _ => output::note(human::check(&loaded.sources, &compiled).trim_end()),
        }
        return Ok(Exit::from_findings(false, &compiled.findings));
    };
    let history = History::of(&folder, &loaded.root_path);
    let report = Auditor {
        mesh,
        sources: &loaded.sources,
        history,
        blamed: BTreeMap::new(),
    }
    .report();
    let text = match args.format {
        AuditFormat::Human => render::human(&report),
        AuditFormat::Json => json::line(&report)?,
        AuditFormat::Markdown => render::markdown(&report),
    };
    output::data(&text)?;
    let holds = report
        .invariants
        .iter()
        .all(|held| held.holds == Some(true));
    Ok(Exit::from_clean(holds && compiled.checked.is_some()))
}

/// Where commits are looked up.
struct History {
    repository: Option<(Repository, CommitId)>,
    uncommitted: Vec<String>,
    /// Why there is none.
    trouble: Option<String>,
}

impl History {
    fn of(folder: &Path, root_path: &str) -> Self {
        let opened = Repository::discover(folder).map_err(|error| error.to_string());
        let found = opened.and_then(|repository| {
            let head = repository
                .resolve("HEAD")
                .map_err(|error| error.to_string())?;
            let head = head.ok_or_else(|| "the repository has no commit yet".to_owned())?;
            let uncommitted = repository
                .uncommitted(root_path)
                .map_err(|error| error.to_string())?;
            Ok((repository, head, uncommitted))
        });
        match found {
            Ok((repository, head, uncommitted)) => Self {
                repository: Some((repository, head)),
                uncommitted,
                trouble: None,
            },
            Err(trouble) => Self {
                repository: None,
                uncommitted: Vec::new(),
                trouble: Some(trouble),
            },
        }
    }
}

struct Auditor<'a> {
    mesh: &'a LinkedMesh,
    sources: &'a SourceSet,
    history: History,
    /// Of each file, its lines.
    blamed: BTreeMap<FileId, Vec<Option<Since>>>,
}

impl Auditor<'_> {
    fn report(mut self) -> Report {
        let mesh = self.mesh;
        let grants = audit::grants(mesh);
        let outside = audit::from_outside(mesh, &grants);
        let name = |id| mesh.service(id).name.value.clone();
        let mut services = Vec::new();
        for id in mesh.service_ids() {
            let service = mesh.service(id);
            let own = grants.iter().filter(|grant| grant.callee == id);
            let granted: Vec<Granted> = own
                .map(|grant| Granted {
                    who: self.who(&grant.who),
                    effect: effect(grant.left),
                    rule: self.way(service, grant.way),
                })
                .collect();
            services.push(Audited {
                name: service.name.value.clone(),
                kind: service.kind.word(),
                owner: mesh
                    .owner(service.span.file)
                    .map(|team| team.name.value.clone()),
                identities: service.identities.iter().map(ToString::to_string).collect(),
                encryption: encryption(service),
                grants: granted,
                denials: self.denials(service),
                requirements: self.requirements(service),
                from_outside: outside
                    .get(&id)
                    .map(|path| path.iter().copied().map(name).collect()),
            });
        }
        let invariants = self.invariants();
        let suppressions = self.suppressions();
        let head = self
            .history
            .repository
            .as_ref()
            .map(|(_, head)| head.to_string());
        Report {
            mesh: mesh.name.value.clone(),
            environment: mesh.environment.clone(),
            trust_domain: mesh.trust_domain.value.clone(),
            commit: head,
            uncommitted: self.history.uncommitted,
            no_history: self.history.trouble,
            services,
            invariants,
            suppressions,
        }
    }

    fn who(&self, who: &Who) -> String {
        match who {
            Who::Anybody => "anybody".to_owned(),
            Who::Unauthenticated => "unauthenticated".to_owned(),
            Who::Any => "any".to_owned(),
            Who::Prefix(prefix) => format!("{prefix}**"),
            Who::Identity(id) => id.clone(),
            Who::Service(id) => self.mesh.service(*id).name.value.clone(),
        }
    }

    fn way(&mut self, service: &Service, way: Way) -> Rule {
        let source = match way {
            Way::Rule(index) => service.access.get(index).map(|rule| rule.source),
            Way::Probe(index) => service.probes.get(index).map(|probe| probe.source),
            Way::Unguarded => service.reach.unmeshed.map(Source::Service),
        };
        let mut rule = self.rule(source.unwrap_or(Source::BuiltIn));
        if let Way::Rule(index) = way
            && let Some(access) = service.access.get(index)
        {
            if access.implied {
                rule.written = format!("{} (a health check needs it)", access.name);
            }
            if access.enforcement != Enforcement::Enforce {
                rule.written.push_str(" (audited only: it decides nothing)");
            }
        }
        rule
    }

    fn denials(&mut self, service: &Service) -> Vec<Rule> {
        let denies = service
            .access
            .iter()
            .filter(|rule| rule.effect == Effect::Deny);
        let denies: Vec<_> = denies.map(|rule| (rule.source, rule.enforcement)).collect();
        let mut rules = Vec::new();
        for (source, enforcement) in denies {
            let mut rule = self.rule(source);
            if enforcement != Enforcement::Enforce {
                rule.written.push_str(" (audited only: it decides nothing)");
            }
            rules.push(rule);
        }
        rules
    }

    fn requirements(&mut self, service: &Service) -> Vec<Rule> {
        let sources: Vec<_> = service.requirements.iter().map(|it| it.source).collect();
        sources
            .into_iter()
            .map(|source| self.rule(source))
            .collect()
    }

    fn invariants(&mut self) -> Vec<Held> {
        let mut held = Vec::new();
        for invariant in &self.mesh.invariants {
            for claim in &invariant.claims {
                let violation = invariant::violation(self.mesh, claim);
                held.push(Held {
                    invariant: invariant.text.value.clone(),
                    holds: violation.ok().map(|violation| violation.is_none()),
                    rule: self.place(claim.span, "invariant"),
                });
            }
        }
        held
    }

    fn suppressions(&mut self) -> Vec<Suppressed> {
        let mut suppressed = Vec::new();
        for suppression in &self.mesh.suppressions {
            suppressed.push(Suppressed {
                code: suppression.code.value.clone(),
                reason: suppression.reason.clone(),
                owner: suppression.owner.value.clone(),
                until: suppression.until.value.to_string(),
                rule: self.place(suppression.span, "suppress"),
            });
        }
        suppressed
    }

    fn rule(&mut self, source: Source) -> Rule {
        let level = match source {
            Source::BuiltIn => "built-in",
            Source::Defaults(_) => "defaults",
            Source::Policy(_) => "policy",
            Source::Service(_) => "service",
            Source::Subset(_) => "subset",
            Source::Route(_) => "route",
            Source::Calls(_) => "calls",
        };
        match source.span() {
            Some(span) => self.place(span, level),
            None => Rule {
                written: "built-in".to_owned(),
                level,
                file: None,
                line: None,
                since: None,
            },
        }
    }

    fn place(&mut self, span: Span, level: &'static str) -> Rule {
        let file = self.sources.text(span.file).unwrap_or_default();
        let text = file.get(span.range().start..).unwrap_or_default();
        let text = text
            .get(..node_end(text, span.range().len()))
            .unwrap_or_default();
        let written = on_one_line(text);
        let (line, _) = self.sources.line_column(span);
        let lines = u32::try_from(text.trim_end().lines().count())
            .unwrap_or(1)
            .max(1);
        Rule {
            written,
            level,
            file: Some(self.sources.path(span.file).to_owned()),
            line: Some(line),
            since: self.since(span.file, line, line + lines - 1),
        }
    }

    /// The newest commit among some lines; none if one of them is not committed.
    fn since(&mut self, file: FileId, first: u32, last: u32) -> Option<SinceCommit> {
        if !self.blamed.contains_key(&file) {
            let (repository, head) = self.history.repository.as_ref()?;
            let text = self.sources.text(file).unwrap_or_default();
            let lines = match repository.lines_since(*head, self.sources.path(file), text) {
                Ok(lines) => lines,
                Err(error) => {
                    self.history.trouble = Some(error.to_string());
                    Vec::new()
                }
            };
            self.blamed.insert(file, lines);
        }
        let lines = self.blamed.get(&file)?;
        let from = usize::try_from(first).ok()?.checked_sub(1)?;
        let to = usize::try_from(last).ok()?;
        let of_rule: Option<Vec<&Since>> =
            lines.get(from..to)?.iter().map(Option::as_ref).collect();
        let (repository, _) = self.history.repository.as_ref()?;
        // Several commits may say that they were made in the same second.
        let is_newer = |one: &Since, than: &Since| {
            one.time > than.time
                || (one.time == than.time
                    && repository
                        .is_ancestor(than.commit, one.commit)
                        .unwrap_or_default())
        };
        let newest = of_rule?
            .into_iter()
            .reduce(|newest, each| if is_newer(each, newest) { each } else { newest })?;
        Some(SinceCommit {
            commit: newest.commit.to_string(),
            date: mesh_compiler::date::Date::from_unix_seconds(newest.time).to_string(),
            author: newest.author.clone(),
        })
    }
}

/// A node as it would be written on one line.
fn on_one_line(text: &str) -> String {
    let mut line = String::new();
    for part in text.lines() {
        let part = part.split_whitespace().collect::<Vec<_>>().join(" ");
        if part.is_empty() {
            continue;
        }
        if !line.is_empty() {
            let goes_on = line.ends_with(['{', ';']) || part.starts_with('}');
            line.push_str(if goes_on { " " } else { "; " });
        }
        line.push_str(&part);
    }
    line
}

/// Where a node ends whose first `known` bytes are known: with its line, or with the block that it has.
fn node_end(text: &str, known: usize) -> usize {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for (at, char) in text.char_indices().filter(|(at, _)| *at >= known) {
        match char {
            _ if escaped => escaped = false,
            '\\' if in_string => escaped = true,
            '"' => in_string = !in_string,
            _ if in_string => {}
            '{' => depth += 1,
            '}' if depth == 0 => return at,
            '}' if depth == 1 => return at + 1,
            '}' => depth -= 1,
            '\n' | ';' if depth == 0 => return at,
            _ => {}
        }
    }
    text.len()
}

const fn effect(left: Left) -> &'static str {
    match left {
        Left::Whole => "whole",
        Left::Part => "part",
        Left::Nothing => "nothing",
        Left::Unknown => "unknown",
    }
}

fn encryption(service: &Service) -> BTreeMap<u16, &'static str> {
    if !matches!(service.kind, Kind::Service) {
        return BTreeMap::new();
    }
    let ports = service.ports.iter().map(|port| {
        let mode = match service.mtls_of(port) {
            _ if service.reach.unmeshed.is_some() => "off",
            None => "strict",
            Some(MtlsMode::Permissive) => "permissive",
            Some(MtlsMode::Off) => "off",
        };
        (port.number.value, mode)
    });
    ports.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_on_one_line_says_the_same() {
        let text = "allow web {\n    method GET\n    path \"/a\"\n}";
        assert_eq!(on_one_line(text), "allow web { method GET; path \"/a\" }");
    }

    #[test]
    fn a_node_ends_with_its_block_or_its_line() {
        let check = |text: &str, known: usize, node: &str| {
            assert_eq!(text.get(..node_end(text, known)), Some(node));
        };
        check(
            "allow web { path \"/}\" }\n}",
            9,
            "allow web { path \"/}\" }",
        );
        check(
            "allow a {\n  not { method GET }\n}\nallow b",
            7,
            "allow a {\n  not { method GET }\n}",
        );
        check("allow web; deny x", 9, "allow web");
        check("allow web mode=audit\n", 9, "allow web mode=audit");
        check("only web }", 8, "only web ");
    }
}
