//! Findings as plain data: what is wrong, where, why and what to do. Rendering is for the programs.

use std::collections::BTreeMap;

use crate::source::Span;

/// How grave a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Nothing is built while it stands.
    Error,
    /// Probably wrong, or wrong only under some load.
    Warning,
    /// Worth knowing.
    Note,
}

impl Level {
    /// The name used in outputs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        }
    }
}

/// Whether a finding holds for certain or only if something undeclared is true.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Confidence {
    /// It follows from what is declared.
    Certain,
    /// It may be so; such a finding is never an error.
    Possible,
}

impl Confidence {
    /// The name used in outputs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Certain => "certain",
            Self::Possible => "possible",
        }
    }
}

/// The stable code of a kind of finding, with its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Code {
    /// `MSH` and four digits, never reused.
    pub code: &'static str,
    /// Group and kebab-case name, such as `routing/shadowed-route`.
    pub name: &'static str,
}

/// The codes that reading files can produce.
pub mod code {
    use super::Code;

    /// The text is not KDL, or is KDL that does not mean what it seems to.
    pub const SYNTAX_ERROR: Code = Code {
        code: "MSH0001",
        name: "source/syntax-error",
    };
    /// One property given twice.
    pub const DUPLICATE_SETTING: Code = Code {
        code: "MSH0005",
        name: "source/duplicate-setting",
    };
    /// A spelling of KDL 1.
    pub const KDL_1_SPELLING: Code = Code {
        code: "MSH0009",
        name: "source/kdl-1-spelling",
    };
    /// Too large, too deep or too many.
    pub const LIMIT_EXCEEDED: Code = Code {
        code: "MSH0010",
        name: "source/limit-exceeded",
    };
    /// A link that could lead outside the repository.
    pub const OUTSIDE_REPOSITORY: Code = Code {
        code: "MSH0012",
        name: "source/outside-repository",
    };
    /// Laid out otherwise than `meshc fmt` would.
    pub const NOT_FORMATTED: Code = Code {
        code: "MSH0017",
        name: "source/not-formatted",
    };
    /// Both sides of a merge that nobody has finished.
    pub const MERGE_CONFLICT: Code = Code {
        code: "MSH0020",
        name: "source/merge-conflict",
    };
}

/// Text that belongs to another place than the finding's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// Where.
    pub span: Span,
    /// What is there.
    pub message: String,
}

/// A change that would resolve the finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fix {
    /// Whether it keeps what the author meant for certain.
    pub safe: bool,
    /// What it does, in the imperative.
    pub title: String,
    /// The edits, which do not overlap.
    pub edits: Vec<Edit>,
}

/// A replacement of one span.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    /// What is replaced.
    pub span: Span,
    /// What replaces it.
    pub text: String,
}

/// A concrete request for which the finding holds, checked by the engine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Witness {
    /// The method.
    pub method: String,
    /// The host asked for.
    pub host: String,
    /// The path.
    pub path: String,
    /// Names and values of headers.
    pub headers: Vec<(String, String)>,
    /// Names and values of query parameters.
    pub query: Vec<(String, String)>,
    /// The calling service; nothing for an unauthenticated peer.
    pub from: Option<String>,
    /// The called service.
    pub to: String,
    /// The port, where the service has several.
    pub port: Option<u16>,
    /// The address of the client, where it matters.
    pub client_ip: Option<std::net::IpAddr>,
    /// The address of the connection's peer, where it matters.
    pub peer_ip: Option<std::net::IpAddr>,
    /// Names and values of claims of a verified token; empty: the request has none.
    pub claims: Vec<(String, String)>,
}

/// One finding.
#[derive(Debug, Clone, PartialEq)]
pub struct Diagnostic {
    /// Its stable code.
    pub code: &'static str,
    /// Its name.
    pub name: &'static str,
    /// How grave it is.
    pub level: Level,
    /// Whether it holds for certain.
    pub confidence: Confidence,
    /// What is wrong, in the user's words.
    pub message: String,
    /// What must change.
    pub span: Span,
    /// What to write at the span itself.
    pub span_label: Option<String>,
    /// What it conflicts with.
    pub labels: Vec<Label>,
    /// The services, gateways and externals that it is about, wherever it lies; in the order in which they were found.
    pub about: Vec<String>,
    /// What to do.
    pub help: Option<String>,
    /// A request that shows it.
    pub witness: Option<Witness>,
    /// Numbers that belong to it, by name.
    pub numbers: BTreeMap<String, f64>,
    /// Changes that resolve it.
    pub fixes: Vec<Fix>,
}

impl Diagnostic {
    /// A finding of some level; see [`Diagnostic::error`] and its neighbours.
    pub fn new(code: Code, level: Level, span: Span, message: impl Into<String>) -> Self {
        Self {
            code: code.code,
            name: code.name,
            level,
            confidence: Confidence::Certain,
            message: message.into(),
            span,
            span_label: None,
            labels: Vec::new(),
            about: Vec::new(),
            help: None,
            witness: None,
            numbers: BTreeMap::new(),
            fixes: Vec::new(),
        }
    }

    /// A finding that stops a build.
    pub fn error(code: Code, span: Span, message: impl Into<String>) -> Self {
        Self::new(code, Level::Error, span, message)
    }

    /// A finding that is probably wrong.
    pub fn warning(code: Code, span: Span, message: impl Into<String>) -> Self {
        Self::new(code, Level::Warning, span, message)
    }

    /// A finding worth knowing.
    pub fn note(code: Code, span: Span, message: impl Into<String>) -> Self {
        Self::new(code, Level::Note, span, message)
    }

    /// Marks it as only possible, which caps it at a warning.
    #[must_use]
    pub fn possible(mut self) -> Self {
        self.confidence = Confidence::Possible;
        self.level = self.level.max(Level::Warning);
        self
    }

    /// Says what is at the primary span.
    #[must_use]
    pub fn at(mut self, message: impl Into<String>) -> Self {
        self.span_label = Some(message.into());
        self
    }

    /// Points at another place.
    #[must_use]
    pub fn label(mut self, span: Span, message: impl Into<String>) -> Self {
        self.labels.push(Label {
            span,
            message: message.into(),
        });
        self
    }

    /// Says which service it is about: a value of `defaults` or of a caller is wrong for somebody.
    #[must_use]
    pub fn about(mut self, service: &str) -> Self {
        self.add_subject(service);
        self
    }

    /// Says that it is about one more service.
    pub fn add_subject(&mut self, service: &str) {
        if self.about.iter().all(|known| known != service) {
            self.about.push(service.to_owned());
        }
    }

    /// Says what to do.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Adds the request that shows it.
    #[must_use]
    pub fn witness(mut self, witness: Witness) -> Self {
        self.witness = Some(witness);
        self
    }

    /// Adds a number.
    #[must_use]
    pub fn number(mut self, name: impl Into<String>, value: f64) -> Self {
        self.numbers.insert(name.into(), value);
        self
    }

    /// Offers a fix that keeps the author's meaning.
    #[must_use]
    pub fn fix(self, title: impl Into<String>, edits: Vec<Edit>) -> Self {
        self.with_fix(true, title.into(), edits)
    }

    /// Offers a fix that the author must judge.
    #[must_use]
    pub fn unsafe_fix(self, title: impl Into<String>, edits: Vec<Edit>) -> Self {
        self.with_fix(false, title.into(), edits)
    }

    fn with_fix(mut self, safe: bool, title: String, edits: Vec<Edit>) -> Self {
        self.fixes.push(Fix { safe, title, edits });
        self
    }

    /// The order of outputs: by file (in the order of the set) and position, then code and text.
    pub fn sort_key(&self) -> (Span, &'static str, &str) {
        (self.span, self.code, &self.message)
    }
}

impl Edit {
    /// Replaces a span by a text.
    pub fn new(span: Span, text: impl Into<String>) -> Self {
        Self {
            span,
            text: text.into(),
        }
    }
}
