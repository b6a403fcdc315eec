//! Strings, words, numbers and keywords, and what is probably meant where one can't be read.

use std::ops::Range;

use super::super::extent::after_spaces;
use super::super::lexeme::{
    Class, Quoted, QuotedProblem, Word, class_at, classify, line_end, quoted_at, run_end, word_end,
};
use super::super::trap;
use super::Scanner;
use crate::{Diagnostic, Span, Value};

impl Scanner<'_> {
    /// Reads a string, word, number or keyword. Says whether it could be the name of a property.
    pub(super) fn value(&mut self, is_name: bool) -> bool {
        self.spaced = false;
        if matches!(self.byte(0), b'"' | b'#')
            && let Some(quoted) = quoted_at(self.text, self.at)
        {
            self.quoted(quoted);
            return true;
        }
        if self.byte(0) == b'#' {
            return self.hash_keyword();
        }
        self.word(is_name)
    }

    fn quoted(&mut self, quoted: Quoted) {
        let start = self.at;
        let span = self.span(start, quoted.end);
        let content = self
            .text
            .get(quoted.content.0..quoted.content.1)
            .unwrap_or_default();
        self.at = quoted.end;
        let Some(problem) = quoted.problem else {
            return;
        };
        let finding = match problem {
            QuotedProblem::Unclosed => {
                let multi_line = self
                    .text
                    .get(start..)
                    .is_some_and(|rest| rest.trim_start_matches('#').starts_with("\"\"\""));
                trap::unclosed_string(self.span(start, quoted.content.0), multi_line)
            }
            QuotedProblem::MultiLineShape => {
                trap::multi_line_shape(self.span(start, quoted.content.0))
            }
            QuotedProblem::Indentation => trap::indentation(self.span(start, quoted.content.0)),
            QuotedProblem::Escape(at) => {
                let length = class_at(self.text, at + 1).1;
                let escape = self.span(at, at + 1 + length);
                match self.text.get(at..at + 1 + length) {
                    Some("\\/") => trap::slash_escape(span, escape),
                    text => trap::escape(span, escape, text.unwrap_or("\\"), content),
                }
            }
        };
        self.report(finding);
        self.recover(start..quoted.end, Value::Text(content.to_owned()));
    }

    fn hash_keyword(&mut self) -> bool {
        let start = self.at;
        let end = word_end(self.text, start + 1);
        let word = self.text.get(start..end).unwrap_or_default();
        let is_keyword = matches!(
            word,
            "#true" | "#false" | "#null" | "#inf" | "#-inf" | "#nan"
        );
        if is_keyword && run_end(self.text, end) == end {
            self.at = end;
        } else {
            self.unreadable(trap::bare_punctuation);
        }
        false
    }

    /// Reads what is not quoted.
    fn word(&mut self, is_name: bool) -> bool {
        let start = self.at;
        let mut end = word_end(self.text, start);
        let mut word = self.text.get(start..end).unwrap_or_default();
        if start < self.commas_are_spaces_until
            && let Some((before, _)) = word.split_once(',')
        {
            (word, end) = (before, start + before.len());
        }
        let next = self.text.as_bytes().get(end).copied().unwrap_or(b' ');
        if word == "r"
            && matches!(next, b'"' | b'#')
            && let Some(quoted) = quoted_at(self.text, end)
        {
            return self.raw_string_1(quoted, next);
        }
        if self.touches_slash(end, word) {
            self.unreadable(trap::bare_slash);
            return true;
        }
        if word.is_empty()
            || matches!(next, b'(' | b')' | b'[' | b']' | b'#')
            || self.stray_backslash(end)
        {
            self.unreadable(trap::bare_punctuation);
            return true;
        }
        if word.contains(',') && !is_name {
            return self.commas(start, end);
        }
        let span = self.span(start, end);
        match classify(word) {
            Word::Plain => self.at = end,
            Word::Number if is_name => self.unreadable(trap::number_as_name),
            Word::Number => {
                self.at = end;
                return false;
            }
            Word::LossyNumber => self.unreadable(trap::lossy_number),
            Word::NotNumber => self.unreadable(trap::not_a_number),
            Word::Keyword => {
                self.report(trap::keyword(span, word));
                self.recover(start..end, Value::Text(word.to_owned()));
                self.at = end;
            }
        }
        true
    }

    /// Whether the word that ends here goes on with a slash that its author did not mean as a comment.
    fn touches_slash(&self, end: usize, word: &str) -> bool {
        let bytes = self.text.as_bytes();
        if bytes.get(end) != Some(&b'/') {
            return false;
        }
        match bytes.get(end + 1) {
            // At the beginning of a value comments were already told apart.
            _ if word.is_empty() => true,
            Some(b'/') => word.ends_with(':'),
            Some(b'*') => {
                !self
                    .text
                    .get(end..run_end(self.text, end))
                    .is_some_and(|run| run.contains("*/"))
                    && self.glued(end + 2)
            }
            _ => true,
        }
    }

    /// Whether a `\` here is anything but a line continuation.
    fn stray_backslash(&self, at: usize) -> bool {
        self.text.as_bytes().get(at) == Some(&b'\\')
            && class_at(self.text, after_spaces(self.text, at + 1, false)).0 != Class::Newline
    }

    fn raw_string_1(&mut self, quoted: Quoted, next: u8) -> bool {
        let start = self.at;
        let (from, to) = quoted.content;
        // `r"…"` has no escapes: it ends at the first quote, wherever an escape would have gone on.
        let (to, end) = match next {
            b'"' => self
                .text
                .get(from..)
                .and_then(|rest| rest.find(['"', '\n']))
                .map_or((to, quoted.end), |length| {
                    let to = from + length;
                    (
                        to,
                        if self.text.as_bytes().get(to) == Some(&b'"') {
                            to + 1
                        } else {
                            to
                        },
                    )
                }),
            _ => (to, quoted.end),
        };
        let content = self.text.get(from..to).unwrap_or_default();
        self.report(trap::raw_string_1(self.span(start, end), content));
        self.recover(start..end, Value::Text(content.to_owned()));
        self.at = end;
        true
    }

    /// Reports a list with commas and reads on as if they were spaces.
    fn commas(&mut self, start: usize, end: usize) -> bool {
        let word = self.text.get(start..end).unwrap_or_default();
        let parts: Vec<&str> = word.split(',').filter(|part| !part.is_empty()).collect();
        self.report(trap::comma(self.span(start, end), word, &parts.join(" ")));
        self.commas_are_spaces_until = line_end(self.text, start);
        self.spaced = true;
        false
    }

    /// Reports everything up to the next space as one value, and reads it as if it had been quoted.
    fn unreadable(&mut self, finding: fn(Span, &str) -> Diagnostic) {
        let start = self.at;
        let end = run_end(self.text, start).max(start + class_at(self.text, start).1.max(1));
        let run = self.text.get(start..end).unwrap_or_default();
        self.report(finding(self.span(start, end), run));
        self.recover(start..end, Value::Text(run.to_owned()));
        self.at = end;
        // What touches it was already part of this finding.
        self.spaced = true;
        if end < self.text.len() && self.byte(0) == b'"' {
            let quoted_end = quoted_at(self.text, end).map_or(end + 1, |quoted| quoted.end);
            self.blank(end..quoted_end);
            self.at = quoted_end;
        }
    }

    /// Puts a word of the same length where something can't be read, and remembers what it stands for.
    fn recover(&mut self, range: Range<usize>, value: Value) {
        if let Some(bytes) = self.clean.get_mut(range.clone()) {
            bytes.fill(b'x');
            self.found.recovered.insert(range.start, value);
        }
    }
}
