//! Sets of texts: conditions on a path, a host, a caller or a value, with emptiness decided by the
//! product of their automata.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, OnceLock};

use mesh_engine::path::{PathTemplate, Segment};

use super::automaton::{Automaton, Chain, Classes, DEAD, State};
use super::{CapExceeded, effort, regex};

/// States of one product that are looked at before the answer is "unknown".
const PRODUCT_STATES_MAX: usize = 20_000;
/// Texts of one set that are tried before its automata are searched.
const EXAMPLES_MAX: usize = 8;
/// Pairs of patterns that are compared before automata are asked instead.
const GLANCES_MAX: usize = 64;

/// One pattern over texts.
#[derive(Clone, Debug)]
pub(super) struct Pattern {
    automaton: Arc<Automaton>,
    /// The text, where the pattern takes exactly one.
    literal: Option<Arc<str>>,
    /// What every text that it takes is known to begin and to end with; often nothing.
    beginning: Arc<[u8]>,
    ending: Arc<[u8]>,
    /// A text that it takes, where one is at hand.
    example: Option<Arc<str>>,
    /// Of a universe: its shortest text, once asked for.
    shortest: OnceLock<Result<Option<String>, CapExceeded>>,
}

impl Pattern {
    pub(super) fn literal(text: &str, ignore_case: bool) -> Self {
        // Without letters, case does not matter, and one text is easier to deal with than many.
        let ignore_case = ignore_case && text.bytes().any(|byte| byte.is_ascii_alphabetic());
        Self {
            literal: (!ignore_case).then(|| text.into()),
            example: Some(text.into()),
            ..Self::chain(Chain::literal(text, ignore_case)).with_ends(text, text, ignore_case)
        }
    }

    pub(super) fn prefix(text: &str, ignore_case: bool) -> Self {
        Self {
            example: Some(text.into()),
            ..Self::chain(Chain::prefix(text, ignore_case)).with_ends(text, "", ignore_case)
        }
    }

    /// A path template, over normalised paths, read as the proxy reads it. One that no path can have
    /// was refused long before.
    pub(super) fn template(text: &str, ignore_case: bool) -> Result<Self, CapExceeded> {
        let template =
            PathTemplate::parse(text).map_err(|_never_matches| CapExceeded::Automaton)?;
        let literal = |segment: &Segment| match segment {
            Segment::Literal(text) => Some(format!("/{text}")),
            Segment::One => None,
        };
        let segments = template.segments();
        let beginning: String = segments.iter().map_while(literal).collect();
        let mut ending: Vec<String> = Vec::new();
        if !template.takes_rest() {
            ending.extend(segments.iter().rev().map_while(literal));
            ending.reverse();
        }
        let ending = ending.concat();
        let is_literal = segments.iter().all(|segment| literal(segment).is_some());
        Ok(if is_literal && !template.takes_rest() {
            Self::literal(&beginning, ignore_case)
        } else {
            let example: String = segments
                .iter()
                .map(|segment| literal(segment).unwrap_or_else(|| "/a".to_owned()))
                .collect();
            let example = if example.is_empty() { "/" } else { &example };
            Self {
                example: Some(example.into()),
                ..Self::chain(Chain::template(&template, ignore_case)).with_ends(
                    &beginning,
                    &ending,
                    ignore_case,
                )
            }
        })
    }

    pub(super) fn regex(pattern: &str, ignore_case: bool) -> Result<Self, CapExceeded> {
        let (beginning, ending) = regex::ends(pattern, ignore_case)?;
        Ok(Self {
            automaton: regex::automaton(pattern, ignore_case)?,
            literal: None,
            beginning: beginning.into(),
            ending: ending.into(),
            example: None,
            shortest: OnceLock::new(),
        })
    }

    fn chain(chain: Chain) -> Self {
        Self {
            automaton: Arc::new(Automaton::Chain(chain)),
            literal: None,
            beginning: Arc::default(),
            ending: Arc::default(),
            example: None,
            shortest: OnceLock::new(),
        }
    }

    fn with_ends(self, beginning: &str, ending: &str, ignore_case: bool) -> Self {
        let known = |text: &str| Arc::from(if ignore_case { "" } else { text }.as_bytes());
        Self {
            beginning: known(beginning),
            ending: known(ending),
            ..self
        }
    }

    /// Whether it is plain to see that no text is taken by both.
    fn is_apart(&self, other: &Self) -> bool {
        let (mine, theirs) = (&*self.beginning, &*other.beginning);
        if !mine.starts_with(theirs) && !theirs.starts_with(mine) {
            return true;
        }
        let (mine, theirs) = (&*self.ending, &*other.ending);
        !mine.ends_with(theirs) && !theirs.ends_with(mine)
    }
}

/// A set of texts. Each is only ever compared with the universe of its own dimension.
#[derive(Clone, Debug)]
pub(super) struct Language(Arc<Set>);

#[derive(Debug)]
struct Set {
    expression: Expression,
    /// The answer of [`Language::shortest`], once asked for.
    shortest: OnceLock<Result<Option<String>, CapExceeded>>,
}

#[derive(Debug)]
enum Expression {
    /// One of the patterns takes the text.
    Any(Vec<Pattern>),
    Not(Language),
    All(Vec<Language>),
}

impl Language {
    /// Every text.
    pub(super) fn everything() -> Self {
        Self::new(Expression::All(Vec::new()))
    }

    fn new(expression: Expression) -> Self {
        Self(Arc::new(Set {
            expression,
            shortest: OnceLock::new(),
        }))
    }

    /// No text.
    pub(super) fn nothing() -> Self {
        Self::any_of(Vec::new())
    }

    /// Whatever one of the patterns takes.
    pub(super) fn any_of(patterns: Vec<Pattern>) -> Self {
        Self::new(Expression::Any(patterns))
    }

    pub(super) fn is_everything(&self) -> bool {
        matches!(&self.0.expression, Expression::All(parts) if parts.is_empty())
    }

    pub(super) fn and(&self, other: &Self) -> Self {
        if self.is_everything() || Arc::ptr_eq(&self.0, &other.0) {
            return other.clone();
        }
        if other.is_everything() {
            return self.clone();
        }
        let mut parts = Vec::new();
        for language in [self, other] {
            let new = match &language.0.expression {
                Expression::All(inner) => inner.as_slice(),
                _ => std::slice::from_ref(language),
            };
            for part in new {
                if !parts
                    .iter()
                    .any(|known: &Self| Arc::ptr_eq(&known.0, &part.0))
                {
                    parts.push(part.clone());
                }
            }
        }
        match <[Self; 1]>::try_from(parts) {
            Ok([only]) => only,
            Err(parts) => Self::new(Expression::All(parts)),
        }
    }

    /// Whether it is plain to see that no text is in both, without any automaton: most of the many
    /// paths of one service differ early.
    pub(super) fn is_apart(&self, other: &Self) -> bool {
        let (Some(mine), Some(theirs)) = (self.patterns(), other.patterns()) else {
            return false;
        };
        mine.len().saturating_mul(theirs.len()) <= GLANCES_MAX
            && mine
                .iter()
                .all(|mine| theirs.iter().all(|theirs| mine.is_apart(theirs)))
    }

    /// Whether two of its parts are apart at a glance.
    fn is_plainly_nothing(&self) -> bool {
        let Expression::All(parts) = &self.0.expression else {
            return false;
        };
        let mut pairs = (parts.iter().enumerate())
            .flat_map(|(index, one)| parts.iter().skip(index + 1).map(move |two| (one, two)));
        pairs
            .by_ref()
            .take(GLANCES_MAX)
            .any(|(one, two)| one.is_apart(two))
    }

    /// Patterns of which one takes each text of the set, where they are at hand.
    fn patterns(&self) -> Option<&[Pattern]> {
        match &self.0.expression {
            Expression::Any(patterns) => Some(patterns),
            Expression::Not(_) => None,
            Expression::All(parts) => parts.iter().find_map(Self::patterns),
        }
    }

    /// The other texts.
    pub(super) fn complement(&self) -> Self {
        match &self.0.expression {
            Expression::Not(inner) => inner.clone(),
            _ => Self::new(Expression::Not(self.clone())),
        }
    }

    pub(super) fn contains(&self, text: &str) -> bool {
        match &self.0.expression {
            Expression::Any(patterns) => patterns.iter().any(|each| each.automaton.matches(text)),
            Expression::Not(inner) => !inner.contains(text),
            Expression::All(parts) => parts.iter().all(|part| part.contains(text)),
        }
    }

    /// Whether the set has no text that the universe has too.
    pub(super) fn is_empty(&self, universe: &Pattern) -> Result<bool, CapExceeded> {
        if self.example(universe).is_some() {
            return Ok(false);
        }
        Ok(self.is_plainly_nothing() || self.shortest(universe)?.is_none())
    }

    /// A text of the set that the universe has too, where one is found without a search. Most sets are one or two
    /// patterns, and what one of them takes at first sight is in the set.
    pub(super) fn example(&self, universe: &Pattern) -> Option<&str> {
        if let Some(Ok(known)) = self.0.shortest.get() {
            return known.as_deref();
        }
        let parts = match &self.0.expression {
            Expression::All(parts) => parts,
            _ => std::slice::from_ref(self),
        };
        let patterns = parts.iter().flat_map(|part| match &part.0.expression {
            Expression::Any(patterns) => patterns.as_slice(),
            _ => &[],
        });
        patterns
            .filter_map(|each| each.example.as_deref())
            .take(EXAMPLES_MAX)
            .find(|text| universe.automaton.matches(text) && self.contains(text))
    }

    /// A shortest text of the set that the universe has too, made of letters where there is a choice.
    pub(super) fn shortest(&self, universe: &Pattern) -> Result<Option<String>, CapExceeded> {
        let known = if self.is_everything() {
            &universe.shortest
        } else {
            &self.0.shortest
        };
        if let Some(known) = known.get() {
            return known.clone();
        }
        let found = self.find_shortest(universe);
        // Whoever asks next may look at more.
        if found == Err(CapExceeded::Effort) {
            return found;
        }
        known.get_or_init(|| found).clone()
    }

    fn find_shortest(&self, universe: &Pattern) -> Result<Option<String>, CapExceeded> {
        if let Some(patterns) = self.finite() {
            return Ok(patterns
                .iter()
                .filter_map(|pattern| pattern.literal.as_deref())
                .filter(|text| universe.automaton.matches(text) && self.contains(text))
                .min_by_key(|text| (text.len(), *text))
                .map(ToOwned::to_owned));
        }
        Product::new(self, universe).shortest()
    }

    /// The texts to look at, where the set has only a few candidates.
    fn finite(&self) -> Option<&[Pattern]> {
        match &self.0.expression {
            Expression::Any(patterns) => {
                let literal = patterns.iter().all(|pattern| pattern.literal.is_some());
                literal.then_some(patterns)
            }
            Expression::Not(_) => None,
            Expression::All(parts) => parts.iter().find_map(Self::finite),
        }
    }
}

/// The product of the automata of a set and its universe.
struct Product<'a> {
    /// The universe first.
    automata: Vec<&'a Arc<Automaton>>,
    formula: Formula,
}

/// A set, with automata as numbers.
enum Formula {
    Any(Vec<usize>),
    Not(Box<Self>),
    All(Vec<Self>),
}

/// What is known about every continuation of a text.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Accepted,
    Refused,
    Open,
}

impl<'a> Product<'a> {
    fn new(language: &'a Language, universe: &'a Pattern) -> Self {
        let mut product = Self {
            automata: vec![&universe.automaton],
            formula: Formula::Any(vec![0]),
        };
        let formula = product.add(language);
        product.formula = Formula::All(vec![Formula::Any(vec![0]), formula]);
        product
    }

    fn add(&mut self, language: &'a Language) -> Formula {
        match &language.0.expression {
            Expression::Any(patterns) => Formula::Any(
                patterns
                    .iter()
                    .map(|pattern| self.number(pattern))
                    .collect(),
            ),
            Expression::Not(inner) => Formula::Not(Box::new(self.add(inner))),
            Expression::All(parts) => {
                Formula::All(parts.iter().map(|part| self.add(part)).collect())
            }
        }
    }

    fn number(&mut self, pattern: &'a Pattern) -> usize {
        let known = self
            .automata
            .iter()
            .position(|each| Arc::ptr_eq(each, &pattern.automaton));
        known.unwrap_or_else(|| {
            self.automata.push(&pattern.automaton);
            self.automata.len() - 1
        })
    }

    fn shortest(&self) -> Result<Option<String>, CapExceeded> {
        let alphabet = self.alphabet();
        let start: Vec<State> = self.automata.iter().map(|each| each.start()).collect();
        if self.fate(&self.formula, &start) == Fate::Refused {
            return Ok(None);
        }
        // Each state with the one it was reached from and by which byte.
        let mut reached: Vec<(usize, u8)> = vec![(0, 0)];
        let mut known: HashSet<Vec<State>> = HashSet::from([start.clone()]);
        let mut waiting = VecDeque::from([(start, 0)]);
        let mut next: Vec<State> = Vec::with_capacity(self.automata.len());
        while let Some((states, number)) = waiting.pop_front() {
            effort::spend(alphabet.len() * states.len())?;
            if self.accepts(&self.formula, &states) {
                return spell(&reached, number).map(Some);
            }
            for &byte in &alphabet {
                let steps = self.automata.iter().zip(&states);
                next.clear();
                next.extend(steps.map(|(automaton, state)| automaton.step(*state, byte)));
                if self.fate(&self.formula, &next) == Fate::Refused || known.contains(&next) {
                    continue;
                }
                if reached.len() >= PRODUCT_STATES_MAX {
                    return Err(CapExceeded::States);
                }
                known.insert(next.clone());
                waiting.push_back((next.clone(), reached.len()));
                reached.push((number, byte));
            }
        }
        Ok(None)
    }

    fn accepts(&self, formula: &Formula, states: &[State]) -> bool {
        match formula {
            Formula::Any(numbers) => numbers
                .iter()
                .filter_map(|number| self.at(*number, states))
                .any(|(automaton, state)| automaton.accepts(state)),
            Formula::Not(inner) => !self.accepts(inner, states),
            Formula::All(parts) => parts.iter().all(|part| self.accepts(part, states)),
        }
    }

    fn fate(&self, formula: &Formula, states: &[State]) -> Fate {
        match formula {
            Formula::Any(numbers) => {
                let mut fate = Fate::Refused;
                for (automaton, state) in
                    numbers.iter().filter_map(|number| self.at(*number, states))
                {
                    if state == DEAD {
                        continue;
                    }
                    if automaton.is_full(state) {
                        return Fate::Accepted;
                    }
                    fate = Fate::Open;
                }
                fate
            }
            Formula::Not(inner) => match self.fate(inner, states) {
                Fate::Accepted => Fate::Refused,
                Fate::Refused => Fate::Accepted,
                Fate::Open => Fate::Open,
            },
            Formula::All(parts) => {
                let mut fate = Fate::Accepted;
                for part in parts {
                    match self.fate(part, states) {
                        Fate::Refused => return Fate::Refused,
                        Fate::Open => fate = Fate::Open,
                        Fate::Accepted => {}
                    }
                }
                fate
            }
        }
    }

    fn at(&self, number: usize, states: &[State]) -> Option<(&Automaton, State)> {
        Some((self.automata.get(number)?, *states.get(number)?))
    }

    /// One byte for each class that no automaton tells apart, the most readable one.
    fn alphabet(&self) -> Vec<u8> {
        let mut classes = Classes::new();
        for automaton in &self.automata {
            automaton.refine(&mut classes);
        }
        classes.representatives()
    }
}

fn spell(reached: &[(usize, u8)], mut number: usize) -> Result<String, CapExceeded> {
    let mut bytes = Vec::new();
    while let Some((from, byte)) = reached.get(number).filter(|_| number != 0) {
        bytes.push(*byte);
        number = *from;
    }
    bytes.reverse();
    String::from_utf8(bytes).map_err(|_not_text| CapExceeded::NotText)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(text: &str) -> Pattern {
        Pattern::template(text, false).unwrap()
    }

    fn anything() -> Pattern {
        Pattern::prefix("", false)
    }

    #[track_caller]
    fn check(language: &Language, expected: Option<&str>) {
        let found = language.shortest(&anything());
        assert_eq!(found.as_ref().map(Option::as_deref), Ok(expected));
        if let Some(text) = expected {
            assert!(language.contains(text));
        }
    }

    fn without(language: &Language, patterns: Vec<Pattern>) -> Language {
        language.and(&Language::any_of(patterns).complement())
    }

    #[test]
    fn a_template_less_what_covers_it_is_empty() {
        let below = || Language::any_of(vec![template("/a/**")]);
        let exactly = || vec![template("/a"), template("/a/*")];
        check(&below(), Some("/a"));
        check(&without(&below(), exactly()), Some("/a/"));
        let mut covering = exactly();
        covering.push(Pattern::regex("/a/(?s:.*)", false).unwrap());
        check(&without(&below(), covering), None);
    }

    #[test]
    fn a_regex_and_a_template_are_compared_by_what_they_take() {
        let digits = Language::any_of(vec![Pattern::regex("/v[0-9]+", false).unwrap()]);
        let segment = Language::any_of(vec![template("/*")]);
        check(&digits.and(&segment), Some("/v0"));
        check(
            &without(&digits.and(&segment), vec![template("/v0")]),
            Some("/v1"),
        );
        check(&without(&digits, vec![template("/{version}")]), None);
        check(&Language::nothing(), None);
        check(&Language::everything(), Some(""));
    }

    #[test]
    fn templates_are_compared_as_normalised_paths_have_them() {
        let language = Language::any_of(vec![template("/é/%7e")]);
        check(&language, Some("/%C3%A9/~"));
        let asterisk = Language::any_of(vec![template("/things%3Adelete/%2A")]);
        check(&asterisk, Some("/things:delete/*"));
        assert_eq!(
            Pattern::template("/a;b", false).err(),
            Some(CapExceeded::Automaton)
        );
    }

    #[test]
    fn literals_are_looked_at_one_by_one() {
        let few = Language::any_of(vec![
            Pattern::literal("b", false),
            Pattern::literal("a", false),
        ]);
        check(&few, Some("a"));
        check(&without(&few, vec![Pattern::literal("A", true)]), Some("b"));
        check(&without(&few, vec![Pattern::prefix("", false)]), None);
    }

    #[test]
    fn too_many_states_are_unknown() {
        // Each pair of these multiplies the states of the product by a different prime.
        let repeated = |count: usize| {
            let pattern = format!("(?:[ab]{{{count}}})+");
            Language::any_of(vec![Pattern::regex(&pattern, false).unwrap()])
        };
        let all = [23, 29, 31, 37].map(repeated);
        let all = all
            .iter()
            .fold(Language::everything(), |sum, each| sum.and(each));
        assert_eq!(all.shortest(&anything()), Err(CapExceeded::States));
    }

    #[test]
    fn only_what_begins_otherwise_is_apart_at_a_glance() {
        let set = |text: &str| Language::any_of(vec![Pattern::template(text, false).unwrap()]);
        assert!(set("/a/**").is_apart(&set("/b/*")));
        assert!(
            set("/a/**")
                .and(&Language::everything())
                .is_apart(&set("/b"))
        );
        for (one, two) in [
            ("/a/**", "/a"),
            ("/a/**", "/ab/c"),
            ("/*/c", "/b/c"),
            ("/**", "/"),
        ] {
            assert!(!set(one).is_apart(&set(two)), "{one} {two}");
        }
        let any_case = Language::any_of(vec![Pattern::template("/A/**", true).unwrap()]);
        assert!(!any_case.is_apart(&set("/a/**")));
        assert!(!set("/a/**").complement().is_apart(&set("/b")));
    }
}
