//! Findings that are accepted for now, so that a repository with some can begin to refuse new ones.
//!
//! A finding is known again by its code, by the definitions it stands in and by the names it speaks of; not by its
//! file, line, numbers or wording. It is accepted as often as it was when the list was written, in the environments it
//! had then, and while it is no graver and what it measures no worse.

mod fingerprint;
mod measure;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use mesh_syntax::{Diagnostic, Level};
use serde::{Deserialize, Serialize};

pub(crate) use self::fingerprint::Fingerprints;
use self::measure::Measures;
use crate::compile::Compiled;
use crate::load::Loaded;
use crate::{atomic, limits};

/// The form of the file that this release writes and reads.
const VERSION: u32 = 2;

/// Why a list could not be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BaselineError {
    #[error(
        "there is no baseline {}; `meshc check --write-baseline {}` writes it", .0.display(), .0.display()
    )]
    Missing(PathBuf),
    #[error("could not read the baseline {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the baseline {} has more than {} bytes", .0.display(), limits::BASELINE_BYTES_MAX)]
    TooLarge(PathBuf),
    #[error(
        "{} is no baseline that `meshc check --write-baseline` wrote", path.display()
    )]
    Malformed {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    #[error(
        "the baseline {} is of version {version}, and this release reads {VERSION}; write it again with --write-baseline", path.display()
    )]
    Version { path: PathBuf, version: u32 },
    #[error("could not write the baseline {}", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// The file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Contents {
    version: u32,
    findings: Vec<Entry>,
}

/// Findings with the same fingerprint that measure the same.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entry {
    /// The code.
    pub(crate) code: String,
    /// Where it is, for whoever reads the list.
    pub(crate) place: String,
    /// What it is known by.
    pub(crate) fingerprint: String,
    /// How grave it was.
    level: Accepted,
    /// The environments that alone had it; empty: all.
    environments: BTreeSet<String>,
    /// What they measured, of what can get worse.
    measures: Measures,
    /// How many there were.
    pub(crate) count: usize,
    /// What one of them said, for whoever reads the list.
    pub(crate) message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Accepted {
    Error,
    Warning,
    Note,
}

/// A list of accepted findings.
#[derive(Debug)]
pub(crate) struct Baseline {
    path: PathBuf,
    entries: Vec<Entry>,
}

/// What a baseline made of findings.
#[derive(Debug)]
pub(crate) struct Compared {
    /// The file, as it was named.
    pub(crate) file: String,
    /// What it accepts, in the order of outputs.
    pub(crate) accepted: Vec<AcceptedFinding>,
    /// What it lists and nothing matches any more, with how many are missing.
    pub(crate) unmatched: Vec<Entry>,
}

/// A finding that a baseline accepts.
#[derive(Debug)]
pub(crate) struct AcceptedFinding {
    /// The finding.
    pub(crate) finding: Diagnostic,
    /// What it is known by.
    pub(crate) fingerprint: String,
}

impl Baseline {
    /// Reads a list.
    pub(crate) fn read(path: &Path) -> Result<Self, BaselineError> {
        let path = path.to_path_buf();
        let text = match read(&path) {
            Ok(text) => text,
            Err(source) if source.kind() == io::ErrorKind::NotFound => {
                return Err(BaselineError::Missing(path));
            }
            Err(source) => return Err(BaselineError::Read { path, source }),
        };
        if text.len() as u64 > limits::BASELINE_BYTES_MAX {
            return Err(BaselineError::TooLarge(path));
        }
        let contents: Contents = match serde_json::from_slice(&text) {
            Ok(contents) => contents,
            Err(source) => return Err(BaselineError::Malformed { path, source }),
        };
        if contents.version != VERSION {
            let version = contents.version;
            return Err(BaselineError::Version { path, version });
        }
        Ok(Self {
            path,
            entries: contents.findings,
        })
    }

    /// The list of everything that was found.
    pub(crate) fn of(path: &Path, loaded: &Loaded, compiled: &Compiled) -> Self {
        let mut fingerprints = Fingerprints::new(loaded);
        let mut entries: BTreeMap<(String, String), Entry> = BTreeMap::new();
        for (index, finding) in compiled.findings.iter().enumerate() {
            let known = fingerprints.of(finding);
            let environments: BTreeSet<String> = compiled.only_in(index).iter().cloned().collect();
            let measures = Measures::of(finding);
            let key = (known.text.clone(), measures.to_string());
            let entry = entries.entry(key).or_insert_with(|| Entry {
                code: finding.code.to_owned(),
                place: known.place,
                fingerprint: known.text,
                level: Accepted::of(finding.level),
                environments: environments.clone(),
                measures,
                count: 0,
                message: finding.message.clone(),
            });
            entry.count += 1;
            entry.level = entry.level.min(Accepted::of(finding.level));
            if environments.is_empty() || entry.environments.is_empty() {
                entry.environments.clear();
            } else {
                entry.environments.extend(environments);
            }
        }
        let mut entries: Vec<Entry> = entries.into_values().collect();
        // Of the same fingerprint they keep the order of what they measure.
        entries.sort_by(Entry::order);
        Self {
            path: path.to_path_buf(),
            entries,
        }
    }

    /// Writes the list; the same findings always give the same bytes.
    pub(crate) fn write(&self) -> Result<(), BaselineError> {
        let failed = |source| BaselineError::Write {
            path: self.path.clone(),
            source,
        };
        let contents = Contents {
            version: VERSION,
            findings: self.entries.clone(),
        };
        let text = serde_json::to_string_pretty(&contents);
        let text = text.map_err(|error| failed(error.into()))? + "\n";
        atomic::replace(&self.path, &text).map_err(failed)
    }

    /// Takes out of the findings what the list accepts.
    pub(crate) fn apply(&self, loaded: &Loaded, compiled: &mut Compiled) {
        let mut fingerprints = Fingerprints::new(loaded);
        let mut left: BTreeMap<&str, Vec<Left<'_>>> = BTreeMap::new();
        for entry in &self.entries {
            let same = left.entry(&entry.fingerprint).or_default();
            same.push(Left::of(entry, &compiled.checked_in));
        }
        let all = compiled.checked_in.clone();
        let (mut new, mut accepted) = (Vec::new(), Vec::new());
        for (finding, environments) in compiled.take_findings() {
            let fingerprint = fingerprints.of(&finding).text;
            let mut none = Vec::new();
            let same = left.get_mut(fingerprint.as_str()).unwrap_or(&mut none);
            let wanted = if environments.is_empty() {
                &all
            } else {
                &environments
            };
            if take(same, &finding, wanted) {
                accepted.push(AcceptedFinding {
                    finding,
                    fingerprint,
                });
            } else {
                new.push((finding, environments));
            }
        }
        compiled.put_findings(new);
        let unmatched = left.into_values().flatten();
        let mut unmatched: Vec<Entry> = unmatched
            .filter_map(|left| {
                let count = left.unused()?;
                let entry = left.entry.clone();
                Some(Entry { count, ..entry })
            })
            .collect();
        unmatched.sort_by(Entry::order);
        // Where policies can't be understood most checks were not made.
        if compiled.mesh().is_none() {
            unmatched.clear();
        }
        compiled.compared = Some(Compared {
            file: self.path.display().to_string(),
            accepted,
            unmatched,
        });
    }
}

/// What is left of an entry, in each environment that was checked.
#[derive(Debug)]
struct Left<'e> {
    entry: &'e Entry,
    counts: BTreeMap<String, usize>,
}

impl<'e> Left<'e> {
    fn of(entry: &'e Entry, checked: &[String]) -> Self {
        let known = &entry.environments;
        let its = checked
            .iter()
            .filter(|name| known.is_empty() || known.contains(*name));
        Self {
            entry,
            counts: its.map(|name| (name.clone(), entry.count)).collect(),
        }
    }

    /// How many of it nothing matched in any environment; none: all were matched, or its environments were not checked.
    fn unused(&self) -> Option<usize> {
        let least = self.counts.values().copied().min();
        least.filter(|count| *count > 0)
    }
}

/// Takes a finding off what is accepted, if it is in each of its environments.
fn take(same: &mut [Left<'_>], finding: &Diagnostic, environments: &[String]) -> bool {
    let measures = Measures::of(finding);
    let mut taken = Vec::new();
    for environment in environments {
        let mut entries = same.iter().enumerate();
        let found = entries.find(|(_, left)| {
            let is_left = left.counts.get(environment).is_some_and(|left| *left > 0);
            is_left && left.entry.accepts(finding.level, &measures)
        });
        let Some((index, _)) = found else {
            return false;
        };
        taken.push((index, environment));
    }
    for (index, environment) in taken {
        let left = same.get_mut(index);
        if let Some(count) = left.and_then(|left| left.counts.get_mut(environment)) {
            *count -= 1;
        }
    }
    true
}

impl Entry {
    fn accepts(&self, level: Level, measures: &Measures) -> bool {
        Accepted::of(level) >= self.level && measures.are_no_worse_than(&self.measures)
    }

    /// The order of the file.
    fn order(&self, other: &Self) -> std::cmp::Ordering {
        let key = |entry: &Self| {
            let Self { code, place, .. } = entry;
            (code.clone(), place.clone(), entry.fingerprint.clone())
        };
        key(self).cmp(&key(other))
    }
}

impl Accepted {
    fn of(level: Level) -> Self {
        match level {
            Level::Error => Self::Error,
            Level::Warning => Self::Warning,
            Level::Note => Self::Note,
        }
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    File::open(path)?
        .take(limits::BASELINE_BYTES_MAX + 1)
        .read_to_end(&mut text)?;
    Ok(text)
}
