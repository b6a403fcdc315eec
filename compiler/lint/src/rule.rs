//! What a rule is, and what it may do.

use std::collections::BTreeMap;

use mesh_compiler::linked::Inventory;
use mesh_syntax::{Code, Diagnostic, Level, Span};

use crate::facts::Facts;
use crate::page::Page;

/// A check on a linked mesh.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// Code, name, summary and page.
    pub page: Page,
    /// How grave its findings are at most.
    pub level: Level,
    /// The release that had it first.
    pub since: &'static str,
    pub(crate) check: fn(&mut RuleContext<'_>),
}

impl Rule {
    /// Runs the rule.
    pub(crate) fn check(&self, cx: &mut RuleContext<'_>) {
        (self.check)(cx);
    }

    /// A finding of this rule at what must change.
    pub(crate) fn at(&self, span: Span, message: impl Into<String>) -> Diagnostic {
        let code = Code {
            code: self.page.code,
            name: self.page.name,
        };
        Diagnostic::new(code, self.level, span, message)
    }
}

/// Declares a rule. Its doc comment is the page that `meshc explain` prints.
macro_rules! declare_rule {
    (
        $(#[doc = $doc:literal])+
        pub(crate) static $ident:ident = {
            code: $code:literal, name: $name:literal, summary: $summary:literal,
            level: $level:ident, since: $since:literal, check: $check:ident,
        }
    ) => {
        $(#[doc = $doc])+
        pub(crate) static $ident: crate::rule::Rule = crate::rule::Rule {
            page: crate::page::Page {
                code: $code,
                name: $name,
                summary: $summary,
                body: concat!($($doc, "\n"),+),
            },
            level: mesh_syntax::Level::$level,
            since: $since,
            check: $check,
        };
    };
}
pub(crate) use declare_rule;

/// What a rule sees, and where it reports.
#[derive(Debug)]
pub(crate) struct RuleContext<'f> {
    facts: &'f Facts<'f>,
    findings: Vec<Diagnostic>,
    skipped: Vec<Skipped>,
}

/// A check that could not be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// Its code.
    pub code: &'static str,
    /// What it needs.
    pub reason: String,
}

impl<'f> RuleContext<'f> {
    pub(crate) fn new(facts: &'f Facts<'f>) -> Self {
        Self {
            facts,
            findings: Vec::new(),
            skipped: Vec::new(),
        }
    }

    pub(crate) fn facts(&self) -> &'f Facts<'f> {
        self.facts
    }

    pub(crate) fn report(&mut self, finding: Diagnostic) {
        self.findings.push(finding);
    }

    pub(crate) fn report_some(&mut self, finding: Option<Diagnostic>) {
        self.findings.extend(finding);
    }

    /// Reports what is wrong at one place once, whomever it is about: what was reported under this key is about one more
    /// service then.
    pub(crate) fn report_once<K: Ord>(
        &mut self,
        reported: &mut BTreeMap<K, usize>,
        key: K,
        service: &str,
        finding: impl FnOnce() -> Diagnostic,
    ) {
        match reported.get(&key).and_then(|at| self.findings.get_mut(*at)) {
            Some(known) => known.add_subject(service),
            None => {
                reported.insert(key, self.findings.len());
                self.findings.push(finding().about(service));
            }
        }
    }

    /// Counts a rule as not made, for want of data.
    pub(crate) fn skip(&mut self, rule: &Rule, reason: impl Into<String>) {
        self.skip_code(rule.page.code, reason);
    }

    /// Counts a part of a rule as not made, under a code that another stage has too.
    pub(crate) fn skip_code(&mut self, code: &'static str, reason: impl Into<String>) {
        self.skipped.push(Skipped {
            code,
            reason: reason.into(),
        });
    }

    /// The inventory; without one the rule is counted as not made.
    pub(crate) fn inventory(&mut self, rule: &Rule) -> Option<&'f Inventory> {
        let inventory = self.facts.mesh().inventory.as_ref();
        if inventory.is_none() {
            self.skip(rule, "needs an inventory file");
        }
        inventory
    }

    pub(crate) fn into_parts(self) -> (Vec<Diagnostic>, Vec<Skipped>) {
        (self.findings, self.skipped)
    }
}
