//! What is known of a regular expression without its automaton, and automata that are made once for several sets.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use regex_automata::util::syntax;
use regex_syntax::hir::literal::{ExtractKind, Extractor};

use super::automaton::Automaton;
use super::{CapExceeded, effort};

/// Memory of the automata that one thread keeps: the analyses of one service ask for the same ones several times.
const KEPT_BYTES_MAX: usize = 16 << 20;

/// How expressions are read: on bytes, as [`mesh_engine::regex`] does.
pub(super) fn syntax(ignore_case: bool) -> syntax::Config {
    syntax::Config::new()
        .unicode(false)
        .utf8(false)
        .nest_limit(mesh_engine::limits::REGEX_NESTING_MAX)
        .case_insensitive(ignore_case)
}

/// What every text that the expression takes is known to begin and to end with; often nothing. Most expressions of
/// one service differ there, and then nobody needs their automata to see that they are apart.
pub(super) fn ends(pattern: &str, ignore_case: bool) -> Result<(Vec<u8>, Vec<u8>), CapExceeded> {
    let expression = syntax::parse_with(pattern, &syntax(ignore_case))
        .map_err(|_not_an_expression| CapExceeded::Automaton)?;
    let mut extractor = Extractor::new();
    let beginnings = extractor.kind(ExtractKind::Prefix).extract(&expression);
    let endings = extractor.kind(ExtractKind::Suffix).extract(&expression);
    let beginning = beginnings.longest_common_prefix();
    let ending = endings.longest_common_suffix();
    Ok((
        beginning.unwrap_or_default().to_vec(),
        ending.unwrap_or_default().to_vec(),
    ))
}

#[derive(Default)]
struct Kept {
    automata: HashMap<(String, bool), Result<Arc<Automaton>, CapExceeded>>,
    bytes: usize,
}

thread_local! {
    static KEPT: RefCell<Kept> = RefCell::default();
}

/// The automaton of an expression that has to take the whole text. It costs the same effort whether it is at hand or
/// not, so that what a thread did before changes no answer.
pub(super) fn automaton(pattern: &str, ignore_case: bool) -> Result<Arc<Automaton>, CapExceeded> {
    let key = (pattern.to_owned(), ignore_case);
    let known = KEPT.with_borrow(|kept| kept.automata.get(&key).cloned());
    let automaton = known.unwrap_or_else(|| {
        let automaton = Automaton::regex(pattern, ignore_case).map(Arc::new);
        let bytes = automaton.as_deref().map_or(0, Automaton::bytes) + pattern.len();
        KEPT.with_borrow_mut(|kept| {
            if kept.bytes.saturating_add(bytes) > KEPT_BYTES_MAX {
                *kept = Kept::default();
            }
            kept.bytes += bytes;
            kept.automata.insert(key, automaton.clone());
        });
        automaton
    });
    let bytes = match &automaton {
        Ok(automaton) => automaton.bytes(),
        // It was made up to the bound.
        Err(_) => super::automaton::AUTOMATON_BYTES_MAX,
    };
    effort::spend(bytes)?;
    automaton
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pattern: &str, ignore_case: bool, beginning: &str, ending: &str) {
        let expected = (beginning.as_bytes().to_vec(), ending.as_bytes().to_vec());
        assert_eq!(ends(pattern, ignore_case), Ok(expected), "{pattern}");
    }

    #[test]
    fn ends_are_what_every_text_has() {
        check("/.*a.{3}b12", false, "/", "b12");
        check("/v[0-9]+/x", false, "/v", "/x");
        check("/ab|/ac", false, "/a", "");
        check("(?:/a/.*)?", false, "", "");
        check(".*", false, "", "");
        check("/A", true, "/", "");
        check("(?i:/ab)", false, "/", "");
        check("", false, "", "");
        check("[a&&b]", false, "", "");
    }

    #[test]
    fn what_is_at_hand_costs_as_much() {
        let spent = || {
            let mut enough = 1 << 20;
            // The least that it can be had for, by halving.
            let mut least = 0;
            while enough - least > 1 {
                let middle = least + (enough - least) / 2;
                match effort::within(middle, || automaton("/[a-z]+/b", false)) {
                    Ok(_) => enough = middle,
                    Err(_) => least = middle,
                }
            }
            enough
        };
        assert_eq!(spent(), spent());
        assert!(spent() > 100);
    }
}
