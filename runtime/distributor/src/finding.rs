//! What is wrong with a commit, as the status shows it: plain data, kept across a restart.

use serde::{Deserialize, Serialize};

/// One finding; the names are those of `meshc check --format json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Finding {
    /// Stable code, or a reason for configuration such as `ref_rewritten`.
    pub(crate) code: String,
    /// Name of the rule.
    pub(crate) name: Option<String>,
    /// `error`, `warning` or `note`.
    pub(crate) level: String,
    /// What is wrong.
    pub(crate) message: String,
    /// Relative to the repository; none when it is about the commit as a whole.
    pub(crate) file: Option<String>,
    /// From 1.
    pub(crate) line: Option<u32>,
    /// From 1, in characters.
    pub(crate) column: Option<u32>,
}

impl Finding {
    /// A finding about the commit or the ref as a whole.
    pub(crate) fn whole(code: &str, message: impl Into<String>) -> Self {
        Self {
            code: code.to_owned(),
            name: None,
            level: "error".to_owned(),
            message: message.into(),
            file: None,
            line: None,
            column: None,
        }
    }

    /// One line, `teams/a/a.kdl:12: message [MSH0204]`.
    pub(crate) fn line(&self) -> String {
        let place = match (&self.file, self.line) {
            (Some(file), Some(line)) => format!("{file}:{line}: "),
            (Some(file), None) => format!("{file}: "),
            (None, _) => String::new(),
        };
        format!("{place}{} [{}]", self.message, self.code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_where_what_and_which() {
        let mut finding = Finding::whole("MSH0204", "routes overlap");
        assert_eq!(finding.line(), "routes overlap [MSH0204]");
        finding.file = Some("a.kdl".to_owned());
        assert_eq!(finding.line(), "a.kdl: routes overlap [MSH0204]");
        finding.line = Some(3);
        assert_eq!(finding.line(), "a.kdl:3: routes overlap [MSH0204]");
    }
}
