//! Who owns which file: the team whose `owns` takes its path. A file that no team owns belongs to those who
//! keep the mesh itself, as the last line of a CODEOWNERS file has it.

use mesh_syntax::{Diagnostic, FileId, SourceSet};

use crate::code;
use crate::glob;
use crate::limits;
use crate::linked::Team;

/// The owner of each file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ownership {
    /// By file: index of the team.
    owners: Vec<Option<usize>>,
}

impl Ownership {
    /// The team that owns a file, as an index of the mesh's teams; none: whoever keeps the mesh.
    pub fn owner(&self, file: FileId) -> Option<usize> {
        self.owners.get(file.index()).copied().flatten()
    }
}

/// Finds the owner of each file, and what is wrong with the patterns.
pub(crate) fn of(
    sources: &SourceSet,
    root_path: &str,
    teams: &[Team],
) -> (Ownership, Vec<Diagnostic>) {
    let mut findings = Vec::new();
    let mut globs = Vec::new();
    for (index, team) in teams.iter().enumerate() {
        for pattern in &team.owns {
            if globs.len() >= limits::GLOBS_MAX {
                let message = format!("more than {} patterns of files", limits::GLOBS_MAX);
                findings.push(Diagnostic::error(
                    mesh_syntax::code::LIMIT_EXCEEDED,
                    pattern.span,
                    message,
                ));
                return (Ownership::default(), findings);
            }
            match Pattern::parse(&pattern.value) {
                Ok(glob) => globs.push((glob, index, pattern.span)),
                Err(why) => findings
                    .push(Diagnostic::error(code::WRONG_TYPE, pattern.span, why).help(
                    "write it as \"teams/reviews/**\": `*` is a part of one name, `**` any folders",
                )),
            }
        }
    }
    let mut owners = Vec::new();
    let mut told = Vec::new();
    for file in sources.files() {
        let path = sources.path(file);
        let below = match root_path {
            "" => path,
            root => path
                .strip_prefix(root)
                .map_or(path, |rest| rest.trim_start_matches('/')),
        };
        let mut owner = None;
        for (glob, team, span) in &globs {
            if owner.is_some_and(|(other, _)| other == *team) || !glob.matches(below) {
                continue;
            }
            match owner {
                None => owner = Some((*team, *span)),
                // Said once for each pair of patterns, however many files both take.
                Some((_, first)) if !told.contains(&(first, *span)) => {
                    told.push((first, *span));
                    let message = format!("two teams own the file {below}");
                    findings.push(
                        Diagnostic::error(code::AMBIGUOUS, *span, message)
                            .label(first, "the other team's pattern")
                            .help("narrow one of the patterns: a file has one owner"),
                    );
                }
                Some(_) => {}
            }
        }
        owners.push(owner.map(|(team, _)| team));
    }
    (Ownership { owners }, findings)
}

/// A pattern of paths that is known to be one.
#[derive(Debug, PartialEq, Eq)]
struct Pattern<'a> {
    text: &'a str,
    /// What every path that it takes begins with, which most paths don't.
    prefix: &'a str,
}

impl<'a> Pattern<'a> {
    fn parse(text: &'a str) -> Result<Self, String> {
        if text.len() > limits::GLOB_BYTES_MAX {
            return Err(format!(
                "this pattern is longer than {} bytes",
                limits::GLOB_BYTES_MAX
            ));
        }
        if let Some(letter) = text.chars().find(|letter| "?[]{}!\\".contains(*letter)) {
            return Err(format!("a pattern of files has no `{letter}`"));
        }
        for segment in text.split('/') {
            match segment {
                "" | "." | ".." => {
                    return Err("a pattern of files is relative to the mesh's folder".to_owned());
                }
                "**" => {}
                name if name.contains("**") => {
                    return Err("`**` stands for whole folders".to_owned());
                }
                _ => {}
            }
        }
        let prefix = text.split('*').next().unwrap_or_default();
        // `a/**` also takes `a`, so the slash before the stars is no part of what all begin with.
        Ok(Self {
            text,
            prefix: prefix.trim_end_matches('/'),
        })
    }

    fn matches(&self, path: &str) -> bool {
        path.starts_with(self.prefix) && glob::matches(self.text, path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prefix_turns_nothing_away_that_the_pattern_takes() {
        for (pattern, path, taken) in [
            ("teams/reviews/**", "teams/reviews/deep/a.kdl", true),
            ("teams/reviews/**", "teams/reviews2/a.kdl", false),
            ("teams/re*ws-*.kdl", "teams/reviews-old.kdl", true),
            ("**/reviews.kdl", "reviews.kdl", true),
            ("a/**", "a", true),
            ("*.kdl", "a/b.kdl", false),
        ] {
            assert_eq!(
                Pattern::parse(pattern).unwrap().matches(path),
                taken,
                "{pattern} {path}"
            );
        }
    }

    #[test]
    fn what_is_no_pattern_is_said() {
        for bad in ["/a", "a//b", "../a", "a**", "a/?.kdl", "", "a\\b"] {
            assert!(Pattern::parse(bad).is_err(), "{bad}");
        }
    }
}
