//! From policy files to slices, without touching a file: decode, link, check, emit.
//!
//! ```text
//! SourceSet ─▶ load ─▶ Analysed (LinkedMesh + findings) ─▶ check ─▶ CheckedMesh ─▶ emit ─▶ Emitted
//! ```
//!
//! Each stage has its own type, and only a [`CheckedMesh`] can be emitted. Pure: no files, no sockets,
//! no clock, no randomness. It does not sign, and does not know git.
#![warn(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod analysis;
mod check;
pub mod code;
pub mod date;
pub mod diff;
mod emit;
pub mod glob;
pub mod keyword;
pub mod level;
pub mod library;
pub mod limits;
mod link;
pub mod linked;
pub mod model;
mod overlay;
pub mod ownership;
pub mod progress;
mod secrets;
mod suggest;
#[cfg(any(test, feature = "test-util"))]
pub mod test_util;
pub mod trial;
mod unchanged;
pub mod value;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use mesh_syntax::{Diagnostic, FileId, Level, Parsed, SourceSet, Span, Tree};

pub use check::{CheckedMesh, Refused, Slices, check, check_again};
pub use emit::Emitted;
pub use link::no_environment;
pub use linked::LinkedMesh;
use progress::{Observer, Stage};
pub use trial::{Trial, sample_request};
pub use unchanged::Unchanged;

/// Number of the byte format of slices: raised whenever the same policy yields other bytes.
pub const EMIT: u32 = 1;

/// Release of the compiler, as generations name it.
pub const RELEASE: &str = env!("CARGO_PKG_VERSION");

/// Name of the environment where none is asked for.
pub const DEFAULT_ENVIRONMENT: &str = "default";

/// What is compiled.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// The policy files of one root.
    pub sources: &'a SourceSet,
    /// Which environment.
    pub environment: &'a str,
    /// Folder of the root in the repository, without a slash at its end; empty for the top.
    pub root_path: &'a str,
}

/// A mesh as far as it could be understood, and what is wrong with it.
#[derive(Clone, Debug)]
pub struct Analysed {
    /// The mesh; absent where an error of reading or linking would make every later finding a
    /// consequence.
    pub mesh: Option<LinkedMesh>,
    /// Findings of reading, decoding and linking, in the order of outputs.
    pub diagnostics: Vec<Diagnostic>,
    /// Files read.
    pub files: usize,
    /// Declared environments, ascending; `default` is always there and not among them.
    pub environments: Vec<String>,
}

/// Reads, decodes and links the files of one root.
pub fn load(input: Input<'_>) -> Analysed {
    load_observed(input, &mut ())
}

/// [`load`] for somebody who watches.
pub fn load_observed(input: Input<'_>, observer: &mut dyn Observer) -> Analysed {
    observer.begin(Stage::Parse);
    let parsed = mesh_syntax::parse_again(input.sources, None);
    let trees = Cow::Owned(parsed.trees);
    understand(input, trees, parsed.diagnostics, None, observer)
}

/// What is remembered of the sources that were loaded last, whatever the environment.
#[derive(Debug, Default)]
pub struct Earlier {
    parsed: Option<(SourceSet, Parsed)>,
    known: Known,
    is_once: bool,
}

/// What is known of each file of some sources, by its position.
#[derive(Debug, Default)]
struct Known {
    decoded: keyword::Known,
    secrets: secrets::Known,
    /// By environment.
    linked: BTreeMap<String, link::Before>,
}

impl Earlier {
    /// For files that are loaded once, but perhaps for several environments: what takes much memory is kept only where
    /// there are any, and nothing but trees.
    pub fn once() -> Self {
        Self {
            is_once: true,
            ..Self::default()
        }
    }
}

/// [`load`] for somebody who loads the same files again and again: those that are as they were are neither parsed nor
/// decoded again.
pub fn load_again(
    input: Input<'_>,
    earlier: &mut Earlier,
    observer: &mut dyn Observer,
) -> Analysed {
    observer.begin(Stage::Parse);
    let sources = input.sources;
    let (before, known) = earlier.parsed.take().unzip();
    let parsed = mesh_syntax::parse_again(sources, before.as_ref().zip(known));
    let is_once = earlier.is_once;
    if is_once && !overlay::has_environments(sources, input.root_path, &parsed.trees) {
        let trees = Cow::Owned(parsed.trees);
        return understand(input, trees, parsed.diagnostics, None, observer);
    }
    let mut remembered = std::mem::take(&mut earlier.known);
    let Known {
        decoded, secrets, ..
    } = &mut remembered;
    decoded.resize(sources.files().len(), None);
    secrets.resize(sources.files().len(), None);
    let of_files = decoded.iter_mut().zip(secrets);
    for (file, (decoded, secrets)) in sources.files().zip(of_files) {
        if !before
            .as_ref()
            .is_some_and(|before| sources.is_same(before, file))
        {
            *decoded = None;
            *secrets = None;
        }
    }
    let trees = Cow::Borrowed(parsed.trees.as_slice());
    let diagnostics = parsed.diagnostics.clone();
    let known = (!is_once).then_some(&mut remembered);
    let analysed = understand(input, trees, diagnostics, known, observer);
    // How much of a file with mistakes is read depends on the others.
    for finding in &parsed.diagnostics {
        if let Some(decoded) = remembered.decoded.get_mut(finding.span.file.index()) {
            *decoded = None;
        }
    }
    *earlier = Earlier {
        parsed: Some((sources.clone(), parsed)),
        known: remembered,
        is_once,
    };
    analysed
}

fn understand(
    input: Input<'_>,
    trees: Cow<'_, [Tree]>,
    mut diagnostics: Vec<Diagnostic>,
    known: Option<&mut Known>,
    observer: &mut dyn Observer,
) -> Analysed {
    let files = input.sources.files().len();
    // What is wrong in another environment's files is no concern of this one.
    diagnostics.retain(|finding| {
        let path = input.sources.path(finding.span.file);
        !overlay::is_foreign(path, input.root_path, input.environment)
    });
    let wanted = |path: &str| !overlay::is_foreign(path, input.root_path, input.environment);
    let (known_decoded, known_secrets, known_linked) = match known {
        Some(known) => (
            Some(&mut known.decoded),
            Some(&mut known.secrets),
            Some(&mut known.linked),
        ),
        None => (None, None, None),
    };
    let secrets = secrets::findings(input.sources, wanted, known_secrets);
    let unread = diagnostics
        .iter()
        .any(|finding| finding.level == Level::Error);
    observer.begin(Stage::Decode);
    let overlay::Overlaid {
        trees: overlaid,
        findings,
        overridings,
        environments,
        incomplete,
    } = overlay::apply(
        input.sources,
        input.root_path,
        input.environment,
        &trees,
        unread,
    );
    let mut decoded = keyword::decode(input.sources, &overlaid, known_decoded);
    // Trees are several times their text, and linking makes the mesh a second time.
    drop(overlaid);
    drop(trees);
    decoded.findings.extend(findings);
    decoded.mesh.overridings = overridings;
    decoded.findings.extend(library::fill(&mut decoded.mesh));
    let unreadable = errors_by_file(&diagnostics);
    diagnostics.extend(
        decoded
            .findings
            .into_iter()
            .filter(|finding| !is_within(finding, &unreadable)),
    );
    let incomplete = unread || decoded.incomplete || incomplete;
    observer.begin(Stage::Link);
    let mut linked = link::link(
        &decoded.mesh,
        link::Context {
            environment: input.environment,
            earlier: &diagnostics,
            sources: input.sources,
            root_path: input.root_path,
            incomplete,
        },
        known_linked
            .as_ref()
            .and_then(|known| known.get(input.environment)),
    );
    if let (Some(known), Some(before)) = (known_linked, linked.before.take()) {
        known.insert(input.environment.to_owned(), before);
    }
    if let Some(mesh) = &mut linked.mesh {
        let (ownership, findings) = ownership::of(input.sources, input.root_path, &mesh.teams);
        mesh.ownership = ownership;
        linked.findings.extend(findings);
    }
    let broken = error_lines(input.sources, &diagnostics);
    diagnostics.extend(linked.findings.into_iter().filter(|finding| {
        finding.level != Level::Error || !broken.contains(&line_of(input.sources, finding.span))
    }));
    diagnostics.extend(secrets);
    if decoded.mesh.root.is_none() && !incomplete {
        diagnostics.extend(no_mesh(input.sources));
    }
    diagnostics.sort_by(|a, b| a.sort_key().cmp(&b.sort_key()));
    let clean = diagnostics
        .iter()
        .all(|finding| finding.level != Level::Error);
    keep_gravest(&mut diagnostics);
    Analysed {
        mesh: linked.mesh.filter(|_| clean),
        diagnostics,
        files,
        environments,
    }
}

/// The environment that a file belongs to alone; none: all share it.
pub fn environment_of<'p>(path: &'p str, root_path: &str) -> Option<&'p str> {
    overlay::folder_of(path, root_path)
}

/// Keeps at most [`limits::FINDINGS_MAX`] findings, errors before all others, in the order of outputs; a note says that
/// there were more. Whoever has that many fixes these first.
pub fn keep_gravest(findings: &mut Vec<Diagnostic>) {
    findings.sort_by(|a, b| a.sort_key().cmp(&b.sort_key()));
    let Some(over) = findings.len().checked_sub(limits::FINDINGS_MAX) else {
        return;
    };
    if over == 0 {
        return;
    }
    findings.sort_by_key(|finding| finding.level);
    findings.truncate(limits::FINDINGS_MAX - 1);
    findings.sort_by(|a, b| a.sort_key().cmp(&b.sort_key()));
    if let Some(last) = findings.last() {
        let note = Diagnostic::new(
            mesh_syntax::code::LIMIT_EXCEEDED,
            Level::Note,
            Span {
                start: last.span.end,
                ..last.span
            },
            format!("there are more than {} findings", limits::FINDINGS_MAX),
        );
        findings.push(note.help("these are the gravest; the others are told once there is room"));
    }
}

/// The slices of a checked mesh.
pub fn emit(checked: &CheckedMesh) -> Emitted {
    checked.emitted().clone()
}

fn errors_by_file(findings: &[Diagnostic]) -> BTreeMap<FileId, Vec<Span>> {
    let mut errors: BTreeMap<FileId, Vec<Span>> = BTreeMap::new();
    for finding in findings
        .iter()
        .filter(|finding| finding.level == Level::Error)
    {
        errors
            .entry(finding.span.file)
            .or_default()
            .push(finding.span);
    }
    errors
}

/// What can't be read has no meaning to complain about, and neither has a value that part of which can't be read.
fn is_within(finding: &Diagnostic, errors: &BTreeMap<FileId, Vec<Span>>) -> bool {
    let contains =
        |outer: &Span, inner: &Span| outer.start <= inner.start && inner.end <= outer.end;
    errors.get(&finding.span.file).is_some_and(|spans| {
        spans
            .iter()
            .any(|error| contains(error, &finding.span) || contains(&finding.span, error))
    })
}

/// A setting is a line, and one that was not understood is missed by its consequences.
fn error_lines(sources: &SourceSet, findings: &[Diagnostic]) -> BTreeSet<(FileId, u32)> {
    let errors = findings
        .iter()
        .filter(|finding| finding.level == Level::Error);
    errors
        .map(|finding| line_of(sources, finding.span))
        .collect()
}

fn line_of(sources: &SourceSet, span: Span) -> (FileId, u32) {
    (span.file, sources.line_column(span).0)
}

fn no_mesh(sources: &SourceSet) -> Option<Diagnostic> {
    let first = sources.files().next()?;
    Some(
        Diagnostic::error(
            code::MISSING,
            Span::new(first, 0, 0),
            "no file has the `mesh` node",
        )
        .help("`meshc init` writes one: `mesh NAME { trust-domain \"example.org\" }`"),
    )
}
