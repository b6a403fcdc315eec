//! Findings that are accepted for now, so that a repository with some can begin to refuse new ones.
//!
//! A finding is known again by its code, by the definitions it stands in and by the names it speaks of; not by its
//! file, line, numbers or wording. It is accepted as often as it was when the list was written, in the environments it
//! had then, and while it is no graver.

mod fingerprint;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use mesh_syntax::{Diagnostic, Level};
use serde::{Deserialize, Serialize};

pub(crate) use self::fingerprint::Fingerprints;
use crate::compile::Compiled;
use crate::load::Loaded;
use crate::{atomic, limits};

/// The form of the file that this release writes and reads.
const VERSION: u32 = 1;

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

/// Findings with the same fingerprint.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
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
        let mut entries: BTreeMap<String, Entry> = BTreeMap::new();
        for (index, finding) in compiled.findings.iter().enumerate() {
            let known = fingerprints.of(finding);
            let environments: BTreeSet<String> = compiled.only_in(index).iter().cloned().collect();
            let entry = entries.entry(known.text.clone()).or_insert_with(|| Entry {
                code: finding.code.to_owned(),
                place: known.place,
                fingerprint: known.text,
                level: Accepted::of(finding.level),
                environments: environments.clone(),
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
        entries.sort();
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
        let mut left: BTreeMap<&str, Vec<(&Entry, usize)>> = BTreeMap::new();
        for entry in &self.entries {
            let same = left.entry(&entry.fingerprint).or_default();
            same.push((entry, entry.count));
        }
        let (mut new, mut accepted) = (Vec::new(), Vec::new());
        for (finding, environments) in compiled.take_findings() {
            let fingerprint = fingerprints.of(&finding).text;
            let same = left.get_mut(fingerprint.as_str()).into_iter().flatten();
            let mut fitting = same
                .filter(|(entry, left)| *left > 0 && entry.accepts(finding.level, &environments));
            match fitting.next() {
                Some((_, left)) => {
                    *left -= 1;
                    accepted.push(AcceptedFinding {
                        finding,
                        fingerprint,
                    });
                }
                None => new.push((finding, environments)),
            }
        }
        compiled.put_findings(new);
        let unmatched = left.into_values().flatten().filter(|(_, left)| *left > 0);
        let mut unmatched: Vec<Entry> = unmatched
            .map(|(entry, count)| Entry {
                count,
                ..entry.clone()
            })
            .collect();
        unmatched.sort();
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

impl Entry {
    fn accepts(&self, level: Level, environments: &[String]) -> bool {
        let known = |name| self.environments.contains(name);
        let everywhere = self.environments.is_empty();
        let in_these = !environments.is_empty() && environments.iter().all(known);
        Accepted::of(level) >= self.level && (everywhere || in_these)
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
