//! Every page: those of the rules, and those of the codes that reading and linking report.

use crate::page::Page;
use crate::rules::{COMPARISONS, RULES};
use crate::unexpressed::UNEXPRESSED;

/// Turns declarations into pages; a doc comment is the text of the page.
macro_rules! declare_pages {
    ($($(#[doc = $doc:literal])+ $code:path => $summary:literal;)*) => {
        pub(super) const PAGES: &[crate::page::Page] = &[$(crate::page::Page {
            code: $code.code,
            name: $code.name,
            summary: $summary,
            body: concat!($($doc, "\n"),+),
        }),*];
    };
}
use declare_pages;

mod gateways;
mod identity;
mod linking;
mod rollout;
mod routing;
mod source;

/// The page of every code that any stage reports, ascending.
pub fn pages() -> Vec<Page> {
    let rules = RULES.iter().chain(COMPARISONS).map(|rule| rule.page);
    let earlier = [
        source::PAGES,
        linking::PAGES,
        routing::PAGES,
        gateways::PAGES,
        rollout::PAGES,
        identity::PAGES,
    ]
    .into_iter()
    .flatten()
    .copied();
    let mut pages: Vec<Page> = rules.chain(earlier).collect();
    pages.sort_unstable_by_key(|page| page.code);
    pages
}

/// Codes without a finding, each with the reason, ascending.
pub fn unexpressed() -> &'static [Page] {
    UNEXPRESSED
}

/// The page of one code, or why it has no finding; the case of its letters does not matter.
pub fn page(code: &str) -> Option<Page> {
    pages()
        .into_iter()
        .chain(UNEXPRESSED.iter().copied())
        .find(|page| page.code.eq_ignore_ascii_case(code) || page.name == code)
}

#[cfg(test)]
mod tests {
    use mesh_syntax::{Level, code as syntax};

    use super::*;
    use crate::page::Example;
    use crate::tester::{all_findings, compared, draw, sources};

    #[test]
    fn every_code_has_one_page() {
        let pages = pages();
        assert!(
            pages.is_sorted_by(|a, b| a.code < b.code),
            "a code has two pages"
        );
        let reading = [
            syntax::SYNTAX_ERROR,
            syntax::DUPLICATE_SETTING,
            syntax::KDL_1_SPELLING,
            syntax::LIMIT_EXCEEDED,
            syntax::OUTSIDE_REPOSITORY,
            syntax::NOT_FORMATTED,
            syntax::MERGE_CONFLICT,
        ];
        for code in mesh_compiler::code::ALL.iter().chain(&reading) {
            let page = page(code.code).unwrap_or_else(|| panic!("{} has no page", code.code));
            assert_eq!(page.name, code.name);
        }
    }

    #[test]
    fn every_page_says_what_and_why() {
        for page in pages() {
            for heading in ["## What it flags\n", "## Why it matters\n"] {
                assert!(
                    page.text().contains(heading),
                    "{} lacks {heading}",
                    page.code
                );
            }
        }
    }

    /// Pages whose mistake does not fit into one small file.
    const WITHOUT_EXAMPLE: &[&str] = &[
        "MSH0010", "MSH0012", "MSH0017", "MSH0019", "MSH1101", "MSH1103", "MSH1106",
    ];

    #[test]
    fn examples_do_what_their_pages_say() {
        for page in pages() {
            let examples = page.examples();
            for good in [true, false] {
                let some = examples.iter().any(|example| example.good == good);
                assert!(
                    some || WITHOUT_EXAMPLE.contains(&page.code),
                    "{} lacks an example",
                    page.code
                );
            }
            for Example { good, text, base } in examples {
                let example = text;
                let sources = sources(&example);
                let mut findings = all_findings(&sources);
                if let Some(base) = base {
                    findings.extend(compared(&base, &example));
                }
                let found = findings.iter().any(|finding| finding.code == page.code);
                assert_eq!(
                    found,
                    !good,
                    "{}:\n{example}\n{}",
                    page.code,
                    draw(&sources, &findings)
                );
                let errors = findings.iter().any(|finding| finding.level == Level::Error);
                assert!(
                    !good || !errors,
                    "{}:\n{example}\n{}",
                    page.code,
                    draw(&sources, &findings)
                );
            }
        }
    }
}
