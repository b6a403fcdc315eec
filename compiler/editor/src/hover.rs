//! What people are told about what they point at: a word's declaration, a definition with what is written above it,
//! the values that hold and who set them, the page of a code.

use mesh_compiler::keyword::{Keyword, Property};
use mesh_compiler::linked::{LinkedMesh, Service};
use mesh_syntax::{FileId, SourceSet, Span};

use crate::completion::signature;
use crate::cursor::{Part, part};
use crate::effective;
use crate::name::{self, Id, Kind, Mention};
use crate::navigate::{in_library, library_text};
use crate::policies::Policies;
use crate::walk::{Step, path_to};

/// Most lines of a definition that are shown.
const LINES_MAX: usize = 16;
/// Most names of a list that are shown.
const NAMES_MAX: usize = 12;

/// The last mesh that could be linked, and the files that it was linked from.
#[derive(Clone, Copy, Debug)]
pub struct Compiled<'c> {
    /// The mesh.
    pub mesh: &'c LinkedMesh,
    /// Its files, which may be older than those in the editor.
    pub sources: &'c SourceSet,
}

/// What people are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hover {
    /// The text.
    pub markdown: String,
    /// What it is about.
    pub span: Span,
}

/// What is to be said of an offset.
pub fn hover(
    policies: &Policies,
    compiled: Option<Compiled<'_>>,
    file: FileId,
    offset: usize,
) -> Option<Hover> {
    let chain = path_to(policies.tree(file)?, policies.top(file), offset);
    let step = chain.last()?;
    let keyword = step.keyword?;
    let (part, span) = part(step.node, offset)?;
    let mention = policies.mention_at(file, offset);
    let markdown = match (part, mention) {
        (_, Some(mention)) => of_name(policies, compiled, mention, &chain),
        (Part::Word, None) => of_word(compiled, keyword, &chain),
        (Part::Arg(index), None) => {
            let arg = keyword.args.at(index)?;
            format!(
                "`{}`: {}\n\n{}",
                arg.name, arg.kind.expected, keyword.summary
            )
        }
        (Part::PropName(name) | Part::PropValue(name), None) => {
            let mut props = keyword.props.iter();
            let text = of_property(props.find(|prop| prop.name == name)?);
            with_values(text, compiled, keyword, &chain)
        }
    };
    Some(Hover { markdown, span })
}

fn of_property(prop: &Property) -> String {
    let required = if prop.required { " (required)" } else { "" };
    format!(
        "**`{}=`**{required}: {}\n\n{}",
        prop.name, prop.kind.expected, prop.summary
    )
}

fn of_word(
    compiled: Option<Compiled<'_>>,
    keyword: &'static Keyword,
    chain: &[Step<'_>],
) -> String {
    let mut text = format!("```kdl\n{}\n```\n{}\n", signature(keyword), keyword.summary);
    if !keyword.props.is_empty() {
        text.push('\n');
        for prop in keyword.props {
            text.extend([format!(
                "- `{}=` {}: {}\n",
                prop.name, prop.kind.expected, prop.summary
            )]);
        }
    }
    with_values(text, compiled, keyword, chain)
}

/// A text, and below it what holds where a setting stands.
fn with_values(
    mut text: String,
    compiled: Option<Compiled<'_>>,
    keyword: &Keyword,
    chain: &[Step<'_>],
) -> String {
    let values = compiled.and_then(|compiled| in_effect(compiled, keyword.name, chain));
    if let Some(values) = values.filter(|values| !values.is_empty()) {
        text.truncate(text.trim_end().len());
        text.extend([format!("\n\n---\n\n{values}")]);
    }
    text
}

/// What holds of the fields that a word sets, where it stands.
fn in_effect(compiled: Compiled<'_>, word: &str, chain: &[Step<'_>]) -> Option<String> {
    let owner = service_named(compiled, &name::owner(outer(chain)?)?)?;
    if effective::is_of_pool(word) {
        return Some(effective::pool(compiled, owner, Some(word)));
    }
    let only = match word {
        "calls" => None,
        word => Some(effective::fields_of(word)?),
    };
    let arg_of = |word: &str| {
        let mut steps = chain.iter();
        let step = steps.find(|step| step.node.name.text == word)?;
        step.node.first_arg()?.value.as_str()
    };
    if let Some(callee) = arg_of("calls") {
        let callee = compiled.mesh.service_named(callee)?;
        return Some(effective::of_calls(compiled, owner.id, callee, only));
    }
    if let Some(route) = arg_of("route") {
        let mut routes = owner.routes.iter();
        let route = routes.find(|found| found.name.value == route)?;
        return Some(effective::table(compiled, &route.exchange, only));
    }
    Some(effective::of_routes(compiled, owner, only))
}

/// The definition that something stands in.
fn outer<'s, 'n>(chain: &'s [Step<'n>]) -> Option<&'s [Step<'n>]> {
    chain.get(..1)
}

fn service_named<'c>(compiled: Compiled<'c>, name: &str) -> Option<&'c Service> {
    let id = compiled.mesh.service_named(name)?;
    Some(compiled.mesh.service(id))
}

fn of_name(
    policies: &Policies,
    compiled: Option<Compiled<'_>>,
    mention: &Mention,
    chain: &[Step<'_>],
) -> String {
    let id = &mention.id;
    if id.kind == Kind::Code {
        return page(&id.name).unwrap_or_else(|| format!("there is no code `{}`", id.name));
    }
    if let Some(text) = in_library(id).and_then(library_text) {
        return format!("policy of the standard library\n\n```kdl\n{text}```\n");
    }
    let mut text = match id.owner.as_str() {
        "" => format!("**{} `{}`**\n", id.kind.word(), id.name),
        owner => format!("**{} `{}`** of `{owner}`\n", id.kind.word(), id.name),
    };
    for defined in policies.definitions(id) {
        text.push_str(&definition(policies, defined));
    }
    if let Some(compiled) = compiled {
        let facts = linked(compiled, id, mention, chain).unwrap_or_default();
        if !facts.is_empty() {
            text.extend([format!("\n---\n\n{facts}")]);
        }
    }
    text
}

/// Where something is defined, with the comment above it and its first lines.
fn definition(policies: &Policies, defined: &Mention) -> String {
    let sources = policies.sources();
    let (line, _) = sources.line_column(defined.node);
    let path = sources.path(defined.node.file);
    let source = sources.text(defined.node.file).unwrap_or_default();
    let before = source.get(..defined.node.range().start).unwrap_or_default();
    let mut comment: Vec<&str> = Vec::new();
    // The definition's own line comes first, with nothing but its indentation.
    for line in before
        .lines()
        .rev()
        .skip(usize::from(!before.ends_with('\n')))
    {
        match line.trim().strip_prefix("//") {
            Some(text) => comment.push(text.trim()),
            None => break,
        }
    }
    comment.reverse();
    let indent = before.len() - before.trim_end_matches([' ', '\t']).len();
    let code = sources.slice(defined.node).unwrap_or_default();
    let mut lines: Vec<&str> = code
        .lines()
        .map(|line| {
            let blank = line.len() - line.trim_start().len();
            line.get(blank.min(indent)..).unwrap_or(line)
        })
        .collect();
    if lines.len() > LINES_MAX {
        lines.truncate(LINES_MAX - 1);
        lines.push("    …");
    }
    let comment = match comment.join("\n") {
        comment if comment.is_empty() => comment,
        comment => format!("{comment}\n\n"),
    };
    format!(
        "{path}:{line}\n\n{comment}```kdl\n{}\n```\n",
        lines.join("\n")
    )
}

/// What only the linked mesh knows of something.
fn linked(
    compiled: Compiled<'_>,
    id: &Id,
    mention: &Mention,
    chain: &[Step<'_>],
) -> Option<String> {
    let mesh = compiled.mesh;
    match id.kind {
        Kind::Route => {
            let service = service_named(compiled, &id.owner)?;
            let mut routes = service.routes.iter();
            let route = routes.find(|route| route.name.value == id.name)?;
            Some(effective::table(compiled, &route.exchange, None))
        }
        Kind::Service if mention.word == "calls" => {
            let caller = mesh.service_named(&name::owner(outer(chain)?)?)?;
            let callee = mesh.service_named(&id.name)?;
            Some(effective::of_calls(compiled, caller, callee, None))
        }
        Kind::Service => Some(of_service(compiled, service_named(compiled, &id.name)?)),
        _ => None,
    }
}

fn of_service(compiled: Compiled<'_>, service: &Service) -> String {
    let mesh = compiled.mesh;
    let ports: Vec<String> = service
        .ports
        .iter()
        .map(|port| port.number.value.to_string())
        .collect();
    let mut text = format!(
        "{} · hosts {} · port {}\n\n",
        service.kind.word(),
        names(service.hosts.iter().map(String::as_str)),
        ports.join(", ")
    );
    let name_of = |id| mesh.service(id).name.value.as_str();
    let permitted = mesh.edges.entering(service.id);
    let callers = permitted.filter(|edge| !edge.permitted.is_empty());
    let callers = names(callers.map(|edge| name_of(edge.caller)));
    let calls = mesh.edges_of(service.id).filter(|edge| edge.is_used());
    let calls = names(calls.map(|edge| name_of(edge.callee)));
    text.extend([format!("may be called by: {callers}\n\ncalls: {calls}\n\n")]);
    text.push_str(&effective::of_routes(compiled, service, None));
    let pool = effective::pool(compiled, service, None);
    if !pool.is_empty() {
        text.extend([format!("\n{pool}")]);
    }
    text
}

fn names<'n>(names: impl Iterator<Item = &'n str>) -> String {
    let mut all: Vec<String> = names.map(|name| format!("`{name}`")).collect();
    let over = all.len().saturating_sub(NAMES_MAX);
    if all.is_empty() {
        return "nobody".to_owned();
    }
    if over > 0 {
        all.truncate(NAMES_MAX);
        all.push(format!("{over} more"));
    }
    all.join(", ")
}

/// What the page of a code says before its examples: what is wrong, and why it matters.
pub fn reason(code: &str) -> Option<String> {
    let page = page(code)?;
    let (reason, _) = page.split_once("\n## Example").unwrap_or((&page, ""));
    Some(reason.trim_end().to_owned())
}

/// The page of a code, as Markdown.
pub(crate) fn page(code: &str) -> Option<String> {
    Some(mesh_lint::page(code)?.text())
}

#[cfg(test)]
mod tests {
    use crate::tester::{Case, MESH};

    fn hover(text: &str) -> String {
        Case::one(text).hover()
    }

    const REVIEWS: &str = "// What readers say.
//
// Two versions.
service reviews {
    port 80
    endpoints { static \"10.0.0.1:80\" v=a }
    subset v1 { labels v=a }
    retry reset attempts=2
    route slow { match { path \"/slow\" }; timeout \"9s\" }
    route rest { to v1 }
    limits connections=5
    allow page
}
service page {
    port 80
    endpoints { static \"10.0.0.2:80\" }
    calls reviews { timeout \"3s\" }
}
";

    /// [`REVIEWS`] with a cursor in a part of it.
    fn at(part: &str) -> String {
        let text = REVIEWS.replacen(&part.replace('¦', ""), part, 1);
        hover(&text)
    }

    #[test]
    fn a_word_is_explained_by_its_declaration() {
        insta::assert_snapshot!(hover("ser¦vice a"));
        insta::assert_snapshot!(hover("service a { retry reset att¦empts=2 }"));
    }

    #[test]
    fn a_name_shows_its_definition_and_what_is_linked() {
        insta::assert_snapshot!(at("calls rev¦iews"));
        insta::assert_snapshot!(at("allow pa¦ge"));
        insta::assert_snapshot!(at("route sl¦ow"));
        insta::assert_snapshot!(at("to v¦1"));
    }

    #[test]
    fn a_setting_shows_what_holds_and_who_says_so() {
        insta::assert_snapshot!(at("retr¦y reset"));
        insta::assert_snapshot!(at("{ time¦out \"3s\""));
        insta::assert_snapshot!(at("lim¦its connections=5"));
    }

    #[test]
    fn a_code_shows_its_page_and_the_library_its_text() {
        assert!(hover("suppress MSH0¦403").starts_with("# MSH0403: "));
        assert!(hover("suppress MSH9¦999").contains("no code"));
        let reason = super::reason("MSH0403").unwrap();
        assert!(reason.starts_with("# MSH0403: ") && reason.contains("## Why it matters"));
        assert!(!reason.contains("```"), "{reason}");
        assert!(hover("service a { use std.re¦tries }").contains("policy retries {"));
    }

    #[test]
    fn a_broken_file_still_answers() {
        let case = Case::new(&[
            ("mesh.kdl", MESH),
            ("a.kdl", "service a {\n time¦out 5s\n\n"),
        ]);
        assert!(case.hover().contains("timeout"), "{}", case.hover());
    }
}
